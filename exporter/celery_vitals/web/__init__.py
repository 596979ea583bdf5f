"""HTTP: the ASGI and WSGI apps, the server, and the web configuration file."""

from celery_vitals.web.server import serve

__all__ = ["serve"]
