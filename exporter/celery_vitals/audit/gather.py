"""Collects the facts: from the app, over one connection to the broker, and from workers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

import celery
from celery import Celery

from celery_vitals.audit import worker_facts
from celery_vitals.audit.app_facts import app_part, routes_of, schedule_of
from celery_vitals.audit.configurations import configuration_of, configurations_of
from celery_vitals.audit.evidence import Source
from celery_vitals.audit.facts import BrokerFacts, Configuration, Facts
from celery_vitals.brokers.base import QueueReaderOptions
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.server_facts import ServerFacts
from celery_vitals.brokers.session import Session
from celery_vitals.brokers.target import DEFAULT_VISIBILITY_TIMEOUT, Target
from celery_vitals.brokers.transport_options import unknown_names
from celery_vitals.brokers.urls import scheme_of
from celery_vitals.deadline import Deadline
from celery_vitals.reasons import reason_of
from celery_vitals.remote_control import Answer, RemoteControl
from celery_vitals.result_backends.checks import certificate_blind_spots
from celery_vitals.secrets import without_credentials

_REPLIES = 1.0
"""Seconds to wait for the replies of workers."""
_WORKERS = frozenset({Source.WORKERS, Source.VERSIONS})
_PARTS = {
    "version": Source.RABBITMQ,
    "info": Source.REDIS,
    "config": Source.REDIS_CONFIG,
    "held": Source.REDIS_ETA,
    "queues": Source.MANAGEMENT,
}
_BACKEND_DETAIL = {"database": "", "django-db": "django"}


@dataclass
class _Cluster:
    """What the broker and the workers have answered so far."""

    server: ServerFacts = field(default_factory=ServerFacts)
    server_problem: str = "the broker has not answered in time"
    answers: list[Answer] = field(default_factory=list)
    workers_problem: str = "the workers have not answered in time"

    def fail(self, problem: str) -> None:
        """Record why what is not known yet remains unknown."""
        self.server_problem = problem if self.server_problem else ""
        self.workers_problem = problem if self.workers_problem else ""


def gather(target: Target, app: Celery | None, name: str, timeout: float) -> Facts:
    """Return everything that can be known within `timeout` seconds."""
    facts = known_before(target, app, name)
    return _with_cluster(facts, target, _probe(target, app is None, timeout))


def known_before(target: Target, app: Celery | None, name: str) -> Facts:
    """Return what is known without the network."""
    facts = Facts(
        app=name or "proj",
        broker=_broker(target),
        inapplicable=_inapplicable(target),
        **_backend(target),
    )
    if app is None:
        return facts
    configuration = configuration_of(app, name or app.main or "app")
    facts = replace(facts, configurations=(configuration,), own_celery=celery.__version__)
    return replace(facts, **app_part(app, facts))


def _inapplicable(target: Target) -> frozenset[Source]:
    parts = target.kind.server_parts
    missing = {source for part, source in _PARTS.items() if part not in parts}
    return frozenset({Source.RUNNING, *missing})  # an exporter observes what runs


def _broker(target: Target) -> BrokerFacts:
    url = target.broker_urls[0]
    parts = urlsplit("//" + url.partition("://")[2])
    spots = [one for one in target.blind_spots if one.subject == "broker_certificate"]
    options = target.broker_options
    return BrokerFacts(
        kind=target.transport,
        address=";".join(map(without_credentials, target.broker_urls)),
        host=_host(url, parts),
        has_password=bool(parts.password) or "password" in options,
        default_user=target.transport == "amqp"
        and unquote(parts.username or "guest") == "guest"
        and unquote(parts.password or "guest") == "guest",
        tls=bool(target.broker_ssl) or scheme_of(url) in ("rediss", "amqps"),
        unverified=spots[0].reason.rstrip(".").partition("certificate ")[2] if spots else "",
        verify_option=spots[0].setting.rpartition(" ")[2] if spots else "",
        options=options,
        unknown_options=tuple(unknown_names(options, target.kind.option_names())),
        visibility_timeout=target.visibility_timeout,
    )


def _host(url: str, parts: Any) -> str:
    if "+socket" in scheme_of(url) or url.partition("://")[0].endswith("+socket"):
        return ""
    try:
        return str(parts.hostname or "")
    except ValueError:
        return ""


def _backend(target: Target) -> dict[str, Any]:
    url = target.backend_url
    scheme = target.backend
    detail = url.partition("://")[0].partition("+")[2]
    if scheme == "cache" and not detail:
        detail = url.partition("://")[0]
    return {
        "backend": scheme,
        "backend_address": without_credentials(url) if url else "",
        "backend_detail": detail or _BACKEND_DETAIL.get(scheme, ""),
        "backend_unverified": any(certificate_blind_spots(target)),
    }


def _probe(target: Target, with_conf: bool, timeout: float) -> _Cluster:
    """Ask broker and workers in a thread that is abandoned when it hangs."""
    found, deadline = _Cluster(), Deadline.after(timeout)

    def ask() -> None:
        try:
            _ask(target, with_conf, found, deadline)
        except Exception as error:  # noqa: BLE001 - each library has its own
            found.fail(f"broker: {reason_of(error).description}")

    thread = threading.Thread(target=ask, name="celery-vitals-audit", daemon=True)
    thread.start()
    thread.join(timeout)
    return replace(found)


def _ask(target: Target, with_conf: bool, found: _Cluster, deadline: Deadline) -> None:
    io_timeout = max(0.1, deadline.remaining / 2)
    broker = BrokerClient(target, io_timeout)
    options = QueueReaderOptions(
        control_exchange=target.control_exchange,
        streams=target.streams,
        tls=target.broker_ssl,
        management_url=target.management_url,
        io_timeout=io_timeout,
    )
    connection = broker.connect(deadline)
    try:
        connection.round_trip()
        found.server = target.kind.server_facts(connection, options, deadline)
        found.server_problem = ""
    finally:
        connection.abandon()
        broker.closed(connection)
    if not target.broadcast:
        found.workers_problem = f"workers: {target.capabilities.workers.detail}"
        return
    _ask_workers(broker, target, with_conf, found, deadline)


def _ask_workers(
    broker: BrokerClient, target: Target, with_conf: bool, found: _Cluster, deadline: Deadline
) -> None:
    commands = [*worker_facts.COMMANDS, *([worker_facts.CONF] if with_conf else [])]
    session: Session[RemoteControl] = Session(
        broker,
        lambda connection: RemoteControl(
            target.kind.mailbox(connection, target.control_exchange, target.control_serializer)
        ),
    )
    try:
        expected = _expected(found.server, target.control_exchange)
        until = deadline.within(_REPLIES)
        found.answers = session.use(
            deadline, lambda control: control.ask(commands, expected, until)
        )
        found.workers_problem = ""
    finally:
        session.close()


def _expected(server: ServerFacts, control_exchange: str) -> frozenset[str]:
    """Return the workers that RabbitMQ has a connected mailbox of."""
    suffix = f".{control_exchange}.pidbox"
    queues = (server.queues or {}).values()
    return frozenset(
        one.name.removesuffix(suffix)
        for one in queues
        if one.name.endswith(suffix) and "@" in one.name and one.consumers
    )


def _with_cluster(facts: Facts, target: Target, found: _Cluster) -> Facts:
    def visibility_timeout(options: Mapping[str, Any]) -> float | None:
        return target.kind.visibility_timeout(options, DEFAULT_VISIBILITY_TIMEOUT)

    workers = worker_facts.workers_of(found.answers, visibility_timeout)
    configurations = facts.configurations or configurations_of(
        worker_facts.replies_of(found.answers, "conf")
    )
    facts = replace(facts, server=found.server, workers=workers, configurations=configurations)
    if not facts.tasks:
        facts = replace(facts, tasks=worker_facts.registered_task_facts(found.answers))
    if not facts.own_celery and configurations:
        facts = _of_workers(facts, configurations[0])
    if facts.broker is not None and facts.broker.visibility_timeout is None:
        shortest = min(
            (one.visibility_timeout for one in workers if one.visibility_timeout), default=None
        )
        facts = replace(facts, broker=replace(facts.broker, visibility_timeout=shortest))
    return replace(facts, gaps=dict(_gaps(facts, found)))


def _of_workers(facts: Facts, conf: Configuration) -> Facts:
    """Take from the settings of workers what an app would determine."""
    routes = routes_of(conf.get("task_routes"))
    schedule = schedule_of(conf.get("beat_schedule"), routes, str(conf.get("task_default_queue")))
    backend = conf.get("result_backend")
    scheme = scheme_of(backend) if isinstance(backend, str) else ""
    return replace(
        facts,
        routes=routes,
        schedule=schedule,
        backend=facts.backend or (scheme if scheme != "disabled" else ""),
        backend_address=facts.backend_address
        or (without_credentials(backend) if isinstance(backend, str) and backend else ""),
    )


def _gaps(facts: Facts, found: _Cluster) -> Iterator[tuple[Source, str]]:
    yield from facts.gaps.items()
    if found.server_problem:
        yield from _each(_PARTS.values(), found.server_problem)
    for part, problem in found.server.problems.items():
        yield _PARTS[part], problem
    workers = found.workers_problem or ("" if facts.workers else "no worker has replied")
    if workers:
        yield from _each(_WORKERS, workers)
    elif not any(one.celery for one in facts.workers):
        yield Source.VERSIONS, "no worker has reported its version"
    without_app = "without --app only workers show it"
    if not facts.configurations:
        yield Source.SETTINGS, f"settings: {without_app}, and {workers or 'none has replied'}"
    if not facts.tasks:
        reason = "the app has no task" if facts.own_celery else f"tasks: {without_app}"
        reason = f"{reason}, and {workers}" if workers else reason
        yield Source.TASKS, reason
        if Source.ALL_TASKS not in facts.gaps:
            yield Source.ALL_TASKS, reason


def _each(sources: Iterable[Source], reason: str) -> Iterator[tuple[Source, str]]:
    for source in sorted(sources):
        yield source, reason
