"""Which URLs of brokers, result backends and RabbitMQ's management are good; nothing here connects or shows a URL."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from urllib.parse import parse_qsl, urlsplit

from celery.app.backends import BACKEND_ALIASES
from celery.utils.imports import load_extension_class_names
from kombu.transport import TRANSPORT_ALIASES

from celery_vitals.secrets import Secret
from celery_vitals.settings.parsers import text

_SCHEME = re.compile(r"([A-Za-z][\w.-]*(?:\+[\w.+-]*)?)://")
_CLUSTER = re.compile(r"redis-?cluster|rediss?\+(redis-?)?cluster", re.IGNORECASE)
_REDIS = {"redis", "rediss", "sentinel"}
_AMQP = {"amqp", "amqps", "pyamqp", "librabbitmq", "rpc"}
# These transports take their URL apart themselves, each in its own way; kombu reads the others by the rules of http.
_OWN_SYNTAX = {"azureservicebus", "azurestoragequeues", "gcpubsub", "mongodb", "sqla", "sqlalchemy"}
_ORDINARY = {name.lower() for name in TRANSPORT_ALIASES} - _OWN_SYNTAX | _AMQP | _REDIS
_NO_SCHEME = "must begin with a scheme, as in redis://HOST:6379/0"
_MEANT = {
    "rabbitmq": "amqp",
    "postgresql": "db+postgresql",
    "postgres": "db+postgresql",
    "mysql": "db+mysql",
    "sqlite": "db+sqlite",
    "memcached": "cache+memcached",
}
"""What people write who have not read Celery's manual."""
_CERTIFICATE_REQUIREMENTS = {
    "CERT_REQUIRED",
    "CERT_OPTIONAL",
    "CERT_NONE",
    "required",
    "optional",
    "none",
}


def broker_url(value: object) -> Secret:
    """A broker URL, or several separated by `;`, of a transport that kombu knows."""
    url = _text(value)
    first, *others = url.split(";")
    _check(first, TRANSPORT_ALIASES)
    for other in others:
        # Kombu takes a plain HOST:PORT after the first URL.
        _check(
            other if "://" in other else f"{first.partition('://')[0]}://{other}", TRANSPORT_ALIASES
        )
    return Secret(url)


def backend_url(value: object) -> Secret:
    """The URL, or the bare name, of a result backend that Celery knows."""
    url = _text(value)
    known = {
        *BACKEND_ALIASES,
        *(name for name, _ in load_extension_class_names("celery.result_backends")),
    }
    if url in known:
        return Secret(url)
    # Only Redis Sentinel's backend takes alternates; in others a ; may be part of the URL.
    first, *others = url.split(";") if url.startswith("sentinel://") else [url]
    if "://" not in first:
        raise ValueError(f"{_NO_SCHEME}, or be the name of a result backend that is installed here")
    _check(first, known)
    for other in others:
        _check(other if "://" in other else f"sentinel://{other}", known)
    return Secret(url)


def management_url(value: object) -> Secret:
    """The http or https URL of RabbitMQ's management plugin."""
    url = _text(value)
    if _scheme(url) not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    _check_host(url)
    if not urlsplit(url).hostname:
        raise ValueError("has no host")
    return Secret(url)


def _text(value: object) -> str:
    url = value.reveal() if isinstance(value, Secret) else text(value)
    if re.search(r"[\s\x00-\x1f]", url):
        raise ValueError("must not hold spaces or control characters")
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
            "Redis Cluster is not supported by Celery's transport library; "
            "give a single Redis, Redis Sentinel or RabbitMQ"
        )
    name, _, inner = scheme.partition("+")
    name = name if name in known else name.lower()
    if name not in known or (inner and name in _AMQP | _REDIS and inner != "socket"):
        raise ValueError(_unknown(scheme, known))
    if name in _ORDINARY and not inner:
        _check_host(url)
    if name in _REDIS and not inner:
        _check_redis(url)


def _unknown(scheme: str, known: Collection[str]) -> str:
    meant = _MEANT.get(scheme.partition("+")[0], "")
    close = [meant] if meant.partition("+")[0] in known else get_close_matches(scheme, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    names = ", ".join(sorted({name.lower() for name in known}))
    return f"unknown scheme {scheme!r}{hint}; known are {names}"


def _check_host(url: str) -> None:
    rest = url.partition("://")[2]
    try:
        parts = urlsplit("http://" + rest)
        good = parts.port != 0
    except ValueError:
        good = False
    # An unquoted / ? or # in a password ends the host too early, and leaves the @ behind.
    if not good or parts.fragment or ("@" in rest and "@" not in parts.netloc):
        raise ValueError(
            "has a bad host or port (special characters in a password must be percent-encoded)"
        )


def _check_redis(url: str) -> None:
    parts = urlsplit("http://" + url.partition("://")[2])
    if not re.fullmatch(r"/*\d*", parts.path):
        raise ValueError("has a database that is not a number")
    required = dict(parse_qsl(parts.query)).get("ssl_cert_reqs")
    if required is not None and required not in _CERTIFICATE_REQUIREMENTS:
        raise ValueError("has an ssl_cert_reqs that is not one of required, optional, none")
