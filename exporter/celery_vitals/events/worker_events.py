"""Handles the events of workers: tracks each worker, and passes heartbeats to the registry."""

from __future__ import annotations

import msgspec

from celery_vitals.events.decode import Event
from celery_vitals.events.queue_labels import QueueLabels
from celery_vitals.events.saved import Find, References
from celery_vitals.events.task_tracker import TaskTracker
from celery_vitals.events.worker_tracker import SavedWorker, WorkerTracker
from celery_vitals.metrics.base import label_text
from celery_vitals.metrics.cardinality import OTHER
from celery_vitals.workers.registry import WorkerRegistry

_CATCH_UP = 30.0
"""Seconds for which a durable queue may deliver old events, unless a fresh one ends it earlier."""
_FRESH = 2.0
"""Age in seconds up to which an event is a fresh one."""


class SavedWorkers(msgspec.Struct):
    """The workers and producers as they are saved."""

    workers: list[SavedWorker] = []
    producers: dict[str, tuple[float, float, float, float]] = {}


class WorkerEvents:
    """The trackers of all workers and producers, `max_workers` of each.  For one thread."""

    def __init__(
        self,
        registry: WorkerRegistry,
        tasks: TaskTracker,
        queue_labels: QueueLabels,
        max_workers: int,
        drain_timeout: float,
    ) -> None:
        self.workers: dict[str, WorkerTracker] = {}
        self.new_worker = False
        """Whether a worker has come online, or has not reported its queues.  Reset by the reader,
        which may call what must not run under the event lock."""
        self.handlers = {
            "worker-online": self._heartbeat,
            "worker-heartbeat": self._heartbeat,
            "worker-offline": self._offline,
        }
        self._registry = registry
        self._tasks = tasks
        self._queue_labels = queue_labels
        self._max_workers = max_workers
        self._drain_timeout = drain_timeout
        self._producers: dict[str, WorkerTracker] = {}
        self._catching_up_until = 0.0
        self.changes = 0
        """How often the registry has changed what is known of a worker."""
        self._dropped: dict[str, WorkerTracker] = {}

    def worker(self, name: str, now: float) -> WorkerTracker:
        """Return the tracker of a worker, a new one for a new name."""
        worker = self.workers.get(name)
        if worker is None:
            name = label_text(name) if len(self.workers) < self._max_workers else OTHER
            worker = self.workers.setdefault(name, WorkerTracker(name, now))
            worker.set_queues(self._queues_of(name), now)
        return worker

    def producer(self, name: str) -> WorkerTracker:
        """Return the tracker of a producer's machine: its processes share a clock."""
        machine = name.rpartition("@")[2]
        producer = self._producers.get(machine)
        if producer is None:
            if len(self._producers) >= self._max_workers:
                self._producers.clear()
            producer = self._producers[machine] = WorkerTracker(label_text(machine), 0.0)
        return producer

    def observe_clock(self, sender: WorkerTracker, timestamp: float, arrived: float) -> None:
        """Record the transit time of an event, unless it is an old one from a durable queue."""
        if arrived < self._catching_up_until:
            if arrived - timestamp > _FRESH:
                return
            self._catching_up_until = 0.0
        sender.clock.observe(timestamp, arrived)

    def process(self, event: Event, arrived: float) -> None:
        """Process an event whose type has a handler here."""
        worker = self.worker(event.hostname, arrived)
        worker.last_event_at = arrived
        worker.set_process(event.pid)
        before = worker.clock.correction
        self.observe_clock(worker, event.timestamp, arrived)
        if worker.clock.correction != before:
            worker.shift_starts(worker.clock.correction - before)
        self.handlers[event.type](event, worker)

    def to_state(self, references: References) -> SavedWorkers:
        """Return its state as it is saved."""
        return SavedWorkers(
            [worker.to_state(references) for worker in self.workers.values()],
            {machine: one.clock.to_state() for machine, one in self._producers.items()},
        )

    def restore(self, state: SavedWorkers) -> None:
        """Continue from a saved state."""
        for saved in state.workers[: self._max_workers]:
            self.workers[saved.name] = WorkerTracker.restored(saved)
        for machine, clock in state.producers.items():
            self.producer(f"@{machine}").clock.restore(clock)

    def restore_abandoned(self, state: SavedWorkers, find: Find) -> None:
        """Continue with what ran in processes before the present ones, after the executions."""
        for saved in state.workers:
            if saved.name in self.workers:
                self.workers[saved.name].restore_abandoned(saved, find)

    def saved_worker(self, name: str, at: float) -> WorkerTracker:
        """Return the worker that an execution refers to; one that was dropped is another object.

        Of such a worker, what has happened to its tasks since is not known.
        """
        worker = self.workers.get(name) or self._dropped.get(name)
        if worker is None:
            worker = self._dropped[name] = WorkerTracker(name, at)
            worker.down, worker.events_lost_at = True, at
        return worker

    def catch_up(self, now: float) -> None:
        """Handle a new connection.

        The events that a durable queue has kept are old, which must not be taken for slow clocks.
        """
        self._catching_up_until = now + _CATCH_UP

    def events_lost(self, now: float) -> None:
        """Handle a gap in the events: lost ones show in the workers' next heartbeats."""
        self._tasks.ledger.events_lost(now)
        for worker in self.workers.values():
            worker.events_lost(now)

    def update(self, now: float) -> None:
        """Exchange the state of the workers with the registry; drop those that it has removed."""
        gone, shared = self._registry.gone_workers(), self._registry.shared_names()
        known = self._registry.names()
        self._queue_labels.update()
        for name, worker in list(self.workers.items()):
            if worker.registered and name not in known:
                self._drop(name)
                continue
            before = worker.registered, worker.queue, worker.queues_settled, worker.down
            worker.registered = name in known
            queues = self._queues_of(name)
            worker.set_queues(queues, now)
            if not worker.queues_settled:
                self.new_worker = True
            if worker.sends_task_events is False:
                self._tasks.waiting.forget(queues or ())
            worker.down = name in gone
            after = worker.registered, worker.queue, worker.queues_settled, worker.down
            self.changes += after != before
            if name in shared:
                worker.mark_shared()
            self._update_orphans(worker, gone.get(name), now)
            if worker.shutting_down and not worker.running:
                worker.shutting_down = False
                self._registry.drained(name)

    def _update_orphans(self, worker: WorkerTracker, is_certain: bool | None, now: float) -> None:
        """Pass on what ran in a process that is gone; `is_certain` is None if the last is not."""
        orphans = self._tasks.ledger.orphans
        drained_by = now + self._drain_timeout
        orphans.restarted(worker, now, now + self._registry.timeout, drained_by)
        if is_certain is None:
            orphans.alive(worker)
        elif worker.running:
            orphans.gone(worker, now, now if is_certain else drained_by)

    def expire(self, now: float) -> None:
        """Drop the workers that are silent; limit what the others run."""
        self._registry.forget_silent()
        slots = {
            worker.name: worker.stats.slots if worker.stats else None
            for worker in self._registry.workers()
        }
        for name, worker in list(self.workers.items()):
            worker.limit_running(slots.get(name), now - self._tasks.forget_after)
            if name not in slots and now - worker.last_event_at >= self._registry.forget_after:
                self._drop(name)

    def _queues_of(self, name: str) -> frozenset[str] | None:
        queues = self._registry.queues_of(name)
        return queues and frozenset(map(self._queue_labels.label, queues))

    def _drop(self, name: str) -> None:
        worker = self.workers.pop(name)
        worker.down = True
        self._tasks.ledger.orphans.gone(worker, worker.last_event_at, worker.last_event_at)

    def _heartbeat(self, event: Event, worker: WorkerTracker) -> None:
        if worker.is_old(event.timestamp):
            return
        worker.count_missed(event.processed)
        if event.active is not None:
            at = event.timestamp + worker.clock.correction - 1.0
            ended, missed = worker.reconcile_running(event.active, at)
            self._tasks.ledger.reconciled(ended, missed, worker.last_event_at)
        self._tasks.ledger.heartbeat(event, worker, worker.last_event_at)
        version = label_text(event.sw_ver or "")
        worker.shutting_down = worker.reported_idle = False
        new = self._registry.heartbeat(
            label_text(event.hostname),
            version,
            event.active,
            event.processed,
            event.pid,
            online=event.type == "worker-online",
        )
        if new or event.type == "worker-online":
            self.new_worker = True

    def _offline(self, event: Event, worker: WorkerTracker) -> None:
        worker.count_missed(event.processed)
        worker.reported_idle = event.active == 0
        if event.active:
            worker.draining_process = worker.process
        worker.shutting_down = 0 < (event.active or 0) <= len(worker.running)
        self._registry.offline(label_text(event.hostname), event.active)
