"""The monitored cluster: its addresses and options, from the settings and the app."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from kombu import Connection, Queue
from kombu.transport import TRANSPORT_ALIASES

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers import transport_options
from celery_vitals.brokers.base import BrokerKind
from celery_vitals.brokers.capabilities import Capabilities
from celery_vitals.brokers.kinds import capabilities_of, kind_of
from celery_vitals.brokers.serialization import encode
from celery_vitals.brokers.urls import scheme_of
from celery_vitals.errors import ConfigError
from celery_vitals.queue_names import ends_in_uuid, is_internal
from celery_vitals.settings import Settings, app_configuration
from celery_vitals.settings.celery_app import reading, task_parameters
from celery_vitals.third_party import kombu_internals

DEFAULT_BROKER = "amqp://guest:guest@localhost:5672//"
"""Celery's default when an app names no broker."""
DEFAULT_VISIBILITY_TIMEOUT = 3600.0
"""kombu's default, in seconds, for a broker that redelivers messages."""


@dataclass(frozen=True)
class Target:
    """One Celery cluster."""

    broker_urls: tuple[str, ...] = field(repr=False)
    """The addresses with their credentials, to be tried in turn."""
    transport: str
    """kombu's name of the transport: redis, sentinel, amqp, filesystem, ..."""
    kind: BrokerKind[Any]
    capabilities: Capabilities
    broker_ssl: Any = field(repr=False)
    broker_options: Mapping[str, Any] = field(repr=False)
    login_method: str | None
    management_url: str | None = field(repr=False)
    """RabbitMQ's management API, where it is configured."""
    backend_url: str = field(repr=False)
    """The result backend's address with its credentials; empty where there is none."""
    backend_settings: Mapping[str, Any] = field(repr=False)
    control_exchange: str
    control_serializer: str
    """The serializer of commands: one that the workers of the app accept."""
    reply_serializer: str
    """The serializer of the workers' replies; empty where it is unknown."""
    event_exchange: str
    queues: frozenset[str]
    """The queues that the settings and the app name."""
    streams: frozenset[str]
    """The queues that the app declares as streams."""
    task_parameters: Mapping[str, Sequence[str]]
    """The names of the parameters of the app's tasks, where a label needs them."""
    visibility_timeout: float | None
    """Seconds, where the broker redelivers messages and the application's value is known."""
    blind_spots: tuple[BlindSpot, ...] = ()
    """The missing check of the broker's certificate."""

    @property
    def broadcast(self) -> bool:
        """Whether messages can be sent to all workers at once: remote control and events."""
        return bool(self.capabilities.workers)

    @property
    def backend(self) -> str:
        """The scheme of the result backend: redis, db, rpc, ...; empty where there is none."""
        return scheme_of(self.backend_url)


def target_of(settings: Settings, app: Celery | None = None) -> Target:
    """Combine the settings with those of the app, which apply where the settings have none.

    Raises ConfigError when there is no broker, when a library for its kind is missing, or when its
    kind does not support an option.
    """
    with reading(app) if app is not None else nullcontext():
        return _target_of(settings, app)


def _target_of(settings: Settings, app: Celery | None) -> Target:
    conf = app.conf if app is not None else None
    given = _broker_urls(settings, conf)
    scheme = scheme_of(given[0])
    kind = _kind(scheme)
    urls = kind.split_urls(given)
    transport_options.check_names(settings.broker_transport_options, scheme, kind.option_names())
    options = _transport_options(settings, conf)
    if settings.event_queue is not None and not kind.durable_events:
        raise ConfigError(f"--event-queue: not supported on {scheme} (requires RabbitMQ)")
    given_tls = kind.tls_options(settings.broker_ssl_options)
    tls = given_tls or (conf.broker_use_ssl if conf else None) or None
    _check_urls(urls, options, tls)
    management_url = settings.rabbitmq_management_url
    return Target(
        broker_urls=urls,
        transport=kind.aliases.get(scheme, scheme),
        kind=kind,
        capabilities=capabilities_of(scheme),
        broker_ssl=tls,
        broker_options=options,
        login_method=conf.broker_login_method if conf else None,
        management_url=management_url.reveal() if management_url else None,
        backend_url=_backend_url(settings, conf),
        backend_settings=_backend_settings(settings, conf),
        control_exchange=conf.control_exchange if conf else "celery",
        control_serializer=_control_serializer(conf),
        reply_serializer=conf.task_serializer if conf else "",
        event_exchange=conf.event_exchange if conf else "celeryev",
        queues=frozenset(settings.queues) | frozenset(_queues_of(app) if app is not None else ()),
        streams=frozenset(_streams_of(app) if app is not None else ()),
        task_parameters=task_parameters(app) if app is not None and settings.task_label else {},
        visibility_timeout=kind.visibility_timeout(
            options, DEFAULT_VISIBILITY_TIMEOUT if conf is not None else None
        ),
        blind_spots=tuple(_certificate_blind_spots(kind, urls, tls)),
    )


