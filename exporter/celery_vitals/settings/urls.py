"""Validation of the URLs of brokers, result backends and RabbitMQ's management API.

Nothing here connects, or quotes a URL.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from urllib.parse import parse_qsl, urlsplit

from celery_vitals.secrets import Secret
from celery_vitals.settings.parsers import text

_SCHEME = re.compile(r"([A-Za-z][\w.-]*(?:\+[\w.+-]*)?)://")
_CLUSTER = re.compile(r"redis-?cluster|rediss?\+(redis-?)?cluster", re.IGNORECASE)
_REDIS = {"redis", "rediss", "sentinel"}
_AMQP = {"amqp", "amqps", "pyamqp", "librabbitmq", "rpc"}
# Transports with their own URL syntax; kombu parses all other URLs by the rules of http.
OWN_SYNTAX = {"azureservicebus", "azurestoragequeues", "gcpubsub", "mongodb", "sqla", "sqlalchemy"}
_NO_SCHEME = "must begin with a scheme, as in redis://HOST:6379/0"
_SUGGESTIONS = {
    "rabbitmq": "amqp",
    "postgresql": "db+postgresql",
    "postgres": "db+postgresql",
    "mysql": "db+mysql",
    "sqlite": "db+sqlite",
    "memcached": "cache+memcached",
}
"""Celery's schemes by common, but invalid ones."""
_CERTIFICATE_REQUIREMENTS = {
    "CERT_REQUIRED",
    "CERT_OPTIONAL",
    "CERT_NONE",
    "required",
    "optional",
    "none",
}


def broker_url(value: object) -> Secret:
    """Parse a broker URL, or several separated by `;`, of a transport of kombu."""
    url, known = _text(value), _transports()
    first, *others = url.split(";")
    _check(first, known)
    for other in others:
        # kombu accepts a plain HOST:PORT after the first URL.
        _check(other if "://" in other else f"{first.partition('://')[0]}://{other}", known)
    return Secret(url)


def backend_url(value: object) -> Secret:
    """Parse the URL, or the bare name, of a result backend of Celery."""
    url, known = _text(value), _backends()
    if url in known:
        return Secret(url)
    # Only the Redis Sentinel backend accepts alternates; elsewhere ";" may be part of the URL.
    first, *others = url.split(";") if url.startswith("sentinel://") else [url]
    if "://" not in first:
        raise ValueError(f"{_NO_SCHEME}, or be the name of an installed result backend")
    _check(first, known)
    for other in others:
        _check(other if "://" in other else f"sentinel://{other}", known)
    return Secret(url)


def http_url(value: object) -> Secret:
    """Parse an http or https URL."""
    url = _text(value)
    match = _SCHEME.match(url)
    if match is None or match[1] not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    _check_host(url)
    if not urlsplit(url).hostname:
        raise ValueError("must include a host")
    return Secret(url)


# Only a URL needs the libraries: commands without one start in a third of the time.


def _transports() -> Collection[str]:
    from kombu.transport import TRANSPORT_ALIASES

    return frozenset(TRANSPORT_ALIASES)


def _backends() -> Collection[str]:
    from celery.app.backends import BACKEND_ALIASES
    from celery.utils.imports import load_extension_class_names

    return {
        *BACKEND_ALIASES,
        *(name for name, _ in load_extension_class_names("celery.result_backends")),
    }


def _text(value: object) -> str:
    url = value.reveal() if isinstance(value, Secret) else text(value)
    if re.search(r"[\s\x00-\x1f]", url):
        raise ValueError("must not contain spaces or control characters")
    return url


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    if match is None:
        raise ValueError(_NO_SCHEME)
    return match[1]


def _check(url: str, known: Collection[str]) -> None:
    scheme = _scheme(url)
    if _CLUSTER.fullmatch(scheme):
        raise ValueError(
            "Redis Cluster is not supported by Celery's transport library"
            " (use a single Redis, Redis Sentinel or RabbitMQ)"
        )
    name, _, inner = scheme.partition("+")
    name = name if name in known else name.lower()
    if name not in known or (inner and name in _AMQP | _REDIS and inner != "socket"):
        raise ValueError(_unknown(scheme, known))
    if _is_ordinary(name) and not inner:
        _check_host(url)
    if name in _REDIS and not inner:
        _check_redis(url)


def _is_ordinary(name: str) -> bool:
    transports = {known.lower() for known in _transports()}
    return name in transports - OWN_SYNTAX | _AMQP | _REDIS


def _unknown(scheme: str, known: Collection[str]) -> str:
    suggested = _SUGGESTIONS.get(scheme.partition("+")[0], "")
    close = (
        [suggested]
        if suggested.partition("+")[0] in known
        else get_close_matches(scheme, known, n=1)
    )
    hint = f", did you mean {close[0]!r}?" if close else ""
    names = ", ".join(sorted({name.lower() for name in known}))
    return f"unknown scheme {scheme!r}{hint} (expected one of: {names})"


def _check_host(url: str) -> None:
    rest = url.partition("://")[2]
    try:
        parts = urlsplit("http://" + rest)
        valid = parts.port != 0
    except ValueError:
        valid = False
    # An unquoted / ? or # in a password ends the host before the @.
    if not valid or parts.fragment or ("@" in rest and "@" not in parts.netloc):
        raise ValueError(
            "invalid host or port (special characters in a password must be percent-encoded)"
        )


def _check_redis(url: str) -> None:
    parts = urlsplit("http://" + url.partition("://")[2])
    if not re.fullmatch(r"/*\d*", parts.path):
        raise ValueError("database must be a number")
    required = dict(parse_qsl(parts.query)).get("ssl_cert_reqs")
    if required is not None and required not in _CERTIFICATE_REQUIREMENTS:
        raise ValueError("ssl_cert_reqs must be one of: required, optional, none")
