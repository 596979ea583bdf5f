"""The result backend: one round trip in the way that suits its kind, bounded in time, leaving nothing behind."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from celery import Celery
from celery.app.backends import by_url
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import ImproperlyConfigured

from celery_vitals.brokers.redis.sentinel import bounded_sentinel
from celery_vitals.brokers.target import Target
from celery_vitals.errors import ProbeError, Reason

_PROBE_EXPIRES = 60
"""Seconds after which a store that can expire removes the probe's key, had the exporter been killed before it did."""
_VALUE = b"celery-vitals"


class Backend(Protocol):
    """A result backend that can be asked whether it works."""

    def round_trip(self) -> None:
        """Make it take part in a round trip; raises whatever the library raises when it does not."""

    def close(self) -> None:
        """Close the connections of its client."""


def open_backend(target: Target, io_timeout: float) -> Backend:
    """The probe that suits the kind of backend in `target`.  Connects to nothing yet."""
    if target.backend in ("db", "database"):
        return _Database(target, io_timeout)
    app = Celery("celery-vitals", set_as_current=False, fixups=[])
    app.conf.update({**target.backend_settings, **_bounds(target.backend_settings, io_timeout)})
    try:
        cls, url = by_url(target.backend_url, app.loader)
        store = cls(app=app, url=url)
    except (ImproperlyConfigured, ImportError, ValueError) as error:
        raise ProbeError(
            Reason.UNAVAILABLE, f"this result backend cannot be used here: {error}"
        ) from error
    if target.backend in ("redis", "rediss", "sentinel", "redis-socket", "socket"):
        return _Redis(store)
    return _KeyValue(store) if isinstance(store, KeyValueStoreBackend) else _Results(store)


def _bounds(settings: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Settings that keep every kind of backend from blocking or retrying, whatever the application's are."""
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
    """An id that no other exporter uses at the same time."""
    return f"celery-vitals-probe-{uuid.uuid4()}"


def _expect(value: Any) -> None:
    if value not in (_VALUE, _VALUE.decode()):
        raise ProbeError(
            Reason.PROTOCOL, "the result backend gave back something else than was stored"
        )


class _Redis:
    """A key set, read and deleted.  Not through the backend's own `set`: that publishes as well, and retries."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._id = _probe_id()

    def round_trip(self) -> None:
        client, key = self._store.client, self._store.get_key_for_task(self._id)
        client.set(key, _VALUE, ex=_PROBE_EXPIRES)
        _expect(client.get(key))
        client.delete(key)

    def close(self) -> None:
        """Close the connections of its client."""
        if "client" in vars(self._store):
            self._store.client.connection_pool.disconnect()


class _KeyValue:
    """The same for every other store of keys and values: memcached, file system, S3, Consul, ..."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._id = _probe_id()

    def round_trip(self) -> None:
        key = self._store.get_key_for_task(self._id)
        self._store.set(key, _VALUE)
        try:
            _expect(self._store.get(key))
        finally:
            self._store.delete(key)

    def close(self) -> None:
        """Close the connections of its client, where it has one that can be closed."""
        close = getattr(vars(self._store).get("client"), "close", None)
        if close is not None:
            close()


class _Results:
    """Store, read and forget a result of our own, for backends that know nothing but results."""

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
        """Each has its own way to, or none: the connections end with the process."""


class _Database:
    """SELECT only, through an engine of our own: Celery's creates and alters tables as soon as it is made."""

    def __init__(self, target: Target, io_timeout: float) -> None:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        url = target.backend_url.partition("+")[2]
        scheme = urlsplit(url).scheme
        settings = target.backend_settings
        arguments = dict((settings.get("database_engine_options") or {}).get("connect_args") or {})
        whole_seconds = max(2, round(io_timeout))
        if "psycopg" in scheme or scheme in ("postgres", "postgresql"):
            milliseconds = whole_seconds * 1000
            # The last three: a session whose server is gone without a word ends by itself.
            arguments |= {"connect_timeout": whole_seconds, "tcp_user_timeout": milliseconds}
            arguments |= {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
            arguments.setdefault("options", f"-c statement_timeout={milliseconds}")
        elif "pg8000" in scheme:
            arguments["timeout"] = whole_seconds
        elif scheme.startswith(("mysql", "mariadb")):
            arguments.update(
                dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), whole_seconds)
            )
        elif scheme.startswith("sqlite"):
            arguments["timeout"] = io_timeout
        self._engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
        self._table = (settings.get("database_table_names") or {}).get("task", "celery_taskmeta")
        self._file = self._engine.url.database if scheme.startswith("sqlite") else None

    def round_trip(self) -> None:
        import sqlalchemy as sql

        if self._file and self._file != ":memory:" and not Path(self._file).exists():
            # Connecting would create it.
            raise ProbeError(Reason.NOT_FOUND, "the database file does not exist")
        with self._engine.connect() as connection:
            connection.execute(sql.text("SELECT 1"))
            # The table may be missing in good health: Celery creates it with the first result.
            if sql.inspect(connection).has_table(self._table):
                connection.execute(
                    sql.select(sql.column("id")).select_from(sql.table(self._table)).limit(0)
                )

    def close(self) -> None:
        """Each connection is closed after its use."""
