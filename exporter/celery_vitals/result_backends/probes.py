"""The probe of each kind of result backend: a round trip that leaves nothing behind."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from celery.exceptions import ImproperlyConfigured

from celery_vitals.brokers.redis.connection import CLIENT_OPTIONS
from celery_vitals.brokers.redis.sentinel import bounded_sentinel
from celery_vitals.brokers.target import Target
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.result_backends.checks import REDIS, isolated_app
from celery_vitals.result_backends.database import DatabaseProbe
from celery_vitals.third_party import celery_internals

_PROBE_EXPIRES = 60
"""Seconds after which the probe's key expires, where keys can, if the exporter is killed."""
_VALUE = b"celery-vitals"


class Backend(Protocol):
    """A result backend that can be probed."""

    def round_trip(self) -> None:
        """Store and read something, or at least read; raises the library's error."""

    def close(self) -> None:
        """Close the connections of its client."""


def open_backend(target: Target, io_timeout: float) -> Backend:
    """Return the probe for the kind of backend in `target`.  Does not connect."""
    if target.backend in ("db", "database"):
        return DatabaseProbe(target, io_timeout)
    app = isolated_app()
    app.conf.update({**target.backend_settings, **_bounds(target.backend_settings, io_timeout)})
    try:
        store = celery_internals.open_result_store(app, target.backend_url)
    except (ImproperlyConfigured, ImportError, ValueError) as error:
        raise ProbeError(
            Reason.UNAVAILABLE, f"this result backend cannot be used: {error}"
        ) from error
    if target.backend in (*REDIS, "redis-socket", "socket"):
        timeouts = {"socket_timeout": io_timeout, "retry_on_timeout": False}
        celery_internals.set_store_options(store, {**CLIENT_OPTIONS, **timeouts})
        return _Redis(store)
    return _KeyValue(store) if celery_internals.is_key_value_store(store) else _Results(store)


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
        client, key = self._store.client, celery_internals.task_key(self._store, self._id)
        client.set(key, _VALUE, ex=_PROBE_EXPIRES)
        _expect(client.get(key))
        client.delete(key)

    def close(self) -> None:
        """Close the connections of its client."""
        client = celery_internals.opened_client(self._store)
        if client is not None:
            client.connection_pool.disconnect()


class _KeyValue:
    """Does the same in every other key-value store: memcached, file system, S3, Consul, ..."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._id = _probe_id()

    def round_trip(self) -> None:
        key = celery_internals.task_key(self._store, self._id)
        self._store.set(key, _VALUE)
        try:
            _expect(self._store.get(key))
        finally:
            self._store.delete(key)

    def close(self) -> None:
        """Close the connections of its client, where it has one that can be closed."""
        close = getattr(celery_internals.opened_client(self._store), "close", None)
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
