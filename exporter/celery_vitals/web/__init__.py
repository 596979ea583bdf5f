"""HTTP: the ASGI app, its server, and the web configuration file."""

from celery_vitals.web.app import build_app
from celery_vitals.web.server import serve

__all__ = ["build_app", "serve"]
