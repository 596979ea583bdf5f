"""What is watched: addresses and options of one Celery cluster, from the settings and from its Celery app."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.addresses import check_addresses, scheme_of, split_addresses, tls_options
from celery_vitals.brokers.capabilities import Capabilities, capabilities_of
from celery_vitals.brokers.certificates import backend_doubt, broker_doubt
from celery_vitals.brokers.optional_dependencies import check_backend, check_transport, hint_for
from celery_vitals.errors import ConfigError
from celery_vitals.settings import Settings

DEFAULT_BROKER = "amqp://guest:guest@localhost:5672//"
"""What Celery itself uses when an app names no broker."""
DEFAULT_VISIBILITY_TIMEOUT = 3600.0
"""kombu's own, in seconds, for a Redis broker."""

# What the result backends read from the app's settings, besides the URL.
_BACKEND_SETTINGS = (
    "result_",
    "redis_",
    "cache_",
    "database_",
    "mongodb_",
    "filesystem_",
    "s3_",
    "cassandra_",
)


@dataclass(frozen=True)
class Target:
    """One Celery cluster, as its applications know it."""

    broker_urls: tuple[str, ...] = field(repr=False)
    """The broker's addresses with their credentials, to be tried in turn (Sentinels: one entry with all of them)."""
    transport: str
    """kombu's name for the broker's kind: redis, sentinel, amqp, filesystem, ..."""
    driver: str
    """The family that this kind belongs to: redis, amqp, filesystem, ..."""
    capabilities: Capabilities
    """What can be known of this kind."""
    broker_ssl: Any = field(repr=False)
    broker_options: Mapping[str, Any] = field(repr=False)
    login_method: str | None
    backend_url: str = field(repr=False)
    """The result backend's address with its credentials; empty where there is none."""
    backend_settings: Mapping[str, Any] = field(repr=False)
    control_exchange: str
    event_exchange: str
    queues: frozenset[str]
    """The queues that the settings and the app name."""
    streams: frozenset[str]
    """Those that the app declares as streams of RabbitMQ."""
    visibility_timeout: float | None
    """Seconds, on Redis, where the application's own value is known."""
    blind_spots: tuple[BlindSpot, ...] = ()
    """Which certificates are not verified."""

    @property
    def broadcast(self) -> bool:
        """Whether this kind can send to all workers at once, so that remote control and events exist."""
        return bool(self.capabilities.workers)

    @property
    def backend(self) -> str:
        """The scheme of the result backend: redis, db, rpc, ...; empty where there is none."""
        return scheme_of(self.backend_url)


def target_of(settings: Settings, app: Celery | None = None) -> Target:
    """Put together what the settings say and, where they are silent, what the app says.

    Raises ConfigError when there is no broker, when a library for this kind of broker or backend is missing, or when
    this kind of broker cannot do what is asked of it.
    """
    conf = app.conf if app is not None else None
    urls = _broker_urls(settings, conf)
    transport = _transport_name(urls[0])
    options = {
        **(conf.broker_transport_options or {} if conf else {}),
        **settings.broker_transport_options,
    }
    driver = _driver(urls[0])
    if settings.event_queue is not None and driver != "amqp":
        raise ConfigError(
            f"--event-queue: {transport} keeps no events for anybody who is away; RabbitMQ does"
        )
    tls = (
        tls_options(settings.broker_ssl_options, driver)
        or (conf.broker_use_ssl if conf else None)
        or None
    )
    check_addresses(urls, options, tls)
    backend_url = _backend_url(settings, conf)
    backend_settings = _backend_settings(settings, conf)
    check_backend(scheme_of(backend_url), backend_url, backend_settings)
    return Target(
        broker_urls=urls,
        transport=transport,
        driver=driver,
        capabilities=capabilities_of(transport),
        broker_ssl=tls,
        broker_options=options,
        login_method=conf.broker_login_method if conf else None,
        backend_url=backend_url,
        backend_settings=backend_settings,
        blind_spots=tuple(
            _certificate_blind_spots(urls, tls, driver, backend_url, backend_settings)
        ),
        control_exchange=conf.control_exchange if conf else "celery",
        event_exchange=conf.event_exchange if conf else "celeryev",
        queues=frozenset(settings.queues) | frozenset(_queues_of(app) if app is not None else ()),
        streams=frozenset(_streams_of(app) if app is not None else ()),
        visibility_timeout=_visibility_timeout(driver, options, known=conf is not None),
    )


