"""The Celery app that `--app` names."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from celery import Celery
from celery.app.utils import find_app

from celery_vitals.errors import ConfigError
from celery_vitals.secrets import Redactor, Secret, secrets_in_mapping


def load_app(name: str) -> Celery:
    """Import the app `MODULE:APP`, and its configuration, with the current directory on the path as Celery has it.

    Raises `ConfigError` with the exception that the import raised.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        app = find_app(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  it is the user's code
        raise ConfigError(f"--app: cannot import {name}: {_described(error)}") from None
    if not isinstance(app, Celery):
        raise ConfigError(f"--app: {name} is of the type {type(app).__name__}, not a Celery app")
    load_configuration(app)
    return app


def load_configuration(app: Celery) -> None:
    """Read the configuration of the app now, which Celery otherwise does at its first use.  Raises `ConfigError`."""
    try:
        _ = app.conf.broker_url
    except (Exception, SystemExit) as error:  # noqa: BLE001  it is the user's code
        raise ConfigError(
            f"--app: cannot read the configuration of {app.main}: {_described(error)}"
        ) from None


def has_broker(app: Celery) -> bool:
    """Whether the app says where its broker is; if not, Celery would try RabbitMQ on this host."""
    return bool(app.conf.broker_url or app.conf.broker_read_url)


def secrets_of(app: Celery) -> Iterator[Secret]:
    """Every value in the configuration of the app that must not be shown."""
    for key in ("broker_url", "broker_read_url", "broker_write_url", "result_backend"):
        value = app.conf.get(key)
        for url in (
            [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
        ):
            if isinstance(url, str) and "://" in url:
                yield Secret(url)
    yield from secrets_in_mapping(
        {key: value for key, value in app.conf.items() if isinstance(value, (str, Mapping))}
    )


def _described(error: BaseException) -> str:
    # The settings' own secrets are taken out where the error is printed.
    return Redactor()(f"{type(error).__name__}: {error}")
