"""The verdict on one worker or queue."""

from __future__ import annotations

from collections.abc import Iterable

from celery_vitals.health.codes import Area, Status
from celery_vitals.health.document import (
    MAX_ROWS,
    Document,
    finding_document,
    queue_document,
    utc,
    worker_document,
)
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.verdict import Verdict
from celery_vitals.status import ClusterStatus
from celery_vitals.workers.state import State


class UnknownName(Exception):
    """There is no worker or queue of this name."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {what} {name!r}")
        self.known = sorted(known)

    def document(self) -> Document:
        """Return the error as JSON, with the known names."""
        known = self.known[:MAX_ROWS]
        return {"error": str(self), "known": known, "omitted": len(self.known) - len(known)}


def worker_verdict(name: str, verdict: Verdict, status: ClusterStatus) -> tuple[Status, Document]:
    """Return the status of a worker, and its document.

    Unknown while the workers are not observed, unless it is known to be down.  Raises UnknownName.
    """
    worker = next((one for one in status.workers if one.name == name), None)
    found, document = _of(Area.WORKERS, name, verdict)
    if worker is None and found is Status.HEALTHY:
        raise UnknownName("worker", name, (one.name for one in status.workers))
    if worker is not None and worker.state is State.GONE:
        found = Status.UNHEALTHY
    shown = worker_document(worker) if worker is not None else None
    return found, {"status": found.value, **document, "worker": shown}


def queue_verdict(
    name: str, verdict: Verdict, status: ClusterStatus, limits: HealthLimits
) -> tuple[Status, Document]:
    """Return the status of a queue, and its document.

    Unknown while the queues are not observed, or its length is not.  Raises UnknownName.
    """
    queue = next((one for one in status.queues if one.name == name), None)
    found, document = _of(Area.QUEUES, name, verdict)
    if found is Status.HEALTHY:
        if queue is None:
            raise UnknownName("queue", name, (one.name for one in status.queues))
        found = Status.HEALTHY if queue.length is not None else Status.UNKNOWN
    shown = queue_document(queue, limits) if queue is not None else None
    return found, {"status": found.value, **document, "queue": shown}


def _of(area: Area, name: str, verdict: Verdict) -> tuple[Status, Document]:
    """Return the status by the findings on a subject, and the common part of the document."""
    findings = [one for one in verdict.findings if one.code.area is area and one.subject == name]
    found = findings[0].severity.status if findings else Status.HEALTHY
    if found is Status.HEALTHY and area in verdict.unobserved:
        found = Status.UNKNOWN
    return found, {
        "time": utc(verdict.at),
        "age_seconds": None if verdict.age is None else round(verdict.age, 3),
        "findings": list(map(finding_document, findings)),
    }
