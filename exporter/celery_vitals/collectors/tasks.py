"""The events of a cluster, followed: the stream, what becomes of it, and what a scrape gets of that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from prometheus_client.core import Metric

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers import BrokerClient
from celery_vitals.deadline import Deadline
from celery_vitals.events.processor import EventProcessor
from celery_vitals.events.stream import Stream
from celery_vitals.events.task_labels import KwargLabel, TaskSeriesIndex
from celery_vitals.events.task_series import TaskTables
from celery_vitals.events.task_tracker import TaskTracker
from celery_vitals.metrics import definitions as definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.settings import Settings
from celery_vitals.workers import WorkerRegistry


class TasksCollector:
    """Follows the task events in a thread of its own, from `start` on."""

    name = "tasks"

    def __init__(
        self,
        broker: BrokerClient,
        registry: WorkerRegistry,
        settings: Settings,
        came: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._asked = settings.enable_events
        limiter = CardinalityLimiter(_caps(settings), settings.max_series, threading.Lock())
        kwarg_label = KwargLabel(*settings.task_label) if settings.task_label else None
        extra = (*settings.task_labels, *((kwarg_label.label,) if kwarg_label else ()))
        tables = TaskTables(limiter, settings.runtime_buckets_of, settings.wait_buckets_of, extra)
        rows = TaskSeriesIndex(
            tables, "worker" in settings.task_labels, kwarg_label, settings.max_task_names * 4
        )
        tasks = TaskTracker(rows, settings.max_tasks, settings.task_forget_after)
        self._processor = EventProcessor(
            registry, tasks, rows, limiter, settings.max_workers, settings.series_forget_after
        )
        self._stream = Stream(
            broker,
            self._processor,
            durable_queue=settings.event_queue,
            enable_events=settings.enable_events,
        )
        self._came = came
        self._processor.came = self._worker_came
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Begin; not a second time."""
        with self._starting:
            if not self._started:
                self._started = True
                self._stream.start()

    def stop(self, deadline: Deadline) -> None:
        """End, and remove from the broker what was set up there."""
        if self._started:
            self._stream.stop(deadline)

    def _worker_came(self) -> None:
        self._stream.enable_now()
        self._came()

    @property
    def up(self) -> bool:
        """Whether the stream hears."""
        return self._stream.up

    def queues(self) -> set[str]:
        """The queues that events have told of lately."""
        return self._processor.queues()

    def families(self) -> Iterator[Metric]:
        """The series of tasks."""
        return self._processor.families()

    def samples(self) -> Iterator[Sample]:
        """All else."""
        yield definitions.EVENT_STREAM_UP(self._stream.up)
        if self._stream.lag is not None:
            yield definitions.EVENT_LAG(self._stream.lag)
        yield from self._processor.samples()

    def blind_spots(self) -> Iterator[BlindSpot]:
        """Who does not tell."""
        if not self._stream.up:
            why = f"now: {self._stream.reason.words}" if self._stream.reason else "yet"
            yield BlindSpot("task_events", f"Task events are not heard {why}.", "")
            return
        silent = self._processor.silent()
        if silent and not self._asked:
            names = ", ".join(sorted(silent)[:3]) + (" and others" if len(silent) > 3 else "")
            text = f"Task events are off at {names}: of the tasks that run there, no more than their number is seen."
            yield BlindSpot("task_events", text, "--enable-events")


def _caps(settings: Settings) -> dict[str, int]:
    caps = {
        "task": settings.max_task_names,
        "queue": settings.max_queue_names,
        "exception": settings.max_exceptions,
        "worker": settings.max_workers,
    }
    return caps | (
        {settings.task_label[0]: settings.max_label_values} if settings.task_label else {}
    )