def _broker_urls(settings: Settings, conf: Any) -> tuple[str, ...]:
    if settings.broker_url is not None:
        given: Any = settings.broker_url.reveal()
    elif conf is not None:
        given = conf.broker_read_url or conf.broker_url or DEFAULT_BROKER
    else:
        raise ConfigError("no broker: give --broker-url, or --app to take it from your Celery app")
    return split_addresses(given)


def _transport_name(url: str) -> str:
    scheme = scheme_of(url)
    return {"rediss": "redis", "amqps": "amqp", "pyamqp": "amqp", "SQS": "sqs"}.get(scheme, scheme)


def _driver(url: str) -> str:
    scheme = scheme_of(url)
    check_transport(scheme)
    try:
        cls = Connection(f"{scheme}://", ssl=True).get_transport_cls()
    except ImportError as error:
        hint = hint_for(scheme)
        raise ConfigError(
            f"--broker-url: {scheme} needs a library that is missing: {error}{hint}"
        ) from error
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"--broker-url: the transport {scheme} is not known; known are {', '.join(sorted(TRANSPORT_ALIASES))}"
        ) from error
    return str(cls.driver_type)


def _certificate_blind_spots(
    urls: tuple[str, ...],
    tls: Any,
    driver: str,
    backend_url: str,
    backend_settings: Mapping[str, Any],
) -> Iterator[BlindSpot]:
    for text, option in filter(None, (broker_doubt(url, tls, driver) for url in urls)):
        yield BlindSpot(
            "broker_certificate",
            f"The broker's certificate {text}.",
            f"--broker-ssl-option {option}",
        )
        break
    if scheme_of(backend_url) in ("redis", "rediss", "sentinel"):
        text = backend_doubt(backend_url, backend_settings)
        if text:
            yield BlindSpot(
                "result_backend_certificate",
                f"The result backend's certificate {text}.",
                "ssl_cert_reqs",
            )


def _backend_url(settings: Settings, conf: Any) -> str:
    given = settings.result_backend.reveal() if settings.result_backend is not None else None
    url = given if given is not None else conf.result_backend if conf is not None else None
    return url if isinstance(url, str) and scheme_of(url) != "disabled" else ""


def _backend_settings(settings: Settings, conf: Any) -> dict[str, Any]:
    chosen = {
        name: value
        for name, value in (conf.items() if conf is not None else ())
        if name.startswith(_BACKEND_SETTINGS) and value is not None
    }
    options = {
        **(chosen.get("result_backend_transport_options") or {}),
        **settings.result_backend_transport_options,
    }
    return {**chosen, "result_backend_transport_options": options}


def _queues_of(app: Celery) -> Iterator[str]:
    """The queues an app declares, and those its static routes name."""
    yield from app.amqp.queues
    routes = app.conf.task_routes
    for table in routes if isinstance(routes, (list, tuple)) else (routes,):
        for route in table.values() if isinstance(table, Mapping) else ():
            queue = route.get("queue") if isinstance(route, Mapping) else route
            name = getattr(queue, "name", queue)
            if isinstance(name, str):
                yield name


def _streams_of(app: Celery) -> Iterator[str]:
    for name, queue in app.amqp.queues.items():
        if (queue.queue_arguments or {}).get("x-queue-type") == "stream":
            yield name


def _visibility_timeout(driver: str, options: Mapping[str, Any], known: bool) -> float | None:
    if driver != "redis":
        return None
    value = options.get("visibility_timeout", DEFAULT_VISIBILITY_TIMEOUT if known else None)
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not seconds > 0:  # false for NaN too
        raise ConfigError(
            f"--broker-transport-option: visibility_timeout must be a number of seconds, not {value!r}"
        )
    return seconds
