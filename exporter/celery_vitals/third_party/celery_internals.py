"""Celery: its settings, the exchange of its events, and its result backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from celery.app import defaults
from celery.app.backends import by_url
from celery.backends.base import KeyValueStoreBackend
from celery.events.event import get_exchange


def event_exchange(connection: Any, name: str) -> Any:
    """Return the exchange of the events as Celery declares it on this kind of broker.

    celery `events.event.get_exchange`: its type depends on the transport.
    """
    return get_exchange(connection, name)


def celery_defaults() -> Mapping[str, Any]:
    """Return the defaults of all settings of Celery.

    celery `app.defaults.DEFAULTS`: the configuration of an app may hold them by their old names.
    """
    return cast("Mapping[str, Any]", defaults.DEFAULTS)


def celery_setting_names() -> frozenset[str]:
    """Return the names of all settings of Celery, old and new.

    celery `app.defaults.SETTING_KEYS`, `_OLD_SETTING_KEYS`.
    """
    return frozenset(defaults.SETTING_KEYS | defaults._OLD_SETTING_KEYS)


def old_setting_names() -> Mapping[str, str]:
    """Return the new name of each setting by its old one.

    celery `app.defaults._TO_NEW_KEY`: no public function converts names.
    """
    return cast("Mapping[str, str]", defaults._TO_NEW_KEY)


def deprecated_settings() -> Mapping[str, tuple[str, str]]:
    """Return the version that removes each deprecated setting, and what to use instead.

    celery `app.defaults.Option.remove_by`, `alt`.
    """
    return {
        name: (str(option.remove_by or option.deprecate_by), str(option.alt or ""))
        for name, option in defaults.flatten(defaults.NAMESPACES)
        if option.deprecate_by or option.remove_by
    }


def open_result_store(app: Any, url: str) -> Any:
    """Create the result backend of a URL.

    celery `app.backends.by_url`: `app.backend` ignores a URL that is given later.
    """
    cls, url = by_url(url, app.loader)
    return cls(app=app, url=url)


def import_result_store(app: Any, url: str) -> None:
    """Import the class of a result backend.  Raises what its module raises."""
    by_url(url, app.loader)


def set_store_options(store: Any, options: Mapping[str, Any]) -> None:
    """Have a result backend on Redis pass these parameters to redis-py.

    celery `backends.redis.RedisBackend.connparams`: the query of the URL precedes all settings.
    """
    store.connparams.update(options)


def is_key_value_store(store: Any) -> bool:
    """Return whether a result backend has `get`, `set` and `delete`.

    celery `backends.base.KeyValueStoreBackend`.
    """
    return isinstance(store, KeyValueStoreBackend)


def task_key(store: Any, task_id: str) -> Any:
    """Return the key that a result backend stores a task's result under.

    celery `KeyValueStoreBackend.get_key_for_task`: the key prefix is an option of the application.
    """
    return store.get_key_for_task(task_id)


def opened_client(store: Any) -> Any:
    """Return the client of a result backend; None when none has been opened.

    celery `backend.client`, a cached property: reading it would open one.
    """
    return vars(store).get("client")