def _broker_urls(settings: Settings, conf: Any) -> list[str]:
    if settings.broker_url is not None:
        urls = [url.strip() for url in settings.broker_url.reveal().split(";")]
        return [url for url in urls if url]
    if conf is not None:
        return app_configuration.broker_urls(conf) or [DEFAULT_BROKER]
    raise ConfigError("no broker: set --broker-url, or --app to read it from your Celery app")


def _transport_options(settings: Settings, conf: Any) -> dict[str, Any]:
    of_app = app_configuration.options_of(conf, "broker_transport_options") if conf else {}
    return {**of_app, **settings.broker_transport_options}


def _kind(scheme: str) -> BrokerKind[Any]:
    kind = kind_of(scheme)
    hint = f": pip install '{kind.install}'" if kind.install else ""
    if kind.package and importlib.util.find_spec(kind.package) is None:
        raise ConfigError(f"--broker-url: {scheme} requires the package {kind.package}{hint}")
    if scheme not in TRANSPORT_ALIASES and "." not in scheme:
        expected = ", ".join(sorted(TRANSPORT_ALIASES))
        raise ConfigError(
            f"--broker-url: unknown transport {scheme!r} (expected one of: {expected})"
        )
    try:
        transport = Connection(f"{scheme}://", ssl=True).get_transport_cls()
    except (ImportError, NameError) as error:  # kombu's transport of Kafka raises NameError
        raise ConfigError(
            f"--broker-url: {scheme} requires a library that is missing: {error}{hint}"
        ) from error
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an import may raise anything
        raise ConfigError(
            f"--broker-url: the transport {scheme} cannot be imported:"
            f" {type(error).__name__}: {error}{hint}"
        ) from None
    return kind_of(scheme, str(transport.driver_type))


def _check_urls(urls: tuple[str, ...], options: Mapping[str, Any], tls: Any) -> None:
    """Raise ConfigError for a URL or options that cannot work.  Does not connect."""
    for url in urls:
        kind_of(scheme_of(url)).check_options(options)  # alternates may be of another kind
        try:
            Connection(url, ssl=tls, transport_options=dict(options))
        except Exception as error:  # noqa: BLE001 - kombu's parsers raise errors of many types
            raise ConfigError(
                f"--broker-url: kombu rejected the URL: {type(error).__name__}: {error}"
            ) from None


def _certificate_blind_spots(
    kind: BrokerKind[Any], urls: tuple[str, ...], tls: Any
) -> Iterator[BlindSpot]:
    for url in urls:
        unverified = kind.unverified_certificate(url, tls)
        if unverified is not None:
            yield BlindSpot(
                "broker_certificate",
                f"The broker's certificate {unverified.finding}.",
                f"--broker-ssl-option {unverified.option}",
            )
            return


def _backend_url(settings: Settings, conf: Any) -> str:
    given = settings.result_backend.reveal() if settings.result_backend is not None else None
    if conf is None:
        url = given or ""
    else:
        url = app_configuration.backend_url(given or conf.result_backend, conf)
    return url if scheme_of(url) != "disabled" else ""


def _backend_settings(settings: Settings, conf: Any) -> dict[str, Any]:
    of_app = app_configuration.settings_of(conf) if conf is not None else {}
    name = "result_backend_transport_options"
    options = app_configuration.options_of(conf, name) if conf is not None else {}
    return {**of_app, name: {**options, **settings.result_backend_transport_options}}


def _control_serializer(conf: Any) -> str:
    """Return JSON, else the serializer of tasks, else another one that the app's workers accept."""
    if conf is None:
        return "json"
    accepted = {kombu_internals.serializer_name(name) for name in conf.accept_content or ("json",)}
    names = ["json", conf.task_serializer, *sorted(accepted)]
    for name in names:
        if name in accepted:
            with suppress(Exception):  # serializers of applications raise errors of many types
                encode({}, name)
                return str(name)
    raise ConfigError(
        f"--app: no serializer of accept_content can be used: {', '.join(sorted(accepted))}"
    )


def _queues_of(app: Celery) -> Iterator[str]:
    """Iterate over the queues that an app declares, and those that its static routes name.

    Not those of a Broadcast: each process has a queue of its own.
    """
    declared: dict[str, Queue] = dict(app.amqp.queues)
    declared |= {queue.alias: queue for queue in declared.values() if queue.alias}
    routed = (queue for _, queue in app_configuration.static_routes(app.conf.task_routes))
    for one in (*declared, *routed):
        queue = one if isinstance(one, Queue) else declared.get(one)
        name = str(queue.name) if queue is not None else one
        fanout = queue is not None and queue.exchange.type == "fanout"
        if not (is_internal(name) or (fanout and ends_in_uuid(name))):
            yield name


def _streams_of(app: Celery) -> Iterator[str]:
    for name, queue in app.amqp.queues.items():
        if (queue.queue_arguments or {}).get("x-queue-type") == "stream":
            yield name
