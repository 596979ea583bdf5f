"""Facts of real apps for the rules of the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery import Celery

from celery_vitals import Settings
from celery_vitals.audit.engine import run
from celery_vitals.audit.evidence import Source
from celery_vitals.audit.facts import Facts, WorkerFacts
from celery_vitals.audit.findings import AuditFinding
from celery_vitals.audit.gather import known_before
from celery_vitals.brokers.server_facts import DeclaredQueue, ServerFacts
from celery_vitals.brokers.target import target_of

REDIS = "redis://127.0.0.1:1/0"
RABBITMQ = "amqp://u:s3cret@127.0.0.1:1//"
Options = Mapping[str, Any]


def app_of(
    conf: Options | None = None,
    tasks: Mapping[str, Options] | None = None,
    *,
    broker: str = REDIS,
    backend: str | None = None,
    source: Options | None = None,
    namespace: str | None = None,
) -> Celery:
    """Return an app with these settings and tasks; `source` is a whole configuration."""
    app = Celery("shop", set_as_current=False, fixups=[])
    if source is not None:
        app.config_from_object(dict(source), namespace=namespace)
    else:
        app.conf.broker_url = broker
        if backend:
            app.conf.result_backend = backend
    app.conf.update(conf or {})
    for name, options in (tasks or {}).items():
        app.task(name=name, shared=False, **options)(_nothing)
    return app


def _nothing() -> None:
    """Do nothing."""


def facts_of(
    conf: Options | None = None,
    tasks: Mapping[str, Options] | None = None,
    *,
    workers: tuple[WorkerFacts, ...] = (),
    server: ServerFacts | None = None,
    **more: Any,
) -> Facts:
    """Return what is known of an app, and of the given workers and server."""
    app = app_of(conf, tasks, **more)
    facts = known_before(target_of(Settings(), app), app, "shop.app")
    return replace(
        facts,
        # Shared tasks of other tests are registered in every app of the process.
        tasks={name: one for name, one in facts.tasks.items() if name in (tasks or {})},
        workers=workers,
        server=server or ServerFacts(),
        inapplicable=facts.inapplicable - {Source.RUNNING},
    )


def found(facts: Facts) -> dict[str, list[AuditFinding]]:
    """Return the findings by code."""
    result: dict[str, list[AuditFinding]] = {}
    for one in run(facts).findings:
        result.setdefault(one.code, []).append(one)
    return result


def queue(name: str, kind: str = "classic", durable: bool = True, **more: Any) -> DeclaredQueue:
    """Return a queue of RabbitMQ."""
    return DeclaredQueue(
        name=name,
        kind=kind,
        durable=durable,
        arguments=more.pop("arguments", {}),
        policy=more.pop("policy", {}),
        **more,
    )


def on_rabbitmq(*queues: DeclaredQueue, version: str = "3.10.8") -> ServerFacts:
    """Return a server with these queues."""
    return ServerFacts(version=version, queues={one.name: one for one in queues})
