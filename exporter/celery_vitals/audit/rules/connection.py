"""Connections to the broker: retries, heartbeats and pools."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.audit.evidence import Severity, Source
from celery_vitals.audit.facts import Facts
from celery_vitals.audit.findings import Problem, rule


@rule(
    "retry_on_startup_unset",
    Severity.INFO,
    Source.SETTINGS,
    risk="Celery 6 does not retry the first connection by broker_connection_retry any more: a"
    " worker that starts before the broker ends.",
    link="broker_connection_retry_on_startup",
)
def retry_on_startup_unset(facts: Facts) -> Iterator[Problem]:
    """broker_connection_retry_on_startup is not set."""
    for conf in facts.configurations:
        name = "broker_connection_retry_on_startup"
        if name in conf.values and conf.get(name) is None:
            yield Problem(name, f"{name} is not set", conf.line(name, True), conf.evidence(name))


@rule(
    "connection_retry_off",
    Severity.WARNING,
    Source.SETTINGS,
    risk="Workers end when the broker restarts or the network fails for a moment.",
    link="broker_connection_retry",
)
def connection_retry_off(facts: Facts) -> Iterator[Problem]:
    """Lost connections to the broker are not retried."""
    names = ("broker_connection_retry", "broker_connection_retry_on_startup")
    for conf in facts.configurations:
        for name in names:
            if conf.get(name) is False:
                yield Problem(name, f"{name} is off", conf.line(name, True), conf.evidence(name))


@rule(
    "heartbeat_off",
    Severity.WARNING,
    Source.SETTINGS,
    Source.BROKER,
    risk="A connection that a firewall or a crash has cut is not noticed: the worker waits on it,"
    " and RabbitMQ keeps its messages.",
    link="broker_heartbeat",
)
def heartbeat_off(facts: Facts) -> Iterator[Problem]:
    """The heartbeat of AMQP connections is off."""
    if facts.broker is None or facts.broker.kind != "amqp":
        return
    for conf in facts.configurations:
        if not conf.get("broker_heartbeat"):
            yield Problem(
                "broker_heartbeat",
                "AMQP heartbeats are off",
                conf.line("broker_heartbeat", 120),
                conf.evidence("broker_heartbeat"),
            )


@rule(
    "connection_pool_off",
    Severity.WARNING,
    Source.SETTINGS,
    risk="Every task that is sent opens and closes a connection of its own, which is slow and"
    " exhausts ports under load.",
    link="broker_pool_limit",
)
def connection_pool_off(facts: Facts) -> Iterator[Problem]:
    """Producers have no pool of connections."""
    for conf in facts.configurations:
        if not conf.get("broker_pool_limit"):
            yield Problem(
                "broker_pool_limit",
                "the pool of connections is off",
                conf.line("broker_pool_limit", 10),
                conf.evidence("broker_pool_limit"),
            )
