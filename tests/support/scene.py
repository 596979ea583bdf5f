"""A simulated cluster: tests of the event processing send its events and read the metrics back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from celery_vitals.events.kwarg_label import KwargLabel
from celery_vitals.events.ledger import Redelivery
from celery_vitals.events.persistence import Persistence
from celery_vitals.events.processor import EventProcessor
from celery_vitals.events.task_series import TaskSeriesIndex
from celery_vitals.events.task_tables import TaskTables
from celery_vitals.events.task_tracker import TaskTracker
from celery_vitals.events.worker_tracker import WorkerTracker
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.definitions import DEFINITIONS
from celery_vitals.metrics.samples import SampleEncoder
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.task_settings import TaskSettings

NOW = 1_800_000_000.0
WORKER, PRODUCER = "w@one", "gen1@two"
CAPS = {"task": 50, "queue": 20, "exception": 20, "worker": 20, "producer": 20}
BUCKETS = (1.0, 10.0, 100.0)


class _Registry(CollectorRegistry):
    """Families as the encoders of prometheus_client require them."""

    def __init__(self, families: Sequence[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Any:
        return self._families


class _Settings(TaskSettings):
    """The settings of any task, all with the same acknowledgement."""

    def __init__(self, late: bool | None) -> None:
        super().__init__()
        self._late = late

    def late(self, name: str) -> bool | None:
        return self._late


class Scene:
    """Everything from the bodies of messages to the families of a scrape, and a clock set by hand.

    `queues_known`: whether the worker has reported that it consumes two queues, so that its events
    are not deferred, and their queue is not known by it either.
    """

    def __init__(
        self,
        max_tasks: int = 10_000,
        forget_after: float = 3600.0,
        caps: Mapping[str, int] | None = None,
        max_series: int = 50_000,
        worker_label: bool = False,
        kwarg_label: KwargLabel | None = None,
        capacity: int = 200,
        max_workers: int = 100,
        idle_after: float = 3600.0,
        queues_known: bool = True,
        on_new_worker: Callable[[], None] = lambda: None,
        registry: WorkerRegistry | None = None,
        late: bool | None = None,
        visibility_timeout: float | None = None,
        redelivers: bool = False,
    ) -> None:
        self.now = NOW
        self._clock = count()
        self.limiter = CardinalityLimiter({**CAPS, **(caps or {})}, max_series, threading.Lock())
        extra = (
            *(("worker",) if worker_label else ()),
            *((kwarg_label.label,) if kwarg_label else ()),
        )
        self.tables = TaskTables(self.limiter, lambda _: BUCKETS, lambda _: BUCKETS, extra)
        self.index = TaskSeriesIndex(self.tables, worker_label, kwarg_label, capacity)
        redelivery = Redelivery(lambda: visibility_timeout, redelivers)
        self.tasks = TaskTracker(self.index, max_tasks, forget_after, redelivery)
        self.registry = registry or WorkerRegistry(120.0, 3600.0)
        self.processor = EventProcessor(
            self.registry,
            self.tasks,
            self.index,
            self.limiter,
            max_workers=max_workers,
            idle_after=idle_after,
            on_new_worker=on_new_worker,
            task_settings=_Settings(late),
            clock=lambda: self.now,
        )
        self.sink: EventProcessor | Persistence = self.processor
        if queues_known and registry is None:
            self.consumes(WORKER, "q", "r")

    def missing(self) -> float:
        """Return the balance of the books, over all tasks and queues: what has entered, less what
        has left with a known end, less what is inside."""
        samples = self.samples()

        def total(name: str, **labels: str) -> float:
            return sum(
                value
                for (one, pairs), value in samples.items()
                if one == f"celery_{name}" and labels.items() <= dict(pairs).items()
            )

        entered = total("task_sent_total") + total("task_without_sent_event")
        left = sum(
            total(f"task_{column}_total")
            for column in ("succeeded", "failed", "revoked", "rejected", "retried", "redelivered")
        )
        lost = total("task_lost_total") - total("task_lost_total", reason="child_killed")
        back = total("task_requeued_total") + total("task_found_total")
        silent = total("task_end_unknown_total", reason="silent")
        inside = total("task_in_flight") + total("task_orphaned")
        return entered - (left + lost - back + silent) - inside

    def unknown(self) -> float:
        """Return the number of executions whose end is unknown."""
        reasons = ("missed", "no_message", "evicted")
        return sum(self.total("task_end_unknown_total", reason=reason) for reason in reasons)

    # Sending events

    def feed(self, *bodies: bytes) -> None:
        """Feed the bodies of messages that arrive now."""
        self.sink.feed(bodies, self.now)

    def event(self, kind: str, uuid: str = "", **fields: Any) -> dict[str, Any]:
        """Return an event with the present time, as a worker sends it."""
        event = {
            "type": kind,
            "hostname": WORKER,
            "pid": 10,
            "utcoffset": 0,
            "timestamp": self.now,
            "clock": next(self._clock),
            **fields,
        }
        return {**event, "uuid": uuid} if uuid else event

    def send(self, kind: str, uuid: str = "", after: float = 0.01, **fields: Any) -> None:
        """Let some time pass, then send an event that arrives at once."""
        self.now += after
        self.feed(json.dumps(self.event(kind, uuid, **fields)).encode())

    def sent(
        self, uuid: str, name: str | None = "add", queue: str | None = "q", **fields: Any
    ) -> None:
        producer = {"hostname": PRODUCER, "name": name, "queue": queue, "pid": 1}
        self.send("task-sent", uuid, **{**producer, **fields})

    def received(self, uuid: str, name: str | None = "add", **fields: Any) -> None:
        self.send("task-received", uuid, name=name, **fields)

    def started(self, uuid: str, **fields: Any) -> None:
        self.send("task-started", uuid, **fields)

    def succeeded(self, uuid: str, **fields: Any) -> None:
        self.send("task-succeeded", uuid, **{"runtime": 0.5, **fields})

    def failed(self, uuid: str, exception: str = "ValueError('x')", **fields: Any) -> None:
        self.send("task-failed", uuid, exception=exception, traceback="", **fields)

    def run(self, uuid: str, name: str = "add", **fields: Any) -> None:
        """Send all events of a task except task-sent."""
        self.received(uuid, name, **fields)
        self.started(uuid, **fields)
        self.succeeded(uuid, **fields)

    def heartbeat(
        self, processed: int | None = None, active: int | None = None, **fields: Any
    ) -> None:
        counts = {"active": active, "processed": processed}
        self.send("worker-heartbeat", freq=2, **{**counts, **fields})

    def consumes(self, worker: str, *queues: str) -> None:
        self.registry.queues_replied(worker, [{"name": queue} for queue in queues])
        self.idle()

    def idle(self, seconds: float = 0.0) -> None:
        """Let time pass without events."""
        self.now += seconds
        self.sink.idle()

    # Reading metrics

    def families(self) -> list[Metric]:
        return [
            *self.processor.families(),
            *self.tables.families(),
            *SampleEncoder(DEFINITIONS).families(self.processor.samples()),
        ]

    def text(self) -> str:
        """Return the exposition, encoded by prometheus_client."""
        return generate_latest(_Registry(self.families())).decode()

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((f"celery_{name}", tuple(sorted(labels.items()))))

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all series of a metric that have these labels."""
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
        """Return the counters of a task that are not 0, by event; those by reason are summed up."""
        kinds = (
            "sent", "received", "started", "succeeded", "retried", "rejected", "failed", "revoked",
        )  # fmt: skip
        values = {kind: self.total(f"task_{kind}_total", task=name, queue=queue) for kind in kinds}
        return {kind: value for kind, value in values.items() if value}

    def waits(self, name: str = "add", queue: str = "q") -> tuple[float, float]:
        """Return how many waits were observed, and their sum in seconds."""
        labels = {"task": name, "queue": queue}
        return (
            self.total("task_queue_wait_seconds_count", **labels),
            round(self.total("task_queue_wait_seconds_sum", **labels), 3),
        )

    def running(self, name: str = "add") -> float:
        return self.value("task_running", task=name) or 0.0

    def tracker(self, name: str = WORKER) -> WorkerTracker:
        return self.processor._workers.worker(name, self.now)

    @property
    def tracked_tasks(self) -> int:
        return len(self.tasks)

    @property
    def rejected(self) -> dict[str, float]:
        return {
            dict(pairs)["reason"]: value
            for (metric, pairs), value in self.samples().items()
            if metric == "celery_exporter_events_rejected_total"
        }
