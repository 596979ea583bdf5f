"""The configuration of the app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

_TAG = "celery"


class CeleryVitalsConfig(AppConfig):  # type: ignore[misc]
    """Registers the system checks."""

    name = "celery_vitals.integrations.django"
    label = "celery_vitals"
    verbose_name = "celery-vitals"

    def ready(self) -> None:
        """Register the checks, whose module needs Celery."""
        from celery_vitals.integrations.django.system_checks import check_cluster, check_settings

        register(check_settings, _TAG)
        register(check_cluster, _TAG, deploy=True)
