"""The result backend: checks of its options, and a round trip that leaves nothing behind."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from celery import Celery
from celery.exceptions import ImproperlyConfigured
from celery.utils.imports import symbol_by_name

from celery_vitals import third_party
from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers import tls
from celery_vitals.brokers.redis.connection import CLIENT_OPTIONS
from celery_vitals.brokers.redis.sentinel import bounded_sentinel, check_master_name
from celery_vitals.brokers.target import Target
from celery_vitals.errors import ConfigError, ProbeError, Reason

ON_THE_BROKER = frozenset({"rpc", "amqp"})
"""Backends that store results in queues of the broker: they work when the broker does."""
NEEDS_DJANGO = frozenset({"django-db", "django-cache"})
"""Backends that require Django and the whole project, which an exporter must not load."""
NOT_OPENED = ON_THE_BROKER | NEEDS_DJANGO
_PROBE_EXPIRES = 60
"""Seconds after which the probe's key expires, where keys can, if the exporter is killed."""
_VALUE = b"celery-vitals"
_REDIS = ("redis", "rediss", "sentinel")
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


class Backend(Protocol):
    """A result backend that can be probed."""

    def round_trip(self) -> None:
        """Store and read something, or at least read; raises the library's error."""

    def close(self) -> None:
        """Close the connections of its client."""


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
            third_party.import_result_store(_celery_app(), target.backend_url)
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
        third_party.import_driver(dialect)
    except ImportError as error:
        raise ConfigError(f"--result-backend: the database driver is missing: {error}") from error


def _celery_app() -> Celery:
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
    if target.backend not in _REDIS:
        return None
    options = target.backend_settings.get("redis_backend_use_ssl")
    named = options if isinstance(options, Mapping) else {}
    if not target.backend_url.startswith("rediss://") and not named:
        return None
    query = parse_qs(urlsplit(target.backend_url).query)
    return {**named, **{name: values[0] for name, values in query.items()}}


def open_backend(target: Target, io_timeout: float) -> Backend:
    """Return the probe for the kind of backend in `target`.  Does not connect."""
    if target.backend in ("db", "database"):
        return _Database(target, io_timeout)
    app = _celery_app()
    app.conf.update({**target.backend_settings, **_bounds(target.backend_settings, io_timeout)})
    try:
        store = third_party.open_result_store(app, target.backend_url)
    except (ImproperlyConfigured, ImportError, ValueError) as error:
        raise ProbeError(
            Reason.UNAVAILABLE, f"this result backend cannot be used: {error}"
        ) from error
    if target.backend in (*_REDIS, "redis-socket", "socket"):
        timeouts = {"socket_timeout": io_timeout, "retry_on_timeout": False}
        third_party.set_store_options(store, {**CLIENT_OPTIONS, **timeouts})
        return _Redis(store)
    return _KeyValue(store) if third_party.is_key_value_store(store) else _Results(store)


