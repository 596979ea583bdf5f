"""Transports, and their options."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, names, number
from celery_vitals.audit.findings import Problem, rule

_BROKERS_PAGE = "https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/index.html"
_REDIS_PAGE = (
    "https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.redis.html"
)
_DATABASES = ("sqla", "sqlalchemy", "django", "mongodb")
_FILES = ("filesystem",)


@rule(
    "broker_in_memory",
    Severity.ERROR,
    Source.BROKER,
    risk="Messages exist inside one process: no worker gets them, and all are lost at its end.",
    link=_BROKERS_PAGE,
)
def broker_in_memory(facts: Facts) -> Iterator[Problem]:
    """The broker is the memory of one process."""
    yield from _unfit(facts, ("memory",), "messages are kept in the memory of one process")


@rule(
    "broker_in_files",
    Severity.WARNING,
    Source.BROKER,
    risk="Every worker reads the folder again and again; messages of a killed worker are lost, and"
    " other machines do not see them.",
    link=_BROKERS_PAGE,
)
def broker_in_files(facts: Facts) -> Iterator[Problem]:
    """The broker is a folder."""
    yield from _unfit(facts, _FILES, "messages are files of a folder")


@rule(
    "broker_in_database",
    Severity.WARNING,
    Source.BROKER,
    risk="Celery calls this transport experimental: workers poll the database and there is no"
    " remote control; SQLite admits one writer at a time.",
    link=_BROKERS_PAGE,
)
def broker_in_database(facts: Facts) -> Iterator[Problem]:
    """The broker is a database."""
    yield from _unfit(facts, _DATABASES, "messages are rows of a database")


def _unfit(facts: Facts, kinds: tuple[str, ...], message: str) -> Iterator[Problem]:
    if facts.broker is not None and facts.broker.kind in kinds:
        yield Problem(
            "broker_url",
            message,
            facts.line("broker_url", "redis://HOST:6379/0"),
            (Evidence("broker_url", facts.broker.address, _source(facts)),),
        )


@rule(
    "transport_option_unknown",
    Severity.WARNING,
    Source.BROKER,
    Source.SETTINGS,
    risk="kombu ignores an option that the transport does not have, so that it has no effect.",
    link="broker_transport_options",
)
def transport_option_unknown(facts: Facts) -> Iterator[Problem]:
    """A transport option has no effect on this broker."""
    unknown = facts.broker.unknown_options if facts.broker else ()
    if unknown and facts.broker is not None:
        yield Problem(
            "broker_transport_options",
            f"{names(unknown)}: not read by the transport {facts.broker.kind}",
            f"del app.conf.broker_transport_options[{sorted(unknown)[0]!r}]",
            tuple(Evidence("option", one, _source(facts)) for one in sorted(unknown)),
        )


@rule(
    "redis_without_connect_timeout",
    Severity.INFO,
    Source.BROKER,
    Source.SETTINGS,
    risk="When Redis or the network does not answer, a web process that sends a task blocks without"
    " a limit.",
    link=_REDIS_PAGE,
)
def redis_without_connect_timeout(facts: Facts) -> Iterator[Problem]:
    """Connections to Redis have no time limit."""
    if facts.broker is None or facts.broker.kind not in ("redis", "sentinel"):
        return
    for conf in facts.configurations:
        options = conf.mapping("broker_transport_options")
        missing = [n for n in ("socket_connect_timeout", "socket_timeout") if not options.get(n)]
        if missing:
            yield Problem(
                "broker_transport_options",
                f"{' and '.join(missing)} not set",
                conf.options_line(
                    "broker_transport_options",
                    {"socket_connect_timeout": 5, "socket_timeout": 30, "socket_keepalive": True},
                ),
                tuple(Evidence(name, "None", conf.source) for name in missing),
            )


@rule(
    "redis_health_check_off",
    Severity.WARNING,
    Source.BROKER,
    Source.SETTINGS,
    risk="A connection that a firewall has dropped is not detected: the worker waits on it for ever"
    " and consumes nothing.",
    link=_REDIS_PAGE,
)
def redis_health_check_off(facts: Facts) -> Iterator[Problem]:
    """The health check of connections to Redis is off."""
    for conf in facts.configurations:
        options = conf.mapping("broker_transport_options")
        if "health_check_interval" in options and not options["health_check_interval"]:
            yield Problem(
                "broker_transport_options",
                "health_check_interval is 0",
                conf.options_line("broker_transport_options", {"health_check_interval": 25}),
                (Evidence("health_check_interval", "0", conf.source),),
            )


@rule(
    "redis_socket_timeout_short",
    Severity.ERROR,
    Source.BROKER,
    Source.SETTINGS,
    risk="A worker waits for messages for longer than the time limit of its socket, and reconnects"
    " all the time.",
    link=_REDIS_PAGE,
)
def redis_socket_timeout_short(facts: Facts) -> Iterator[Problem]:
    """The time limit of a socket is below the interval in which workers wait for messages."""
    if facts.broker is None or facts.broker.kind not in ("redis", "sentinel"):
        return
    for conf in facts.configurations:
        options = conf.mapping("broker_transport_options")
        timeout = number(options.get("socket_timeout"))
        interval = number(options.get("polling_interval", 1))
        if timeout and interval and timeout <= interval:
            yield Problem(
                "broker_transport_options",
                f"socket_timeout {timeout:g} s, workers wait {interval:g} s for a message",
                conf.options_line("broker_transport_options", {"socket_timeout": 30}),
                (Evidence("socket_timeout", f"{timeout:g}", conf.source),),
            )


@rule(
    "ack_emulation_off",
    Severity.ERROR,
    Source.SETTINGS,
    Source.BROKER,
    risk="Redis keeps no message that a worker has taken: all reserved and running tasks of a"
    " worker that is killed are lost.",
    link=_REDIS_PAGE,
)
def ack_emulation_off(facts: Facts) -> Iterator[Problem]:
    """Messages on Redis are not kept until they are acknowledged."""
    for conf in facts.configurations:
        if conf.mapping("broker_transport_options").get("ack_emulation", True) is False:
            yield Problem(
                "broker_transport_options",
                "ack_emulation is off",
                conf.options_line("broker_transport_options", {"ack_emulation": True}),
                (Evidence("ack_emulation", "False", conf.source),),
            )


def _source(facts: Facts) -> str:
    return facts.conf.source if facts.conf else "--broker-url"
