"""The HealthChecker of a Django project, by its setting CELERY_VITALS."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from django.conf import settings

from celery_vitals.errors import ConfigError
from celery_vitals.integrations.health_checker import HealthChecker
from celery_vitals.settings.celery_app import load_app

SETTING = "CELERY_VITALS"


def new_checker() -> HealthChecker:
    """Return a checker by the arguments in the settings.  Raises ConfigError."""
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"{SETTING}: must be a dictionary, not {type(given).__name__}")
    arguments = dict(given)
    try:
        return HealthChecker(arguments.pop("app", None) or _app_name(), **arguments)
    except ConfigError as error:
        raise ConfigError(f"{SETTING}: {error}") from None


@cache
def shared_checker() -> HealthChecker:
    """Return the checker of this process."""
    return new_checker()


def _app_name() -> str:
    """Return the package of the settings that has a Celery app, found as `celery -A` does.

    Celery's current app belongs to the thread that has created it, and requests have others.
    """
    packages = str(getattr(settings, "SETTINGS_MODULE", "")).split(".")[:-1]
    for size in range(len(packages), 0, -1):
        name = ".".join(packages[:size])
        try:
            load_app(name)
        except ConfigError as error:
            reason = error
            continue
        return name
    why = f"{reason}; " if packages else ""
    raise ConfigError(f"no Celery app ({why}set its name: {{'app': 'proj.celery:app'}})")
