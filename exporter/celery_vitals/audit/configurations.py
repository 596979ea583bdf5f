"""Celery's settings as facts: of an app, or of workers from their reply to `conf`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from celery import Celery

from celery_vitals.audit.facts import Configuration, names
from celery_vitals.settings.app_configuration import backend_url, broker_urls
from celery_vitals.third_party import celery_internals

_PREFIX = "CELERY_"
"""The namespace that Celery's documentation uses for Django."""


def configuration_of(app: Celery, name: str) -> Configuration:
    """Return the settings of an app."""
    conf = app.conf
    spelled = frozenset(
        key for key in conf.without_defaults() if isinstance(key, str) and not key.startswith("_")
    )
    prefix = conf.prefix or ""
    values = {key: conf.get(key) for key in celery_internals.celery_defaults()}
    return Configuration(
        source=f"app {name}",
        values=values,
        explicit=frozenset(_explicit(spelled, prefix)),
        spelled=_settings_among(spelled, conf),
        prefix=prefix,
    )


def configurations_of(replies: Mapping[str, Any]) -> tuple[Configuration, ...]:
    """Return the distinct settings of workers, by their replies to `conf`."""
    groups: list[tuple[list[str], dict[str, Any]]] = []
    for worker, reply in sorted(replies.items()):
        if isinstance(reply, Mapping) and "error" not in reply:
            settings = {key: value for key, value in reply.items() if isinstance(key, str)}
            for workers, known in groups:
                if known == settings:
                    workers.append(worker)
                    break
            else:
                groups.append(([worker], settings))
    return tuple(_of_reply(workers, settings) for workers, settings in groups)


def _of_reply(workers: list[str], settings: Mapping[str, Any]) -> Configuration:
    prefix = _prefix(settings)
    explicit = dict(_named(settings, prefix))
    return Configuration(
        source=f"worker{'s' if len(workers) > 1 else ''} {names(workers)}",
        values={**celery_internals.celery_defaults(), **explicit},
        explicit=frozenset(explicit),
        spelled=frozenset(settings),
        prefix=prefix,
    )


def _prefix(settings: Iterable[str]) -> str:
    """Return the prefix of Django's settings, where names with it are among them."""
    old, new = celery_internals.old_setting_names(), celery_internals.celery_defaults()
    for key in settings:
        name = key.removeprefix(_PREFIX).lower()
        if key.startswith(_PREFIX) and key not in old and name in new:
            return _PREFIX
    return ""


def _named(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Iterate over the known settings by their new names, those that apply last."""
    old, new = celery_internals.old_setting_names(), celery_internals.celery_defaults()
    for key, value in settings.items():
        if key in old:
            yield old[key], value
    for key, value in settings.items():
        if key in new:
            yield key, value
    for key, value in settings.items():
        name = key.removeprefix(prefix).lower()
        if prefix and key.startswith(prefix) and name in new:
            yield name, value


def _explicit(spelled: Iterable[str], prefix: str) -> Iterator[str]:
    yield from (name for name, _ in _named(dict.fromkeys(spelled), prefix))


def _settings_among(spelled: Iterable[str], conf: Any) -> frozenset[str]:
    """Return the names without what a configuration module imports or defines."""
    return frozenset(
        key
        for key in spelled
        if not (callable(conf.get(key)) or type(conf.get(key)).__name__ == "module")
    )


def backend_of(app: Celery) -> str:
    """Return the URL or the name of the result backend of an app; empty where it has none."""
    return backend_url(app.conf.result_backend, app.conf)


def has_urls(app: Celery) -> bool:
    """Return whether an app names its broker."""
    return bool(broker_urls(app.conf))
