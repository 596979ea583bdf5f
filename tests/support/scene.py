"""A cluster that only exists as its events: what tests of the events' side feed, and what they read back."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from celery_vitals.events import processor as ingest_module
from celery_vitals.events.processor import EventProcessor
from celery_vitals.events.task_labels import KwargLabel, TaskSeriesIndex
from celery_vitals.events.task_series import TaskTables
from celery_vitals.events.task_tracker import TaskTracker
from celery_vitals.events.worker_tracker import WorkerTracker
from celery_vitals.metrics import definitions as definitions
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.workers import WorkerRegistry

NOW = 1_800_000_000.0
WORKER, PRODUCER = "w@one", "gen1@two"
CAPS = {"task": 50, "queue": 20, "exception": 20, "worker": 20}
BUCKETS = (1.0, 10.0, 100.0)


class _Source(CollectorRegistry):
    """Families as prometheus_client's encoders want them."""

    def __init__(self, families: Sequence[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Any:
        return self._families


class Scene:
    """Everything from the bodies of messages to the families of a scrape, and a clock that the test moves."""

    def __init__(
        self,
        limit: int = 10_000,
        forget_after: float = 3600.0,
        caps: Mapping[str, int] | None = None,
        series: int = 50_000,
        worker_label: bool = False,
        kwarg_label: KwargLabel | None = None,
        kept: int = 200,
        hosts: int = 100,
        idle: float = 3600.0,
        settled: bool = True,
    ) -> None:
        self.now = NOW
        self.limiter = CardinalityLimiter({**CAPS, **(caps or {})}, series, threading.Lock())
        extra = (
            *(("worker",) if worker_label else ()),
            *((kwarg_label.label,) if kwarg_label else ()),
        )
        self.tables = TaskTables(self.limiter, lambda _: BUCKETS, lambda _: BUCKETS, extra)
        self.rows = TaskSeriesIndex(self.tables, worker_label, kwarg_label, kept)
        self.tasks = TaskTracker(self.rows, limit, forget_after)
        self.registry = WorkerRegistry(120.0, 3600.0)
        self.processor = EventProcessor(
            self.registry, self.tasks, self.rows, self.limiter, hosts, idle
        )
        if settled:  # it has told which queues it consumes, and nothing follows from that
            self.consumes(WORKER, "q", "r")

    # Feeding

    def feed(self, *bodies: bytes) -> None:
        self.processor.feed(bodies, self.now)

    def event(self, kind: str, uuid: str = "", **fields: Any) -> dict[str, Any]:
        """An event of now, as a worker sends it."""
        event = {
            "type": kind,
            "hostname": WORKER,
            "pid": 10,
            "utcoffset": 0,
            "timestamp": self.now,
            **fields,
        }
        return {**event, "uuid": uuid} if uuid else event

    def tell(self, kind: str, uuid: str = "", after: float = 0.01, **fields: Any) -> None:
        """Some time passes, then an event happens and arrives at once."""
        self.now += after
        self.feed(json.dumps(self.event(kind, uuid, **fields)).encode())

    def sent(
        self, uuid: str, name: str | None = "add", queue: str | None = "q", **fields: Any
    ) -> None:
        self.tell(
            "task-sent",
            uuid,
            **{"hostname": PRODUCER, "name": name, "queue": queue, "pid": 1, **fields},
        )

    def received(self, uuid: str, name: str | None = "add", **fields: Any) -> None:
        self.tell("task-received", uuid, name=name, **fields)

    def started(self, uuid: str, **fields: Any) -> None:
        self.tell("task-started", uuid, **fields)

    def succeeded(self, uuid: str, **fields: Any) -> None:
        self.tell("task-succeeded", uuid, **{"runtime": 0.5, **fields})

    def failed(self, uuid: str, exception: str = "ValueError('x')", **fields: Any) -> None:
        self.tell("task-failed", uuid, exception=exception, traceback="", **fields)

    def run(self, uuid: str, name: str = "add", **fields: Any) -> None:
        """A whole life without task-sent."""
        self.received(uuid, name, **fields)
        self.started(uuid, **fields)
        self.succeeded(uuid, **fields)

    def heartbeat(
        self, processed: int | None = None, active: int | None = None, **fields: Any
    ) -> None:
        self.tell(
            "worker-heartbeat", freq=2, **{"active": active, "processed": processed, **fields}
        )

    def consumes(self, worker: str, *queues: str) -> None:
        self.registry.queues_replied(worker, [{"name": queue} for queue in queues])
        self.idle()

    def idle(self, seconds: float = 0.0) -> None:
        """Time passes, and the stream says so."""
        self.now += seconds
        with mock.patch.object(ingest_module, "time", SimpleNamespace(time=lambda: self.now)):
            self.processor.idle()

    # Reading

    def families(self) -> list[Metric]:
        return [*self.processor.families(), *definitions.families(self.processor.samples())]

    def text(self) -> str:
        """The exposition, by prometheus_client alone."""
        return generate_latest(_Source(self.families())).decode()

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((f"celery_{name}", tuple(sorted(labels.items()))))

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of a metric that have these labels."""
        return sum(
            value
            for (metric, pairs), value in self.samples().items()
            if metric == f"celery_{name}" and set(labels.items()) <= set(pairs)
        )

    def labels(self, name: str, label: str) -> set[str]:
        return {
            dict(pairs)[label] for (metric, pairs) in self.samples() if metric == f"celery_{name}"
        }

    def task(self, name: str = "add", queue: str = "q") -> dict[str, float]:
        """The counters of a task that are not 0, by their short names; failed and revoked over all their reasons."""
        kinds = (
            "sent",
            "received",
            "started",
            "succeeded",
            "retried",
            "rejected",
            "failed",
            "revoked",
        )
        values = {kind: self.total(f"task_{kind}_total", task=name, queue=queue) for kind in kinds}
        return {kind: value for kind, value in values.items() if value}

    def waits(self, name: str = "add", queue: str = "q") -> tuple[float, float]:
        """How many waits were observed, and their sum in seconds."""
        labels = {"task": name, "queue": queue}
        return (
            self.total("task_queue_wait_seconds_count", **labels),
            round(self.total("task_queue_wait_seconds_sum", **labels), 3),
        )

    def running(self, name: str = "add") -> float:
        return self.value("task_running", task=name) or 0.0

    def host(self, name: str = WORKER) -> WorkerTracker:
        return self.processor._host(name, self.now)

    @property
    def records(self) -> int:
        return len(self.tasks)

    @property
    def rejected(self) -> dict[str, float]:
        return {
            dict(pairs)["reason"]: value
            for (metric, pairs), value in self.samples().items()
            if metric == "celery_exporter_events_rejected_total"
        }
