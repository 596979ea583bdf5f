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
    from celery_vitals.integrations.caches import MemoryCache, RedisCache
    from celery_vitals.integrations.checks import BackendCheck, BrokerCheck, WorkersCheck
    from celery_vitals.integrations.health_checker import HealthChecker
    from celery_vitals.integrations.mounts import make_asgi_app, make_wsgi_app
    from celery_vitals.integrations.results import CheckResult, HealthResult
    from celery_vitals.settings import Secret, Settings
    from celery_vitals.web.embed import asgi_app, wsgi_app

__all__ = [
    "BackendCheck",
    "BrokerCheck",
    "CheckResult",
    "Collector",
    "ConfigError",
    "HealthChecker",
    "HealthResult",
    "MemoryCache",
    "RedisCache",
    "Secret",
    "Settings",
    "VitalsError",
    "WorkersCheck",
    "__version__",
    "asgi_app",
    "make_asgi_app",
    "make_wsgi_app",
    "wsgi_app",
]

_MODULES = {
    "BackendCheck": "celery_vitals.integrations.checks",
    "BrokerCheck": "celery_vitals.integrations.checks",
    "CheckResult": "celery_vitals.integrations.results",
    "Collector": "celery_vitals.exporter",
    "ConfigError": "celery_vitals.errors",
    "HealthChecker": "celery_vitals.integrations.health_checker",
    "HealthResult": "celery_vitals.integrations.results",
    "MemoryCache": "celery_vitals.integrations.caches",
    "RedisCache": "celery_vitals.integrations.caches",
    "Secret": "celery_vitals.settings",
    "Settings": "celery_vitals.settings",
    "VitalsError": "celery_vitals.errors",
    "WorkersCheck": "celery_vitals.integrations.checks",
    "asgi_app": "celery_vitals.web.embed",
    "make_asgi_app": "celery_vitals.integrations.mounts",
    "make_wsgi_app": "celery_vitals.integrations.mounts",
    "wsgi_app": "celery_vitals.web.embed",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
