"""Collects task events: the event stream, its processor, and their series at a scrape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from prometheus_client.core import Metric

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.base import DURABLE_SECONDS, never
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.target import Target
from celery_vitals.collectors.base import BaseCollector, Dependencies
from celery_vitals.collectors.visibility_timeout import visibility_timeout
from celery_vitals.collectors.workers import WorkersCollector
from celery_vitals.deadline import Deadline
from celery_vitals.events.cases import Case, CaseList
from celery_vitals.events.kwarg_label import KwargLabel
from celery_vitals.events.ledger import Redelivery
from celery_vitals.events.persistence import Persistence
from celery_vitals.events.processor import EventProcessor
from celery_vitals.events.state_file import StateIdentity
from celery_vitals.events.stream import Stream
from celery_vitals.events.task_series import TaskSeriesIndex
from celery_vitals.events.task_status import TasksStatus
from celery_vitals.events.task_tables import TaskTables
from celery_vitals.events.task_totals import TotalsList
from celery_vitals.events.task_tracker import TaskTracker
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.metrics.births import Births
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.probe_runner import Outcome
from celery_vitals.settings import Settings
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.task_settings import TaskSettings

_ENOUGH_RECEIVED = 10
"""Tasks received without a task-sent event, from which on producers are considered to send none."""
_PREFIXES = ("global_keyprefix", "fanout_prefix")
"""Transport options that separate clusters on one Redis."""
_NOT_CONNECTED = "The event stream is not connected yet."


class TasksCollector(BaseCollector[None]):
    """The collector that counts task events; a thread of its own receives them from `start` on.

    `probe_workers` starts a probe of the workers: the queues of a new one are needed before the
    next scrape, to count its tasks.
    """

    name = "tasks"

    @classmethod
    def create(cls, shared: Dependencies) -> TasksCollector | None:
        """Return the collector where it is enabled and the broker kind has broadcasts."""
        events = shared.broker.target.capabilities.events
        if cls.name not in shared.settings.collectors:
            return None
        if not events:
            shared.add_unsupported("task_events", "Task events are not received", events)
            return None
        probe_workers = partial(shared.probe_now, WorkersCollector.name)
        created = cls(
            shared.broker,
            shared.workers,
            shared.settings,
            probe_workers,
            shared.births,
            shared.task_settings,
        )
        shared.queue_listeners.append(created._sink.compare_with_broker)
        return created

    def __init__(
        self,
        broker: BrokerClient,
        registry: WorkerRegistry,
        settings: Settings,
        probe_workers: Callable[[], None],
        births: Births | None = None,
        task_settings: TaskSettings | None = None,
    ) -> None:
        self._enables_events = settings.enable_events
        limiter = CardinalityLimiter(
            _label_limits(settings), settings.max_series, threading.Lock(), births
        )
        kwarg_label = (
            KwargLabel(*settings.task_label, broker.target.task_parameters)
            if settings.task_label
            else None
        )
        extra = (*settings.task_labels, *((kwarg_label.label,) if kwarg_label else ()))
        self._tables = TaskTables(
            limiter, settings.runtime_buckets_of, settings.wait_buckets_of, extra
        )
        index = TaskSeriesIndex(
            self._tables, "worker" in settings.task_labels, kwarg_label, settings.max_task_names * 4
        )
        redelivery = Redelivery(
            partial(visibility_timeout, broker.target, registry),
            broker.target.kind.redelivers_on_disconnect,
        )
        tasks = TaskTracker(index, settings.max_tasks, settings.task_forget_after, redelivery)
        self._processor = EventProcessor(
            registry,
            tasks,
            index,
            limiter,
            max_workers=settings.max_workers,
            idle_after=settings.series_forget_after,
            on_new_worker=self._handle_new_worker,
            drain_timeout=settings.worker_drain_timeout,
            task_settings=task_settings,
        )
        self._persistence = (
            Persistence(
                self._processor,
                settings.state_file,
                _identity(broker.target, extra),
                durable_seconds=DURABLE_SECONDS if settings.event_queue else 0.0,
                max_age=settings.task_forget_after,
            )
            if settings.state_file
            else None
        )
        self._sink = self._persistence or self._processor
        self._stream = Stream(
            broker,
            self._sink,
            durable_queue=settings.event_queue,
            was_processed=self._persistence.was_processed if self._persistence else never,
            enable_events=settings.enable_events,
            # A command that workers refuse is an error in their logs: `workers` finds out.
            accepts_commands=lambda: (
                registry.answers_commands or WorkersCollector.name not in settings.collectors
            ),
        )
        self._probe_workers = probe_workers
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Start to receive events, unless started before."""
        with self._starting:
            if not self._started:
                self._started = True
                if self._persistence is not None:
                    self._persistence.start()
                self._stream.start()

    def _handle_new_worker(self) -> None:
        self._stream.enable_now()
        self._probe_workers()

    def succeeded(self, outcome: Outcome[None] | None) -> bool:
        """Return whether the event stream is up."""
        return self._stream.up

    def observed_queues(self) -> set[str]:
        """Return the names of queues in recent events."""
        return self._processor.queues()

    def families(self) -> Iterator[Metric]:
        """Yield the families of the tables."""
        yield from self._processor.families()
        yield from self._tables.families()

    def samples(self, value: None = None) -> Iterator[Sample]:
        """Yield the samples that are not in tables."""
        yield definitions.EVENT_STREAM_UP(self._stream.up)
        if self._stream.lag is not None:
            yield definitions.EVENT_LAG(self._stream.lag)
        yield from self._processor.samples()

    def cases(self) -> list[Case]:
        """Return the last cases, the oldest first."""
        return self._processor.cases()

    def case_list(self) -> CaseList:
        """Return the last cases, and since when events are received."""
        stream, up = self._stream, self._stream.up
        return CaseList(
            dropped=self._processor.dropped_cases,
            cases=tuple(reversed(self.cases())),
            stream_up=up,
            watched_since=stream.live_since,
            connected_since=stream.connected_since if up else None,
        )

    def totals(self) -> TotalsList:
        """Return what has been counted of each task, and since when."""
        stream, up, since = self._stream, self._stream.up, self._processor.counted_since
        return TotalsList(
            tasks=self._processor.totals(),
            counted_since=since if since > 0 else None,
            stream_up=up,
            watched_since=stream.live_since,
            connected_since=stream.connected_since if up else None,
        )

    def status(self) -> TasksStatus:
        """Return the state of the event stream, and what the events show."""
        stream, up = self._stream, self._stream.up
        return replace(
            self._processor.status(),
            stream_up=up,
            stream_reason=stream.reason.description if stream.reason else "",
            watched_since=stream.live_since,
            connected_since=stream.connected_since if up else None,
        )

    def blind_spots(self, value: None = None) -> Iterator[BlindSpot]:
        """Yield that the stream is down, or what it does not deliver, or cannot use."""
        if not self._stream.up:
            reason = self._stream.reason
            text = (
                f"No task events are received: {reason.description}." if reason else _NOT_CONNECTED
            )
            yield BlindSpot("task_events", text, "")
            return
        workers = self._processor.workers_without_task_events()
        if workers and not self._enables_events:
            names = ", ".join(sorted(workers)[:3]) + (" and others" if len(workers) > 3 else "")
            text = f"Task events are off at {names}: only the number of tasks there is known."
            yield BlindSpot("task_events", text, "--enable-events")
        yield from self._processor.blind_spots()

        if blind_spot := _without_sent_events(self._processor.names_without_sent_events()):
            yield blind_spot

    def close(self, deadline: Deadline) -> None:
        """Stop, and remove from the broker what was declared there."""
        if self._started:
            self._stream.stop(deadline)
            if self._persistence is not None:
                self._persistence.stop(deadline)


