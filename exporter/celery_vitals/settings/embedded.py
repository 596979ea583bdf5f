"""The settings of a part of the program that runs inside another application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celery import Celery

from celery_vitals.errors import ConfigError
from celery_vitals.settings.celery_app import load_app, load_configuration
from celery_vitals.settings.click_options import settings_of_keywords

if TYPE_CHECKING:
    from celery_vitals.settings.model import Settings

_HOST_OPTIONS = ("web_listen_address", "log_level", "log_format")


def settings_within(function: str, app: object, options: Mapping[str, Any]) -> Settings:
    """Build the settings from the keyword arguments of a public function.  Raises ConfigError."""
    for name in _HOST_OPTIONS:
        if name in options:
            raise ConfigError(f"{function}: {name} has no effect (the application decides it)")
    if app is not None and not isinstance(app, (Celery, str)):
        raise ConfigError(
            f"{function}: app must be a Celery app or its name, not {type(app).__name__}"
        )
    # A Celery app also replaces a name of the environment.
    given = {} if app is None else {"app": app if isinstance(app, str) else None}
    return settings_of_keywords(function, {**options, **given})


def app_within(app: Celery | str | None, settings: Settings) -> Celery | None:
    """Return the Celery app of an application, with its configuration.  Raises ConfigError."""
    if isinstance(app, Celery):
        load_configuration(app)
        return app
    return load_app(settings.app) if settings.app else None
