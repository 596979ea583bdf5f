"""What a rule knows, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from celery_vitals.health.codes import Code
from celery_vitals.health.findings import Finding
from celery_vitals.health.limits import HealthLimits
from celery_vitals.status import ClusterStatus


@dataclass(frozen=True)
class Situation:
    """A cluster at one moment, and what is expected of it."""

    status: ClusterStatus
    limits: HealthLimits
    now: float
    """Unix time."""

    @property
    def broker_down(self) -> bool:
        """Whether the broker is known to be down: then what follows from it is no finding."""
        broker = self.status.collector("broker")
        return broker is not None and broker.ok is False

    def finding(
        self,
        code: Code,
        subject: str,
        message: str,
        recommendation: str,
        evidence: Mapping[str, str | int | float | None],
        since: float = 0.0,
    ) -> Finding:
        """Return a finding with the weight that the limits give it, and the known evidence."""
        severity = self.limits.severity(code)
        known = {name: value for name, value in evidence.items() if value not in (None, "")}
        return Finding(code, severity, subject, message, recommendation, known, since)


Rule = Callable[[Situation], Iterator[Finding]]
