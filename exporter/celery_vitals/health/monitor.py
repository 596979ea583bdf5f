"""The monitor of a cluster: verdicts one after another, and since when each finding lasts."""

from __future__ import annotations

import threading
from dataclasses import replace

from celery_vitals.health.codes import Area, Code, Status
from celery_vitals.health.findings import Finding
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.verdict import Verdict, assess
from celery_vitals.status import ClusterStatus

_MAX_FINDINGS = 10_000
"""Findings of which the beginning is kept."""


class HealthMonitor:
    """Returns verdicts whose findings have a beginning.  Thread-safe."""

    def __init__(self, limits: HealthLimits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._since: dict[tuple[Code, str], float] = {}

    def verdict(self, status: ClusterStatus, now: float) -> Verdict:
        """Return the verdict at this Unix time.

        A finding keeps its beginning while it lasts, and while its area is not observed.
        """
        verdict = assess(status, self.limits, now)
        with self._lock:
            before = self._since
            self._since = {
                key: since for key, since in before.items() if _hidden(key[0].area, verdict)
            }
            findings = tuple(self._dated(one, before, now) for one in verdict.findings)
        return replace(verdict, findings=findings)

    def _dated(
        self, finding: Finding, before: dict[tuple[Code, str], float], now: float
    ) -> Finding:
        key = finding.code, finding.subject
        since = min(before.get(key, now), finding.since or now)
        if key in before or len(self._since) < _MAX_FINDINGS:
            self._since[key] = since
        return replace(finding, since=since)


def _hidden(area: Area, verdict: Verdict) -> bool:
    """Return whether findings of the area may last unobserved.

    The broker hides all: without it, nothing else is observed.
    """
    down = any(one.code is Code.BROKER_DOWN for one in verdict.findings)
    return verdict.areas[area] is Status.UNKNOWN or (down and area is not Area.BROKER)