def _bounds(settings: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return settings that keep every kind of backend from blocking and from retrying."""
    milliseconds = int(timeout * 1000)
    mongodb = dict(settings.get("mongodb_backend_settings") or {})
    mongodb["options"] = {
        **(mongodb.get("options") or {}),
        "serverSelectionTimeoutMS": milliseconds,
        "connectTimeoutMS": milliseconds,
        "socketTimeoutMS": milliseconds,
    }
    no_retry = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    return {
        "result_backend_always_retry": False,
        # The probe's own value; nothing that is stored is ever unpickled.
        "result_serializer": "json",
        "result_accept_content": ["json"],
        "result_backend_transport_options": {
            **bounded_sentinel(settings.get("result_backend_transport_options") or {}, timeout),
            "retry_policy": no_retry,
        },
        "redis_socket_timeout": timeout,
        "redis_socket_connect_timeout": timeout,
        "redis_retry_on_timeout": False,
        "cache_backend_options": {
            **(settings.get("cache_backend_options") or {}),
            "connect_timeout": timeout,
            "timeout": timeout,
        },
        "mongodb_backend_settings": mongodb,
    }


def _probe_id() -> str:
    """Return an id that no other exporter uses at the same time."""
    return f"celery-vitals-probe-{uuid.uuid4()}"


def _expect(value: Any) -> None:
    if value not in (_VALUE, _VALUE.decode()):
        raise ProbeError(
            Reason.PROTOCOL, "the result backend returned another value than was stored"
        )


class _Redis:
    """Sets, reads and deletes a key; the backend's own `set` publishes as well, and retries."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._id = _probe_id()

    def round_trip(self) -> None:
        client, key = self._store.client, third_party.task_key(self._store, self._id)
        client.set(key, _VALUE, ex=_PROBE_EXPIRES)
        _expect(client.get(key))
        client.delete(key)

    def close(self) -> None:
        """Close the connections of its client."""
        client = third_party.opened_client(self._store)
        if client is not None:
            client.connection_pool.disconnect()


class _KeyValue:
    """Does the same in every other key-value store: memcached, file system, S3, Consul, ..."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._id = _probe_id()

    def round_trip(self) -> None:
        key = third_party.task_key(self._store, self._id)
        self._store.set(key, _VALUE)
        try:
            _expect(self._store.get(key))
        finally:
            self._store.delete(key)

    def close(self) -> None:
        """Close the connections of its client, where it has one that can be closed."""
        close = getattr(third_party.opened_client(self._store), "close", None)
        if close is not None:
            close()


class _Results:
    """Stores, reads and forgets a result, in backends that store nothing else."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._id = _probe_id()

    def round_trip(self) -> None:
        self._store.store_result(self._id, _VALUE.decode(), "PROBE")
        try:
            _expect(self._store.get_task_meta(self._id, cache=False)["result"])
        finally:
            self._store.forget(self._id)

    def close(self) -> None:
        """Do nothing: there is no common way; the connections end with the process."""


class _Database:
    """Runs SELECT through an engine of its own: Celery's creates and alters tables at its start."""

    def __init__(self, target: Target, io_timeout: float) -> None:
        from sqlalchemy import create_engine
        from sqlalchemy.engine import make_url
        from sqlalchemy.pool import NullPool

        url = make_url(target.backend_url.partition("+")[2])
        settings = target.backend_settings
        arguments = dict((settings.get("database_engine_options") or {}).get("connect_args") or {})
        arguments |= _driver_bounds(url.get_driver_name(), io_timeout)
        self._engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
        if (callback := settings.get("database_engine_callback")) is not None:
            symbol_by_name(callback)(self._engine)
        self._table = (settings.get("database_table_names") or {}).get("task", "celery_taskmeta")
        self._schema = (settings.get("database_table_schemas") or {}).get("task")
        dialect = self._engine.dialect.name
        self._file = self._engine.url.database if dialect == "sqlite" else None
        # In the transaction, not at the start of the session: poolers such as PgBouncer refuse
        # that, and give a session's settings to other clients.
        self._first = (
            f"SET LOCAL statement_timeout = {_whole_seconds(io_timeout) * 1000}"
            if dialect == "postgresql"
            else "SELECT 1"
        )

    def round_trip(self) -> None:
        import sqlalchemy as sql

        if self._file and self._file != ":memory:" and not Path(self._file).exists():
            # Connecting would create the file.
            raise ProbeError(Reason.NOT_FOUND, "the database file does not exist")
        with self._engine.connect() as connection:
            connection.execute(sql.text(self._first))
            # The table may be missing: Celery creates it with the first result.
            if sql.inspect(connection).has_table(self._table, self._schema):
                table = sql.table(self._table, schema=self._schema)
                connection.execute(sql.select(sql.column("id")).select_from(table).limit(0))

    def close(self) -> None:
        """Do nothing: each connection is closed after its use."""


def _driver_bounds(driver: str, io_timeout: float) -> dict[str, Any]:
    """Return arguments that keep a driver from blocking; none for one that is not known."""
    seconds = _whole_seconds(io_timeout)
    if driver.startswith("psycopg"):
        # The keepalives end a session whose server is gone.
        keepalives = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
        return {"connect_timeout": seconds, "tcp_user_timeout": seconds * 1000, **keepalives}
    if driver == "pg8000":
        return {"timeout": seconds}
    if driver in ("pymysql", "mysqldb", "mariadbconnector"):
        return dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), seconds)
    if driver == "mysqlconnector":
        return {"connection_timeout": seconds}
    return {"timeout": io_timeout} if driver == "pysqlite" else {}


def _whole_seconds(io_timeout: float) -> int:
    return max(2, round(io_timeout))
