"""The verdict as JSON: the one shape of /health, of the command `check` and of Python."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from celery_vitals.health.codes import Area, Status
from celery_vitals.health.findings import Finding
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.verdict import Verdict
from celery_vitals.status import ClusterStatus, QueueStatus, WorkerStatus

MAX_ROWS = 1000
"""Workers, queues and findings in one document; the worst are listed."""

Document = dict[str, Any]


def health_document(verdict: Verdict, status: ClusterStatus, limits: HealthLimits) -> Document:
    """Return the document; docs/schemas/health.json describes it."""
    findings = verdict.findings[:MAX_ROWS]
    return {
        "status": verdict.status.value,
        "time": utc(verdict.at),
        "age_seconds": None if verdict.age is None else round(verdict.age, 3),
        "checks": {area.value: verdict.areas[area].value for area in Area},
        "broker": _broker(status),
        "backend": _backend(status),
        "events": _events(status),
        "workers": _workers(verdict, status, limits),
        "queues": _queues(verdict, status, limits),
        "findings": [finding_document(finding) for finding in findings],
        "omitted_findings": len(verdict.findings) - len(findings),
        "recommendations": list(dict.fromkeys(one.recommendation for one in findings)),
        "unknown": [
            {"subject": spot.subject, "reason": spot.reason, "setting": spot.setting or None}
            for spot in verdict.unknown
        ],
    }


def finding_document(finding: Finding) -> Document:
    """Return one finding."""
    return {
        "code": finding.code.value,
        "severity": finding.severity.value,
        "area": finding.code.area.value,
        "subject": finding.subject or None,
        "message": finding.message,
        "evidence": dict(finding.evidence),
        "since": utc(finding.since),
        "recommendation": finding.recommendation,
        "runbook": finding.code.runbook_url,
    }


def worker_document(worker: WorkerStatus) -> Document:
    """Return one worker; null is unknown."""
    return {
        "name": worker.name,
        "up": worker.up,
        "state": worker.state.value,
        "pool": worker.pool or None,
        "slots": worker.slots,
        "queues": list(worker.queues),
        "last_seen": utc(worker.last_seen),
    }


def queue_document(queue: QueueStatus, limits: HealthLimits) -> Document:
    """Return one queue; null is unknown."""
    return {
        "name": queue.name,
        "length": queue.length,
        "workers": queue.workers,
        "consumers": queue.consumers,
        "limit": limits.queue_limit(queue),
        "oldest_message": _utc(queue.oldest_message),
    }


def _broker(status: ClusterStatus) -> Document:
    state, reason = _state(status, Area.BROKER)
    refusal = status.broker_state.reason
    return {
        "status": state,
        "transport": status.transport,
        "address": status.broker,
        "writable": status.broker_state.writable,
        "reason": refusal.description if refusal else reason,
    }


def _backend(status: ClusterStatus) -> Document | None:
    if not status.backend:
        return None
    state, reason = _state(status, Area.BACKEND)
    return {"status": state, "address": status.backend, "reason": reason}


def _state(status: ClusterStatus, area: Area) -> tuple[str, str | None]:
    run = status.collector(area.value)
    if run is None or run.ok is None:
        return "unknown", None
    return ("up", None) if run.ok else ("down", run.reason)


def _events(status: ClusterStatus) -> Document | None:
    tasks = status.tasks
    if tasks is None:
        return None
    never = tasks.watched_since is None and not tasks.stream_reason
    return {
        "status": "up" if tasks.stream_up else "unknown" if never else "down",
        "connected_since": _utc(tasks.connected_since),
        "reason": None if tasks.stream_up else tasks.stream_reason or None,
    }


def _workers(verdict: Verdict, status: ClusterStatus, limits: HealthLimits) -> Document:
    worst = _by_severity(verdict, Area.WORKERS)
    ordered = sorted(status.workers, key=lambda one: (-worst.get(one.name, -1), one.up, one.name))[
        :MAX_ROWS
    ]
    known = bool(status.workers) or verdict.areas[Area.WORKERS] is not Status.UNKNOWN
    return {
        "count": len(status.workers) if known else None,
        "up": sum(worker.up for worker in status.workers) if known else None,
        "minimum": limits.min_workers,
        "names": sorted(worker.name for worker in ordered if worker.up),
        "list": list(map(worker_document, ordered)),
        "omitted": len(status.workers) - len(ordered),
    }


def _queues(verdict: Verdict, status: ClusterStatus, limits: HealthLimits) -> Document:
    worst = _by_severity(verdict, Area.QUEUES)
    ordered = sorted(
        status.queues, key=lambda one: (-worst.get(one.name, -1), -(one.length or 0), one.name)
    )[:MAX_ROWS]
    known = bool(status.queues) or verdict.areas[Area.QUEUES] is not Status.UNKNOWN
    return {
        "count": len(status.queues) if known else None,
        "list": [queue_document(queue, limits) for queue in ordered],
        "omitted": len(status.queues) - len(ordered),
    }


def _by_severity(verdict: Verdict, area: Area) -> dict[str, int]:
    """Return the rank of the worst finding of each subject of an area."""
    ranks: dict[str, int] = {}
    for finding in verdict.findings:
        if finding.code.area is area:
            ranks[finding.subject] = max(finding.severity.rank, ranks.get(finding.subject, 0))
    return ranks


def utc(when: float) -> str:
    """Return a Unix time in ISO 8601."""
    return f"{datetime.fromtimestamp(when, timezone.utc).isoformat()[:19]}Z"


def _utc(when: float | None) -> str | None:
    return utc(when) if when else None
