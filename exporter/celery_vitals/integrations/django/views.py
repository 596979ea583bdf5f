"""The path of the health of Celery, for the URLs of a Django project."""

from __future__ import annotations

from functools import cache

from django.http import HttpRequest, HttpResponse

from celery_vitals.integrations.django.checker import shared_checker
from celery_vitals.integrations.mounts import HealthWsgiApp
from celery_vitals.web.headers import SECURITY
from celery_vitals.web.wsgi import request_of


def health(request: HttpRequest) -> HttpResponse:
    """Respond as /health of the exporter."""
    response = _app().respond(request_of(request.META))
    headers = {**SECURITY, **response.headers}
    return HttpResponse(bytes(response.body), status=response.status_code, headers=headers)


@cache
def _app() -> HealthWsgiApp:
    return HealthWsgiApp(shared_checker())
