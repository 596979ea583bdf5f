"""A check of django-health-check (4.0 or newer)."""

from __future__ import annotations

import dataclasses

from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable, ServiceWarning

from celery_vitals.integrations.django.checker import shared_checker


@dataclasses.dataclass
class CeleryHealth(HealthCheck):  # type: ignore[misc]
    """Whether the Celery cluster is healthy or degraded; with `strict`, whether it is healthy."""

    strict: bool = False

    async def run(self) -> None:
        """Raise an error with the findings."""
        result = await shared_checker().aread()
        found = [one["message"] for one in result.findings if one["severity"] != "info"]
        text = " ".join(found) or result.error or f"The state of Celery is {result.status}."
        if not result.healthy:
            raise ServiceUnavailable(text)
        if self.strict and result.status == "degraded":
            raise ServiceWarning(text)
