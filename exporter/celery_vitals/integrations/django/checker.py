"""The HealthChecker of a Django project, by its setting CELERY_VITALS."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from celery import Celery
from celery.app import app_or_default
from django.conf import settings

from celery_vitals.errors import ConfigError
from celery_vitals.integrations.health_checker import HealthChecker

SETTING = "CELERY_VITALS"
_DEFAULT_APP = "default"
"""Celery's name of the app that it creates where a project has none."""


def new_checker() -> HealthChecker:
    """Return a checker by the arguments in the settings.  Raises ConfigError."""
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"{SETTING}: must be a dictionary, not {type(given).__name__}")
    arguments = dict(given)
    try:
        return HealthChecker(arguments.pop("app", None) or _current_app(), **arguments)
    except ConfigError as error:
        raise ConfigError(f"{SETTING}: {error}") from None


@cache
def shared_checker() -> HealthChecker:
    """Return the checker of this process."""
    return new_checker()


def _current_app() -> Celery:
    app = app_or_default()
    if app.main == _DEFAULT_APP:
        raise ConfigError(
            "no Celery app (import it in the package of the project, as Celery's manual shows, or"
            " set its name: {'app': 'proj.celery:app'})"
        )
    return app
