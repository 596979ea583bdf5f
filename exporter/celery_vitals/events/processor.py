"""What becomes of the events: takes the bodies of event messages, and gives the families of a scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import Metric

from celery_vitals.events.decode import BROKEN, Event, decode, decode_each
from celery_vitals.events.task_labels import TaskSeriesIndex
from celery_vitals.events.task_tracker import Handler, TaskTracker
from celery_vitals.events.worker_tracker import WorkerTracker
from celery_vitals.metrics import definitions as definitions
from celery_vitals.metrics.base import Sample, label_text
from celery_vitals.metrics.cardinality import OTHER, CardinalityLimiter
from celery_vitals.metrics.tables import ValueSeries, ValueTable
from celery_vitals.workers import WorkerRegistry

_LATE, _EARLY = 30 * 86400.0, 86400.0
"""Seconds by which an event may be older or newer than its arrival; beyond, its time is none."""
_HOST_KEPT = 3600.0
"""Seconds without an event after which a worker that nobody else knows is dropped."""
_EXPIRY_EVERY = 60.0
_CATCHING_UP = 30.0
"""Seconds for which old events may come from a named queue, unless a fresh one shows that they are at an end."""
_FRESH = 2.0


@dataclass(frozen=True)
class _Kind:
    """A type of event: its counter, and who takes it."""

    count: ValueSeries
    task: Handler | None


class EventProcessor:
    """The sink of the event stream.  `lock` is held while a slice of events is worked on; readers take it shortly."""

    def __init__(
        self,
        registry: WorkerRegistry,
        tasks: TaskTracker,
        rows: TaskSeriesIndex,
        limiter: CardinalityLimiter,
        hosts: int,
        idle: float,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._rows = rows
        self._limiter = limiter
        self._lock = limiter.lock
        self._most_hosts = hosts
        self._idle_after = idle
        self._hosts: dict[str, WorkerTracker] = {}
        self._producers: dict[str, WorkerTracker] = {}
        self._received = ValueTable(definitions.EVENTS_RECEIVED, limiter)
        self._rejected = ValueTable(definitions.EVENTS_REJECTED, limiter)
        self._kinds = {
            name: _Kind(self._received.row(name), handler)
            for name, handler in tasks.handlers.items()
        }
        self._workers: dict[str, Callable[[Event, WorkerTracker, float], None]] = {
            "worker-online": self._heartbeat,
            "worker-heartbeat": self._heartbeat,
            "worker-offline": self._offline,
        }
        self._kinds |= {name: _Kind(self._received.row(name), None) for name in self._workers}
        self._expired = time.time()
        self._catching_up_until = 0.0
        self.came: Callable[[], None] = lambda: None
        """Called when a worker comes, and again until it is known which queues it consumes."""

    def feed(self, bodies: Sequence[bytes], arrived: float) -> None:
        """Take messages that arrived then (Unix seconds)."""
        with self._lock:
            for body in bodies:
                try:
                    events = decode(body)
                except BROKEN:
                    self._feed_parts(body, arrived)
                    continue
                for event in events:
                    self._take(event, arrived)

    def rejected(self, reason: str, count: int = 1) -> None:
        """Note messages that could not even be opened."""
        with self._lock:
            self._rejected.row(reason).value += count

    def connected(self) -> None:
        """What was missed shows in the workers' next heartbeats.  What a named queue has kept is old, which must not be
        taken for clocks that are slow."""
        with self._lock:
            self._catching_up_until = time.time() + _CATCHING_UP
            self._tasks.gap()
            for host in self._hosts.values():
                host.lost()

    def idle(self) -> None:
        """Do what time alone brings about; called about once a second."""
        now = time.time()
        with self._lock:
            self._tend_hosts(now)
            if not all(host.settled for host in self._hosts.values()):
                self.came()
            self._tasks.tend(now)
            if not 0 <= now - self._expired <= _EXPIRY_EVERY:
                self._expired = now
                self._rows.expire(now, self._idle_after)
                self._expire_hosts(now)

    def _expire_hosts(self, now: float) -> None:
        """Drop the workers that nobody knows any more, and what the others cannot run any more."""
        slots = {
            worker.name: worker.stats.slots if worker.stats else None
            for worker in self._registry.workers()
        }
        for name, host in list(self._hosts.items()):
            host.bound(slots.get(name), now - self._tasks.forget_after)
            if name not in slots and now - host.heard >= _HOST_KEPT:
                host.forget()
                del self._hosts[name]

    def _tend_hosts(self, now: float) -> None:
        """What the fleet knows of the workers, and what it can be told."""
        gone, shared = self._registry.gone(), self._registry.shared()
        for name, host in self._hosts.items():
            queues = self._registry.queues_of(name)
            host.consumes(queues, now)
            if host.tells_tasks is False:
                self._tasks.taken_unheard(queues or ())
            host.down = name in gone
            if name in shared:
                host.share()
            if host.leaving and not host.running:
                host.leaving = False
                self._registry.finished(name)

    def silent(self) -> list[str]:
        """The workers that run tasks and tell nothing of them."""
        with self._lock:
            return [
                name
                for name, host in self._hosts.items()
                if host.tells_tasks is False and not host.down
            ]

    def queues(self) -> set[str]:
        """The queues of all tasks that are counted."""
        with self._lock:
            return self._rows.queues()

    def families(self) -> Iterator[Metric]:
        """The families of all tables."""
        yield from (self._received.family(), self._rejected.family())
        yield from self._rows.families()

    def samples(self) -> Iterator[Sample]:
        """What is put together at a scrape."""
        with self._lock:
            yield from list(self._samples())

    def _samples(self) -> Iterator[Sample]:
        yield definitions.TASKS_IN_FLIGHT(len(self._tasks))
        yield definitions.TASKS_EVICTED(self._tasks.evicted)
        for metric, count in self._limiter.folded.items():
            yield definitions.SERIES_FOLDED(count, metric)
        for queue, since in self._tasks.oldest_waiting():
            yield definitions.QUEUE_OLDEST_MESSAGE(since, queue)
        yield from self._hosts_samples()
        yield from self._running_samples()

    def _hosts_samples(self) -> Iterator[Sample]:
        for name, host in self._hosts.items():
            yield definitions.EVENTS_MISSED(host.missed, name)
            if host.tells_tasks is not None:
                yield definitions.WORKER_TASK_EVENTS(host.tells_tasks, name)
            if host.clock.behind < float("inf"):
                yield definitions.WORKER_CLOCK_OFFSET(-host.clock.behind, name)

    def _running_samples(self) -> Iterator[Sample]:
        running: dict[str, tuple[int, float]] = {}
        for label in self._rows.labels():
            running[self._shown(label)] = (0, float("inf"))
        for host in self._hosts.values():
            for record in host.running.values():
                if record.started and not host.down:
                    label = self._shown(record.name.label)
                    count, oldest = running.get(label, (0, float("inf")))
                    running[label] = count + 1, min(oldest, record.started)
        for label, (count, oldest) in running.items():
            yield definitions.TASK_RUNNING(count, label)
            if count:
                yield definitions.TASK_OLDEST_RUNNING(oldest, label)

    def _shown(self, task: str) -> str:
        """A task's name, as the tables show it."""
        return self._limiter.capped(("task",), (task,))[0]

    def _feed_parts(self, body: bytes, arrived: float) -> None:
        for part in decode_each(body):
            if isinstance(part, str):
                self._rejected.row(part).value += 1
            else:
                self._take(part, arrived)

    def _take(self, event: Event, arrived: float) -> None:
        kind = self._kinds.get(event.type)
        if kind is None:
            self._rejected.row("unknown_type").value += 1
            return
        if not -_EARLY < arrived - event.timestamp < _LATE:
            event.timestamp = arrived
        if not event.hostname or (kind.task is not None and not event.uuid):
            self._rejected.row("no_uuid" if event.hostname else "no_hostname").value += 1
            return
        if kind.task is None:
            kind.count.value += 1
            self._worker(event, arrived)
            return
        kind.count.value += 1
        if event.type == "task-sent":
            host = self._producer(event.hostname)
            self._hear_clock(host, event.timestamp, arrived)
        else:
            host = self._host(event.hostname, arrived)
            host.heard = arrived
            host.process(event.pid)
            if event.type == "task-started":
                host.saw_start()
        at = event.timestamp + host.clock.correction
        kind.task(
            event, host, at if at < arrived else arrived, arrived
        )  # nothing happens after it is told

    def _worker(self, event: Event, arrived: float) -> None:
        host = self._host(event.hostname, arrived)
        host.heard = arrived
        host.process(event.pid)
        before = host.clock.correction
        self._hear_clock(host, event.timestamp, arrived)
        if host.clock.correction != before:
            host.shift(host.clock.correction - before)
        self._workers[event.type](event, host, arrived)

    def _hear_clock(self, host: WorkerTracker, timestamp: float, arrived: float) -> None:
        if arrived < self._catching_up_until:
            if arrived - timestamp > _FRESH:
                return
            self._catching_up_until = 0.0
        host.clock.heard(timestamp, arrived)

    def _heartbeat(self, event: Event, host: WorkerTracker, arrived: float) -> None:
        host.heartbeat(event.processed)
        if event.active is not None:
            before = host.said_at
            self._tasks.lost(
                host.runs(event.active, event.timestamp + host.clock.correction - 1.0), before
            )
        version = label_text(event.sw_ver or "")
        host.leaving = False
        new = self._registry.heartbeat(
            label_text(event.hostname), version, event.active, event.processed, event.pid
        )
        if new or event.type == "worker-online":
            self.came()

    def _offline(self, event: Event, host: WorkerTracker, arrived: float) -> None:
        host.heartbeat(event.processed)
        host.leaving = 0 < (event.active or 0) <= len(host.running)
        self._registry.offline(label_text(event.hostname), event.active)

    def _host(self, name: str, now: float) -> WorkerTracker:
        host = self._hosts.get(name)
        if host is None:
            name = label_text(name) if len(self._hosts) < self._most_hosts else OTHER
            host = self._hosts.setdefault(name, WorkerTracker(name, now))
            host.consumes(self._registry.queues_of(name), now)
        return host

    def _producer(self, name: str) -> WorkerTracker:
        """Processes of one machine share its clock."""
        machine = name.rpartition("@")[2]
        host = self._producers.get(machine)
        if host is None:
            if len(self._producers) >= self._most_hosts:
                self._producers.clear()
            host = self._producers[machine] = WorkerTracker("", 0.0)
        return host
