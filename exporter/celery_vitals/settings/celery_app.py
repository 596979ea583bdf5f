"""The Celery app of `--app`."""

from __future__ import annotations

import inspect
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from celery import Celery
from celery.app.utils import find_app
from celery.schedules import schedule

from celery_vitals.errors import ConfigError
from celery_vitals.secrets import Redactor, Secret, secrets_in_mapping
from celery_vitals.settings.app_configuration import broker_urls

log = logging.getLogger(__name__)


def load_app(name: str) -> Celery:
    """Import the app `MODULE:APP` and its configuration; like Celery, from the current directory.

    Raises `ConfigError` with the exception of the import.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        app = find_app(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  user code may raise anything
        # Celery imports MODULE:APP as the name of a module where the module has no such attribute.
        if isinstance(error, ImportError) and ":" in (error.name or ""):
            module, _, attribute = name.partition(":")
            raise ConfigError(f"--app: module {module} has no attribute {attribute}") from None
        raise ConfigError(f"--app: cannot import {name}: {_description(error)}") from None
    if not isinstance(app, Celery):
        raise ConfigError(f"--app: {name} must be a Celery app, not {type(app).__name__}")
    load_configuration(app)
    return app


def load_configuration(app: Celery) -> None:
    """Load the configuration of the app, which Celery loads lazily.  Raises `ConfigError`."""
    with reading(app):
        _ = app.conf.broker_url


@contextmanager
def reading(app: Celery) -> Iterator[None]:
    """Turn what the configuration of the app raises, or what is made of it, into `ConfigError`.

    Celery evaluates parts of it when they are read; `broker_password` may be a function.
    """
    try:
        yield
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  user code may raise anything
        name = app.main or "the app"
        raise ConfigError(
            f"--app: cannot read the configuration of {name}: {_description(error)}"
        ) from None


def task_parameters(app: Celery) -> dict[str, tuple[str, ...]]:
    """Return the names of the parameters of each task, in their order.

    The modules of the tasks are imported; those that cannot be are left out, and logged.
    """
    try:
        app.loader.import_default_modules()
    except (Exception, SystemExit) as error:  # noqa: BLE001  user code may raise anything
        log.warning("--app: cannot import every task: %s", _description(error))
    return {name: tuple(_parameters(task.run)) for name, task in app.tasks.items()}


def periodic_intervals(app: Celery) -> dict[str, float]:
    """Return the interval of each task that beat sends at a fixed interval, in seconds.

    Of a task with several entries, the shortest.  Entries with a crontab have no fixed interval.
    """
    intervals: dict[str, float] = {}
    with reading(app):
        entries = (app.conf.beat_schedule or {}).values()
        for entry in (one for one in entries if isinstance(one, Mapping)):
            task, given = entry.get("task"), entry.get("schedule")
            if given is not None and type(given) is schedule:
                given = given.run_every
            seconds = given.total_seconds() if isinstance(given, timedelta) else given
            if isinstance(task, str) and isinstance(seconds, (int, float)) and seconds > 0:
                intervals[task] = min(float(seconds), intervals.get(task, math.inf))
    return intervals


def _parameters(function: Callable[..., object]) -> Iterator[str]:
    with suppress(TypeError, ValueError):
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                yield parameter.name


def secrets_of(app: Celery) -> list[Secret]:
    """Return every secret value of the configuration of the app.  Raises `ConfigError`."""
    with reading(app):
        return list(_secrets_of(app))


def _secrets_of(app: Celery) -> Iterator[Secret]:
    yield from map(Secret, broker_urls(app.conf))
    for key in ("broker_url", "broker_write_url", "result_backend", "database_url"):
        value = app.conf.get(key)
        for url in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(url, str) and "://" in url:
                yield Secret(url)
    yield from secrets_in_mapping(
        {key: value for key, value in app.conf.items() if isinstance(value, (str, Mapping))}
    )


def _description(error: BaseException) -> str:
    # The secrets of the settings are redacted where the error is printed.
    return " ".join(Redactor()(f"{type(error).__name__}: {error}").split())