def _without_sent_events(received: Mapping[str, int]) -> BlindSpot | None:
    """Return the blind spot of producers that send no events; a few tasks may be older than the
    exporter."""
    if sum(received.values()) < _ENOUGH_RECEIVED:
        return None
    names = sorted(received, key=lambda name: (-received[name], name))
    text = (
        f"Producers send no task-sent events for {', '.join(names[:3])}"
        f"{' and others' if len(names) > 3 else ''}: the number of tasks sent, their waiting time,"
        " and their queue where a worker consumes several, are unknown. Celery's default is off;"
        " the setting is of the application, in the processes that send tasks."
    )
    return BlindSpot("sent_events", text, "task_send_sent_event = True")


def _identity(target: Target, labels: Sequence[str]) -> StateIdentity:
    prefixes = (str(target.broker_options.get(name, "")) for name in _PREFIXES)
    names = (target.transport, target.event_exchange, *prefixes)
    return StateIdentity.of(target.broker_urls, names, tuple(labels))


def _label_limits(settings: Settings) -> dict[str, int]:
    limits = {
        "task": settings.max_task_names,
        "queue": settings.max_queue_names,
        "exception": settings.max_exceptions,
        "worker": settings.max_workers,
        "producer": settings.max_workers,
    }
    if settings.task_label:
        limits[settings.task_label[0]] = settings.max_label_values
    return limits
