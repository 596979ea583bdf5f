"""The sink of the event stream: takes the bodies of event messages, and returns metric families.

The event lock, `CardinalityLimiter.update_lock`, is held by the stream's thread while it processes
a slice of events, and by scrapes for as long as a copy takes.  Nothing calls back, starts a thread,
logs or yields while it is held; the lock of `WorkerRegistry` is acquired under it, and no other.
The order of all locks is in docs/architecture.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client.core import Metric

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.events.cases import Case
from celery_vitals.events.decode import BROKEN, Event, decode, decode_each
from celery_vitals.events.deferred_events import Handler
from celery_vitals.events.queue_labels import QueueLabels
from celery_vitals.events.rejections import Rejections
from celery_vitals.events.repetitions import Repetitions
from celery_vitals.events.running import RunningExecution
from celery_vitals.events.saved import Chunk
from celery_vitals.events.snapshot import Head, ProcessorCopy
from celery_vitals.events.task_series import TaskSeriesIndex
from celery_vitals.events.task_status import TasksStatus
from celery_vitals.events.task_totals import Summation, TaskTotals
from celery_vitals.events.task_tracker import TaskTracker
from celery_vitals.events.worker_events import WorkerEvents
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.series import ValueSeries
from celery_vitals.metrics.tables import HistogramTable, ValueTable
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.stall_detection import QueueCounts
from celery_vitals.workers.task_settings import TaskSettings

_MAX_AGE, _MAX_AHEAD = 30 * 86400.0, 86400.0
"""Seconds by which an event may be older or newer than its arrival; beyond, its time is invalid."""
_EXPIRY_INTERVAL = 60.0


@dataclass(frozen=True)
class _EventType:
    """The counter of an event type, and the handler of a task event."""

    received: ValueSeries
    handler: Handler | None


class EventProcessor:
    """The sink that counts the events of a cluster.

    `max_workers` limits the workers and the producers tracked; series unchanged for `idle_after`
    seconds are removed.  `on_new_worker` is called, without any lock held, when a worker comes
    online, and again until it is known which queues it consumes.
    """

    def __init__(
        self,
        registry: WorkerRegistry,
        tasks: TaskTracker,
        index: TaskSeriesIndex,
        limiter: CardinalityLimiter,
        *,
        max_workers: int,
        idle_after: float,
        on_new_worker: Callable[[], None],
        drain_timeout: float = 3600.0,
        task_settings: TaskSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._index = index
        self._limiter = limiter
        self.births = limiter.births
        self._lock = limiter.update_lock
        self._queue_labels = QueueLabels(registry.broadcasts)
        self._workers = WorkerEvents(
            registry, tasks, self._queue_labels, max_workers, drain_timeout
        )
        self._idle_after = idle_after
        self._on_new_worker = on_new_worker
        self._task_settings = task_settings or TaskSettings()
        tasks.max_retries = self._task_settings.max_retries
        self._clock = clock
        self._received = ValueTable(definitions.EVENTS_RECEIVED, limiter)
        self._rejections = Rejections(limiter, clock)
        self._repetitions = Repetitions()
        handlers: dict[str, Handler | None] = {**tasks.handlers}
        handlers.update(dict.fromkeys(self._workers.handlers))
        self._types = {
            name: _EventType(self._received.series(name), handler)
            for name, handler in handlers.items()
        }
        self._expired_at = clock()
        self.counted_since = 0.0
        """Unix time of the first connection, of an earlier process too; 0 before it, and negative
        while unknown: the state of an older version does not contain it."""

    def feed(self, bodies: Sequence[bytes], arrived: float) -> None:
        """Process messages that arrived at that time (Unix seconds)."""
        self.process(self.unrepeated(bodies, arrived), arrived)

    def unrepeated(self, bodies: Sequence[bytes], arrived: float) -> list[bytes]:
        """Return the messages that have not arrived before."""
        self._repetitions.expire(arrived)
        return [body for body in bodies if self._repetitions.is_new(body)]

    def process(self, bodies: Sequence[bytes], arrived: float) -> None:
        """Process messages none of which has arrived before."""
        with self._lock:
            for body in bodies:
                try:
                    events = decode(body)
                except BROKEN:
                    self._process_parts(body, arrived)
                    continue
                for event in events:
                    self._process(event, arrived)
        self._report_new_worker()
        self._rejections.log_new()

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count messages that the receiver could not open."""
        with self._lock:
            self._rejections.add(reason, count)
        self._rejections.log_new()

    def connected(self, gap: bool = True, at: float | None = None) -> None:
        """Handle a new connection; `gap`: whether events may have been lost."""
        now = self._clock() if at is None else at
        with self._lock:
            self.counted_since = self.counted_since or now
            self._workers.catch_up(now)
            if gap:
                self._tasks.waiting.forget()
                self._workers.events_lost(now)

    def compare_with_broker(
        self, queues: Mapping[str, QueueCounts], missing: Collection[str], at: float
    ) -> None:
        """Compare waiting tasks with the messages that the broker had at this time."""
        with self._lock:
            silence = self._registry.silence_of((*queues, *missing))
            self._tasks.compare_with_broker(queues, missing, at, silence)

    def idle(self) -> None:
        """Do what depends on time alone; called about once a second."""
        now = self._clock()
        with self._lock:
            for name in self._index.names():
                name.late = self._task_settings.late(name.label)
            self._workers.update(now)
            self._tasks.expire(now)
            if not 0 <= now - self._expired_at <= _EXPIRY_INTERVAL:
                self._expired_at = now
                self._index.expire(now, self._idle_after)
                self._workers.expire(now)
            received = self._index.received()
        self._task_settings.request(received)
        self._report_new_worker()

    def _report_new_worker(self) -> None:
        """Call the callback if a worker is new: on the stream's thread, without the lock."""
        if self._workers.new_worker:
            self._workers.new_worker = False
            self._on_new_worker()

    @property
    def decisions(self) -> int:
        """How often the registry or the broker, rather than an event, has changed the state."""
        return self._workers.changes + self._tasks.ledger.books.counted

    def pass_time(self, now: float) -> None:
        """Do what depends on the time alone."""
        with self._lock:
            self._tasks.expire(now)

    def copy(self) -> ProcessorCopy:
        """Return the state as it is now, and from then on copy the executions."""
        with self._lock:
            births, references = self.births, self._tasks.references()
            tasks = self._tasks.copy(references, self._lock)
            head = Head(
                at=self._clock(),
                births_at=births.now(),
                released=births.released,
                tables=[],
                aggregated=dict(self._limiter.aggregated),
                counted_since=self.counted_since,
                workers=self._workers.to_state(references),
                tasks=tasks.saved,
            )
            return ProcessorCopy(
                head,
                [table.copy() for table in self._tables()],
                tasks,
                references,
                self._workers.workers,
                self._lock,
            )

    def restore(self, head: Head, chunks: Iterable[Chunk]) -> None:
        """Continue from a saved state, before the first event."""
        with self._lock:
            tables = {table.metric.name: table for table in self._tables()}
            for saved in head.tables:
                if saved.metric in tables:
                    tables[saved.metric].restore(saved)
            self._limiter.restore_aggregated(head.aggregated)
            self.counted_since = head.counted_since
            self._workers.restore(head.workers)
            worker = partial(self._workers.saved_worker, at=head.at)
            restorer = self._tasks.restorer(worker, head.at)
            find = self._tasks.restore(head.tasks, chunks, restorer)
            self._workers.restore_abandoned(head.workers, find)

    def shift_births(self, seconds: float) -> None:
        """Move the times at which series were created."""
        with self._lock:
            for table in self._tables():
                table.shift_births(seconds)

    def _tables(self) -> tuple[ValueTable | HistogramTable, ...]:
        return (*self._index.tables.all, self._received, self._rejections.table)

    def workers_without_task_events(self) -> list[str]:
        """Return the workers that run tasks and send no task events."""
        with self._lock:
            return [
                name
                for name, worker in self._workers.workers.items()
                if worker.sends_task_events is False and not worker.down
            ]

    def blind_spots(self) -> list[BlindSpot]:
        """Return what is lost by rejected events."""
        return self._rejections.blind_spots()

    def cases(self) -> list[Case]:
        """Return the last cases, the oldest first."""
        with self._lock:
            return list(self._tasks.ledger.books.cases)

    @property
    def dropped_cases(self) -> int:
        """Number of older cases that are not kept."""
        return self._tasks.ledger.books.cases.dropped

    def names_without_sent_events(self) -> dict[str, int]:
        """Return how many tasks of each name were received, where none has a task-sent event."""
        with self._lock:
            return self._index.names_without_sent_events()

    def queues(self) -> set[str]:
        """Return the queues of all counted tasks, without those that several processes share."""
        with self._lock:
            return self._index.queues() - self._queue_labels.shared

    def running(self) -> list[RunningExecution]:
        """Return the executions that run now."""
        with self._lock:
            return [
                RunningExecution(
                    name, one.name.label, one.uuid, one.series.labels[1], one.started_at
                )
                for name, worker in self._workers.workers.items()
                for one in worker.running
                if one.started_at and not worker.down
            ]

    def totals(self) -> dict[str, TaskTotals]:
        """Return what has been counted of each task, and how many executions are tracked."""
        summation = Summation()
        summation.add_tables(self._index.tables)
        with self._lock:
            summation.add_tracked(self._index.accounts(), self._index.names())
            for task, (count, _) in self._running().items():
                if count or task in summation.tasks:
                    summation.of(task).running = count
        return summation.tasks

    def status(self) -> TasksStatus:
        """Return what the events show, without the state of the stream."""
        with self._lock:
            return TasksStatus(
                oldest_waiting=dict(self._oldest_waiting()),
                oldest_running={
                    task: oldest for task, (count, oldest) in self._running().items() if count
                },
                last_succeeded=self._index.tables.last_succeeded_of(),
                names_aggregated=self._index.tables.names_aggregated,
                poison=tuple(self._tasks.ledger.books.poison()),
            )

    def families(self) -> Iterator[Metric]:
        """Yield the families of the counters of events."""
        yield from (self._received.family(), self._rejections.family())

    def samples(self) -> list[Sample]:
        """Return the samples that are computed at a scrape, taken at one moment.

        A list, not a generator: a generator would hold the lock for as long as its reader takes.
        """
        with self._lock:
            return list(self._samples())

    def _samples(self) -> Iterator[Sample]:
        yield definitions.TASKS_IN_FLIGHT(len(self._tasks))
        yield definitions.TASKS_EVICTED(self._tasks.evicted)
        for metric, count in self._limiter.aggregated.items():
            yield definitions.SERIES_AGGREGATED(count, metric)
        for queue, since in self._oldest_waiting():
            yield definitions.QUEUE_OLDEST_MESSAGE(since, queue)
        retries = self._tasks.chord_unlocks.max_retries
        if retries is not None:
            yield definitions.CHORD_UNLOCK_RETRIES(retries)
        yield from self._tasks.ledger.samples()
        yield from self._worker_samples()
        yield from self._running_samples()

    def _oldest_waiting(self) -> Iterator[tuple[str, float]]:
        """Yield each queue in which a task waits, and when the oldest was sent."""
        shared = self._queue_labels.shared
        for queue, since in self._tasks.waiting.oldest():
            if queue not in shared:  # without a consumer, a broadcast does not wait, it is lost
                yield queue, since

    def _worker_samples(self) -> Iterator[Sample]:
        for name, worker in self._workers.workers.items():
            yield definitions.EVENTS_MISSED(worker.missed_starts, name, "start")
            yield definitions.EVENTS_MISSED(worker.missed_ends, name, "end")
            if worker.sends_task_events is not None:
                yield definitions.WORKER_TASK_EVENTS(worker.sends_task_events, name)
            if worker.clock.behind < float("inf"):
                yield definitions.WORKER_CLOCK_OFFSET(-worker.clock.behind, name)

    def _running_samples(self) -> Iterator[Sample]:
        for label, (count, oldest) in self._running().items():
            yield definitions.TASK_RUNNING(count, label)
            if count:
                yield definitions.TASK_OLDEST_RUNNING(oldest, label)

    def _running(self) -> dict[str, tuple[int, float]]:
        """Return the number of running executions of each task, and the start of the oldest."""
        running: dict[str, tuple[int, float]] = {}
        for label in self._index.labels():
            running[self._limited(label)] = (0, float("inf"))
        for worker in self._workers.workers.values():
            for execution in worker.running:
                if execution.started_at and not worker.down:
                    label = self._limited(execution.name.label)
                    count, oldest = running.get(label, (0, float("inf")))
                    running[label] = count + 1, min(oldest, execution.started_at)
        return running

    def _limited(self, task: str) -> str:
        """Return the label value of a task's name, as it is in the tables."""
        return self._limiter.limit_values(("task",), (task,))[0]

    def _process_parts(self, body: bytes, arrived: float) -> None:
        for part in decode_each(body):
            if isinstance(part, str):
                self._rejections.add(part)
            else:
                self._process(part, arrived)

    def _process(self, event: Event, arrived: float) -> None:
        event_type = self._types.get(event.type)
        if event_type is None:
            self._rejections.add("unknown_type")
            return
        if not -_MAX_AHEAD < arrived - event.timestamp < _MAX_AGE:
            event.timestamp = arrived
        if not event.hostname or (event_type.handler is not None and not event.uuid):
            self._rejections.add("no_uuid" if event.hostname else "no_hostname")
            return
        event_type.received.value += 1
        handler = event_type.handler
        if handler is None:
            self._workers.process(event, arrived)
            return
        if event.type == "task-sent":
            sender = self._workers.producer(event.hostname)
            self._workers.observe_clock(sender, event.timestamp, arrived)
            if event.queue and event.queue not in self._queue_labels.own:
                event.queue = self._queue_labels.label(event.queue, event.exchange)
        else:
            sender = self._workers.worker(event.hostname, arrived)
            sender.last_event_at = arrived
            sender.set_process(event.pid)
            if event.type == "task-started":
                sender.count_start()
        # No event happens after its arrival.
        at = event.timestamp + sender.clock.correction
        at = at if at < arrived else arrived
        if (
            self._tasks.deferred
            and event.type != "task-sent"
            and self._tasks.deferred.append(event, sender, at)
        ):
            return
        handler(event, sender, at, arrived)
