"""A fake collector with the interface of the real one, and status snapshots."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.deadline import Deadline
from celery_vitals.events.cases import CaseList
from celery_vitals.events.task_totals import TotalsList
from celery_vitals.exporter import Observed
from celery_vitals.health.document import Document, health_document
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.monitor import HealthMonitor
from celery_vitals.health.verdict import Verdict
from celery_vitals.metrics.births import Births
from celery_vitals.status import ClusterStatus, CollectorStatus, QueueStatus, WorkerStatus
from celery_vitals.workers.state import State


def collector_run(
    name: str, ok: bool | None = True, reason: str = "", at: float = 0.0, seconds: float = 0.004
) -> CollectorStatus:
    return CollectorStatus(name, ok, reason, seconds, at)


def cluster_status(**parts: Any) -> ClusterStatus:
    """Build an empty status with the given `parts`."""
    empty = ClusterStatus(
        "redis", "redis://broker.example:6379/0", "redis://broker.example:6379/1", (), (), (), ()
    )
    return replace(empty, **parts)


class FakeCollector:
    """Yields one gauge; can block and fail, and records its calls."""

    names = ("broker", "backend", "workers", "queues")

    def __init__(self) -> None:
        self.state = cluster_status()
        self.families: list[Metric] = [
            GaugeMetricFamily("celery_broker_up", "Whether the broker answers.", 1)
        ]
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self.go_refresh = threading.Event()
        self.go_refresh.set()
        self.started = threading.Semaphore(0)
        self.asked: list[tuple[float, Collection[str] | None]] = []
        self.births = Births()
        self.max_ages: list[float | None] = []
        self.refreshed: list[float] = []
        self.counted = TotalsList()
        self.totals_read = 0
        self.age: float | None = 0.0
        self.started_refreshes: list[float] = []
        self.monitor = HealthMonitor(HealthLimits())
        self.verdict_at = 0.0
        self._observed: Observed | None = None
        self.slow_close = False
        self.closed: list[float] = []

    def scrape(
        self,
        deadline: Deadline,
        names: Collection[str] | None = None,
        max_age: float | None = None,
    ) -> Iterator[Metric]:
        self.asked.append((deadline.remaining, names))
        self.max_ages.append(max_age)
        self.started.release()
        self.go.wait()
        yield from self.families
        if self.error:
            raise self.error

    def collect(self) -> Iterable[Metric]:
        return self.scrape(Deadline.after(5))

    def refresh(self, max_age: float) -> None:
        self.refreshed.append(max_age)
        self.started.release()
        self.go_refresh.wait()

    def status(self) -> ClusterStatus:
        return self.state

    def cases(self) -> CaseList:
        return self.state.cases

    def totals(self) -> TotalsList:
        self.totals_read += 1
        self.started.release()
        self.go_refresh.wait()
        if self.error:
            raise self.error
        return self.counted

    def results_age(self) -> float | None:
        return self.age

    def start_refresh(self, max_age: float) -> None:
        self.started_refreshes.append(max_age)

    @property
    def health_limits(self) -> HealthLimits:
        return self.monitor.limits

    def observe(self, max_age: float = 1.0) -> Observed:
        at = self.verdict_at or time.time()
        if self._observed is None or self._observed.status is not self.state:
            self._observed = Observed((), self.state, self.monitor.verdict(self.state, at))
        return self._observed

    def verdict(self) -> Verdict:
        return self.observe().verdict

    def health(self) -> Document:
        return health_document(self.verdict(), self.state, self.monitor.limits)

    def close(self, deadline: Deadline) -> None:
        self.closed.append(deadline.remaining)
        if self.slow_close:
            time.sleep(deadline.remaining)


def healthy_status(now: float) -> ClusterStatus:
    """Build the status of a cluster with one queue without consumers."""
    return cluster_status(
        collectors=tuple(collector_run(name, at=now - 7) for name in FakeCollector.names),
        workers=(
            WorkerStatus(
                "celery@mail-7f9c", True, State.UP, "prefork", 8, ("mail", "celery"), 48213, now - 7
            ),
            WorkerStatus(
                "celery@reports-1", True, State.BUSY, "gevent", 100, ("default",), None, now - 7
            ),
            WorkerStatus("celery@old", False, State.GONE, "threads", None, (), 3, now - 1500),
        ),
        queues=(
            QueueStatus("celery", 0, 1, 1),
            QueueStatus("mail", 1204, 1, None),
            QueueStatus("reports", 40, 0, 0),
            QueueStatus("retired", 0, 0, 0),
            QueueStatus("unknown-length", None, 1, None),
        ),
        blind_spots=(
            BlindSpot(
                "Task events",
                "Workers send none, so outcomes and runtimes are not counted.",
                "worker -E",
            ),
            BlindSpot(
                "Unacknowledged messages",
                "AMQP does not provide them.",
                "--rabbitmq-management-url",
            ),
        ),
    )
