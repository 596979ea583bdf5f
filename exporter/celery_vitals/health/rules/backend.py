"""The rules of the result backend."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.health.codes import Code
from celery_vitals.health.findings import Finding
from celery_vitals.health.rules.base import Situation


def down(situation: Situation) -> Iterator[Finding]:
    """Yield that the result backend does not work although the broker responds."""
    backend = situation.status.collector("backend")
    if backend is None or backend.ok is not False or situation.broker_down:
        return
    address = situation.status.backend
    yield situation.finding(
        Code.BACKEND_DOWN,
        "",
        f"The result backend {address} does not work: {backend.reason}.",
        f"Start the result backend, and check that {address} is reachable from the exporter and the"
        " workers.",
        {"address": address, "reason": backend.reason},
        backend.finished_at,
    )
