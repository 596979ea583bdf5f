"""celery-vitals: the vital signs of a Celery cluster, as Prometheus metrics.

Importing this starts nothing and loads next to nothing: what is public is loaded when it is first asked for, so that a
worker can import a part of the package without the exporter's libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from celery_vitals._version import __version__

if TYPE_CHECKING:
    from celery_vitals.errors import ConfigError, VitalsError
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Secret, Settings

__all__ = ["Collector", "ConfigError", "Secret", "Settings", "VitalsError", "__version__"]

_HOME = {
    "Collector": "celery_vitals.exporter",
    "ConfigError": "celery_vitals.errors",
    "Secret": "celery_vitals.settings",
    "Settings": "celery_vitals.settings",
    "VitalsError": "celery_vitals.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
