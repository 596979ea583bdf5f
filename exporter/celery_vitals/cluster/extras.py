"""Libraries that only some result backends need: asked for at the start, not found missing at the first scrape."""

from __future__ import annotations

import importlib.util

from celery_vitals.errors import ConfigError

_EXTRAS = {
    "db": ("sqlalchemy", "celery-vitals[sqlalchemy]"),
    "database": ("sqlalchemy", "celery-vitals[sqlalchemy]"),
    "cache": ("pymemcache", "celery-vitals[memcached]"),
}


def check_backend(scheme: str, url: str) -> None:
    """Raise ConfigError when a library for this kind of result backend is missing."""
    module, extra = _EXTRAS.get(scheme, ("", ""))
    if not module:
        return
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"--result-backend: {scheme} needs the package {module}: pip install '{extra}'")
    if module == "sqlalchemy":
        _check_driver(url.partition("+")[2])


def _check_driver(url: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(url).get_dialect().import_dbapi()
    except NoSuchModuleError as error:
        raise ConfigError(f"--result-backend: SQLAlchemy does not know this database: {error}") from error
    except ImportError as error:
        raise ConfigError(f"--result-backend: the database's driver is missing: {error}") from error
    except (ArgumentError, ValueError):
        raise ConfigError("--result-backend: what follows db+ is no URL of SQLAlchemy") from None
