"""The checks of the result backend's options at start."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from celery import Celery

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers import tls
from celery_vitals.brokers.redis.sentinel import check_master_name
from celery_vitals.brokers.target import Target
from celery_vitals.errors import ConfigError
from celery_vitals.third_party import celery_internals, sqlalchemy_internals

ON_THE_BROKER = frozenset({"rpc", "amqp"})
"""Backends that store results in queues of the broker: they work when the broker does."""
NEEDS_DJANGO = frozenset({"django-db", "django-cache"})
"""Backends that require Django and the whole project, which an exporter must not load."""
NOT_OPENED = ON_THE_BROKER | NEEDS_DJANGO
REDIS = ("redis", "rediss", "sentinel")
_SQLALCHEMY = ("sqlalchemy", "celery-vitals[sqlalchemy]")
_PACKAGES = {
    "db": _SQLALCHEMY,
    "database": _SQLALCHEMY,
    "cache": ("pymemcache", "celery-vitals[memcached]"),
    "arangodb": ("pyArango", "celery[arangodb]"),
    "cassandra": ("cassandra", "celery[cassandra]"),
    "consul": ("consul", "celery[consul]"),
    "couchbase": ("couchbase", "celery[couchbase]"),
    "couchdb": ("pycouchdb", "celery[couchdb]"),
    "dynamodb": ("boto3", "celery[dynamodb]"),
    "elasticsearch": ("elasticsearch", "celery[elasticsearch]"),
    "mongodb": ("pymongo", "celery[mongodb]"),
    "s3": ("boto3", "celery[s3]"),
}
"""The package that a kind of backend requires, by scheme, and what to install for it."""


def check_backend(target: Target) -> None:
    """Raise ConfigError when a library or option that this backend requires is missing."""
    scheme, settings = target.backend, target.backend_settings
    if scheme == "sentinel":
        check_master_name(
            settings.get("result_backend_transport_options") or {},
            "--result-backend-transport-option",
        )
    options = _redis_tls(target)
    if options is not None and options.get("ssl_cert_reqs", "") == "":
        raise ConfigError(
            "--result-backend: Celery requires ssl_cert_reqs for TLS"
            " (rediss://...?ssl_cert_reqs=required, or optional, or none)"
        )
    package, install = _PACKAGES.get(scheme, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"--result-backend: {scheme} requires the package {package}: pip install '{install}'"
        )
    if target.backend_url in ("db", "database"):
        raise ConfigError(
            f"--result-backend: {target.backend_url} requires --app with the setting database_url,"
            " or a URL (db+postgresql://...)"
        )
    try:
        if package == _SQLALCHEMY[0]:
            _check_driver(target.backend_url.partition("+")[2])
        elif scheme and scheme not in NOT_OPENED:
            celery_internals.import_result_store(isolated_app(), target.backend_url)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an import may raise anything
        raise ConfigError(
            f"--result-backend: {scheme} cannot be imported: {type(error).__name__}: {error}"
        ) from None


def _check_driver(url: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        dialect = make_url(url).get_dialect()
    except NoSuchModuleError as error:
        raise ConfigError(f"--result-backend: unknown database in SQLAlchemy: {error}") from error
    except (ArgumentError, ValueError):
        raise ConfigError("--result-backend: SQLAlchemy rejected the URL after db+") from None
    try:
        sqlalchemy_internals.import_driver(dialect)
    except ImportError as error:
        raise ConfigError(f"--result-backend: the database driver is missing: {error}") from error


def isolated_app() -> Celery:
    """Return an app that is not the current one and has no configuration."""
    return Celery("celery-vitals", set_as_current=False, fixups=[])


def certificate_blind_spots(target: Target) -> Iterator[BlindSpot]:
    """Iterate over the missing checks of the result backend's certificate."""
    options = _redis_tls(target)
    if options is not None and options.get("ssl_cert_reqs") in tls.DISABLED:
        yield BlindSpot(
            "result_backend_certificate",
            f"The result backend's certificate {tls.NOT_VERIFIED}.",
            "ssl_cert_reqs",
        )


def _redis_tls(target: Target) -> Mapping[str, Any] | None:
    """Return the TLS options of a backend on Redis; None for others and without TLS."""
    if target.backend not in REDIS:
        return None
    options = target.backend_settings.get("redis_backend_use_ssl")
    named = options if isinstance(options, Mapping) else {}
    if not target.backend_url.startswith("rediss://") and not named:
        return None
    query = parse_qs(urlsplit(target.backend_url).query)
    return {**named, **{name: values[0] for name, values in query.items()}}
