"""celery-vitals: a Prometheus exporter for Celery.

The public names are imported on first access, so that a worker can import a part of the package
without the libraries of the exporter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from celery_vitals._version import __version__

if TYPE_CHECKING:
    from celery_vitals.errors import ConfigError, VitalsError
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Secret, Settings
    from celery_vitals.web.embed import asgi_app, wsgi_app

__all__ = [
    "Collector",
    "ConfigError",
    "Secret",
    "Settings",
    "VitalsError",
    "__version__",
    "asgi_app",
    "wsgi_app",
]

_MODULES = {
    "Collector": "celery_vitals.exporter",
    "ConfigError": "celery_vitals.errors",
    "Secret": "celery_vitals.settings",
    "Settings": "celery_vitals.settings",
    "VitalsError": "celery_vitals.errors",
    "asgi_app": "celery_vitals.web.embed",
    "wsgi_app": "celery_vitals.web.embed",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
