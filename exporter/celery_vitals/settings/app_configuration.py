"""What the configuration of a Celery app means: every spelling that Celery accepts.

A setting may have its new or its old name, or a namespace before it as in Django; a broker may be
named in parts, and a result backend without a URL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES

from celery_vitals.errors import ConfigError
from celery_vitals.settings.urls import OWN_SYNTAX
from celery_vitals.third_party import celery_internals

_DEFAULT_TRANSPORT = "amqp"
_DEFAULT_HOST = "localhost"
_FILLED_IN = ("port", "user", "password", "vhost")


def has_broker(conf: Any) -> bool:
    """Return whether an app names a broker; Celery's default is RabbitMQ on localhost."""
    parts = ("transport", *_FILLED_IN)
    return bool(conf.broker_read_url) or any(_given(conf.get(f"broker_{part}")) for part in parts)


def broker_urls(conf: Any) -> list[str]:
    """Return the URLs of the broker that workers consume from; none when an app names no broker.

    As in kombu, the settings `broker_user`, `broker_port`, ... fill in what a URL leaves out.
    """
    given: Any = conf.broker_read_url or (has_broker(conf) and _DEFAULT_HOST) or ()
    urls = given.split(";") if isinstance(given, str) else given
    if not isinstance(urls, (list, tuple)) or not all(isinstance(url, str) for url in urls):
        raise ConfigError("--app: the URL of the broker must be text, or a list of texts")
    return [_url(url.strip(), conf) for url in urls if url.strip()]


def backend_url(given: object, conf: Any) -> str:
    """Return the URL or the bare name of a result backend, `given` by the app or the settings.

    Empty where there is none.  Of a database, SQLAlchemy's URL is a setting of its own.
    """
    if given in ("database", "db") and isinstance(conf.database_url, str):
        return f"db+{conf.database_url}"
    return given if isinstance(given, str) else ""


def options_of(conf: Any, name: str) -> Mapping[str, Any]:
    """Return a setting that consists of options."""
    options = conf.get(name) or {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"--app: {name} must be a mapping, not {type(options).__name__}")
    return options


def settings_of(conf: Any) -> dict[str, Any]:
    """Return every setting that differs from Celery's default, by its new name.

    Those that Celery does not know are included: a result backend may read its own.
    """
    changed = {
        name: value
        for name, default in celery_internals.celery_defaults().items()
        if (value := conf.get(name)) is not default and value != default
    }
    return {**dict(_unknown_settings(conf)), **changed}


def static_routes(routes: Any) -> Iterator[tuple[str, str | Queue]]:
    """Iterate over the pairs of a task, or a pattern of tasks, and its queue in `task_routes`.

    Each table is a mapping or a list of pairs; routes that are functions are left out.
    """
    for table in routes if isinstance(routes, (list, tuple)) else (routes,):
        for task, route in table.items() if isinstance(table, Mapping) else _pairs(table):
            queue = route.get("queue") if isinstance(route, Mapping) else route
            if isinstance(task, str) and isinstance(queue, (str, Queue)):
                yield task, queue


def _pairs(table: Any) -> Iterator[tuple[Any, Any]]:
    for pair in table if isinstance(table, (list, tuple)) else ():
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            yield pair[0], pair[1]


def _unknown_settings(conf: Any) -> Iterator[tuple[str, Any]]:
    known, prefix = celery_internals.celery_setting_names(), conf.prefix or ""
    for key in conf:
        if not key.startswith("_") and key.startswith(prefix):
            name = key.removeprefix(prefix).lower() if prefix else key
            if name not in known:
                yield name, conf.get(key)


def _url(url: str, conf: Any) -> str:
    """Return the URL of a host, or a URL with what it leaves out."""
    transport = conf.broker_transport
    if "://" not in url:
        url = f"{transport or _DEFAULT_TRANSPORT}://{url}"
    elif transport in TRANSPORT_ALIASES:
        url = f"{transport}://{url.partition('://')[2]}"
    scheme, _, rest = url.partition("://")
    ordinary = "+" not in scheme and scheme.lower() not in OWN_SYNTAX
    if not ordinary or not any(_given(conf.get(f"broker_{part}")) for part in _FILLED_IN):
        return url
    try:
        parts = urlsplit("//" + rest)
        port = parts.port
    except ValueError:
        return url  # reported when the URL is checked
    if parts.fragment:
        return url
    userinfo, _, host = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    user = user or _quoted(conf.broker_user)
    password = password or _quoted(conf.broker_password)
    if port is None and _given(conf.broker_port):
        host = f"{host.removesuffix(':')}:{conf.broker_port}"
    path = parts.path
    if not path.strip("/") and _given(conf.broker_vhost):
        path = f"/{_quoted(conf.broker_vhost)}"
    credentials = f"{user}:{password}@" if password else f"{user}@" if user else ""
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{credentials}{host}{path}{query}"


def _given(value: Any) -> bool:
    return value is not None and value != ""


def _quoted(value: Any) -> str:
    """Return a part of a URL; `broker_password` may be a function."""
    value = value() if callable(value) else value
    return quote(str(value), safe="") if _given(value) else ""
