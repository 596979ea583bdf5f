"""Status snapshots for the verdict: a healthy cluster, and changes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from celery_vitals.brokers.writability import Writability
from celery_vitals.events.task_status import TasksStatus
from celery_vitals.health.codes import Code
from celery_vitals.health.findings import Finding
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.verdict import Verdict, assess
from celery_vitals.status import ClusterStatus, CollectorStatus, QueueStatus, WorkerStatus
from celery_vitals.workers.state import State

NOW = 1_800_000_000.0
NAMES = ("broker", "backend", "workers", "queues")


def run(name: str, ok: bool | None = True, reason: str = "", at: float = NOW) -> CollectorStatus:
    return CollectorStatus(name, ok, reason, 0.01, at)


def worker(name: str = "w@h", **parts: Any) -> WorkerStatus:
    up = WorkerStatus(name, True, State.UP, "prefork", 4, ("celery",), 1, NOW - 1)
    return replace(up, **parts)


def queue(name: str = "celery", **parts: Any) -> QueueStatus:
    return replace(QueueStatus(name, 0, 1, 1), **parts)


def tasks(**parts: Any) -> TasksStatus:
    live = TasksStatus(True, "", NOW - 100_000, NOW - 100_000)
    return replace(live, **parts)


def healthy(**parts: Any) -> ClusterStatus:
    """Return the status of a healthy cluster with the given parts."""
    status = ClusterStatus(
        "redis",
        "redis://broker.example:6379/0",
        "redis://broker.example:6379/1",
        tuple(map(run, NAMES)),
        (worker(),),
        (queue(),),
        (),
        Writability(writable=True),
        workers_known=True,
        tasks=tasks(),
    )
    return replace(status, **parts)


def failed(*names: str, **parts: Any) -> ClusterStatus:
    """Return a healthy cluster whose collectors of these names have failed."""
    runs = tuple(run(name, name not in names, "timeout" * (name in names)) for name in NAMES)
    return healthy(collectors=runs, **parts)


def verdict_on(status: ClusterStatus, **limits: Any) -> Verdict:
    return assess(status, HealthLimits(**limits), NOW)


def codes(status: ClusterStatus, **limits: Any) -> list[str]:
    """Return the codes of the findings, the worst first."""
    return [finding.code.value for finding in verdict_on(status, **limits).findings]


def only(status: ClusterStatus, code: Code, **limits: Any) -> Finding:
    """Return the one finding, which has this code."""
    (finding,) = verdict_on(status, **limits).findings
    assert finding.code is code
    return finding
