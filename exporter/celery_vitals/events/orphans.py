"""The executions whose worker process is gone, until it is known what has become of them.

The proof that a process is gone: its offline event, silence for --worker-timeout, or another
process under its name.  Then an early acknowledged execution is lost, for the broker has forgotten
its message.  One that acknowledges late, or may do so, is delivered again and starts again; or it
is lost, if the broker has no message in its queue any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import msgspec

from celery_vitals.events.account import HELD, LOST, ORPHANED, RUNNING
from celery_vitals.events.books import (
    CONNECTION_LOST,
    MISSED,
    SILENT,
    WORKER_GONE,
    WORKER_RESTARTED,
    Books,
    evidence,
)
from celery_vitals.events.execution import Execution
from celery_vitals.events.executions import Executions
from celery_vitals.events.repeats import Repeats
from celery_vitals.events.saved import Find, Reference, References
from celery_vitals.events.worker_tracker import WorkerTracker
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.workers.stall_detection import QueueCounts

CERTAIN_IDLE = 30.0
"""Seconds for which the broker has no message of a queue, after which none is in transit."""
_LATE_EVENTS = 5.0
"""Seconds within which the events arrive that a process had sent before it was gone."""
_MAX_LOST = 10_000
"""Lost executions of which a late end is recognized."""


@dataclass
class _Orphan:
    reason: str
    since: float
    """When its process was found gone, by the exporter's clock."""
    certain_at: float
    """From when on its process is certainly gone."""
    process: int
    """`WorkerTracker.process` of the one in which it ran."""
    idle: bool = False
    """Whether its process reported, before it was gone, that no task was running."""
    silent_by: float = float("inf")
    """From when on it is certainly gone if another process has replaced it."""


class SavedOrphans(msgspec.Struct):
    """The undecided and the lost executions as they are saved."""

    orphans: list[tuple[Reference, _Orphan]] = []
    lost: list[Reference] = []
    idle: dict[str, tuple[float, float]] = {}


class Orphans:
    """The undecided executions, and the lost ones.  For one thread."""

    def __init__(self, executions: Executions, books: Books, repeats: Repeats) -> None:
        self._executions = executions
        self._books = books
        self._repeats = repeats
        self._orphans: dict[Execution, _Orphan] = {}
        self._lost: deque[Execution] = deque()
        self._idle: dict[str, tuple[float, float]] = {}
        """Between which times the broker had no message of a queue, waiting or unacknowledged."""

    def gone(self, worker: WorkerTracker, now: float, certain_at: float) -> None:
        """Handle a worker whose process is gone, from `certain_at` on for certain."""
        idle = worker.reported_idle
        running, worker.running = list(worker.running), {}
        self._add(running, WORKER_GONE, now, now if idle else certain_at, worker.process, idle)

    def restarted(
        self, worker: WorkerTracker, now: float, silent_by: float, drained_by: float
    ) -> None:
        """Handle the executions of a process whose name another one has.

        `silent_by`: when it has been silent for --worker-timeout.  `drained_by`: when it has
        completed its tasks or is gone, even if its silence proves nothing.
        """
        for process, executions in worker.take_abandoned().items():
            self._add(executions, WORKER_RESTARTED, now, drained_by, process, silent_by=silent_by)

    def cancelled(self, execution: Execution, now: float) -> None:
        """Handle an execution that its worker stopped when it lost the broker."""
        execution.worker.running.pop(execution, None)
        self._add((execution,), CONNECTION_LOST, now, now, execution.worker.process)

    def _add(
        self,
        executions: Iterable[Execution],
        reason: str,
        now: float,
        certain_at: float,
        process: int,
        idle: bool = False,
        silent_by: float = float("inf"),
    ) -> None:
        for execution in executions:
            if execution.state in (RUNNING, ORPHANED):
                execution.move(ORPHANED)
                self._orphans[execution] = _Orphan(
                    reason, now, certain_at, process, idle, silent_by
                )

    def alive(self, worker: WorkerTracker) -> None:
        """Handle a sign of life of a worker: what its process ran, it still runs.

        Where several processes share its name, what any of them ran.
        """
        for execution, orphan in list(self._orphans.items()):
            if execution.worker is not worker or orphan.reason == CONNECTION_LOST:
                continue
            if worker.shared or orphan.process == worker.process:
                del self._orphans[execution]
                execution.move(RUNNING)
                worker.running[execution] = None

    def ended(self, execution: Execution) -> None:
        """Handle the end of an execution that is undecided or lost."""
        if self._orphans.pop(execution, None) is None and execution.state == LOST:
            self._books.found(execution)

    def observe(
        self,
        queues: Mapping[str, QueueCounts],
        missing: Collection[str],
        at: float,
        silence: Mapping[str, float],
    ) -> None:
        """Record in which queues the broker has no message at this time; `missing` do not exist.

        That counts up to the last sign of life of the most silent consumer, `silence` seconds ago:
        it may have events to report.
        """
        idle = {
            name for name, counts in queues.items() if counts.ready == 0 and counts.unacked == 0
        }
        unread = self._idle.keys() - queues.keys() - set(missing)
        self._idle = {
            name: (self._idle.get(name, (at, at))[0], at - silence.get(name, 0.0))
            for name in (*idle, *missing)
        } | {name: self._idle[name] for name in unread}

    def idle_since(self, queue: str, after: float = 0.0) -> float | None:
        """Return since when the broker has had no message of a queue, for long enough to be
        certain; None if it is not."""
        first, last = self._idle.get(queue, (0.0, 0.0))
        return first if last - max(first, after) >= CERTAIN_IDLE else None

    def decide(self, now: float) -> None:
        """Decide what has become of the executions whose process is certainly gone."""
        for execution, orphan in list(self._orphans.items()):
            if execution.state != ORPHANED:  # it was evicted
                del self._orphans[execution]
                continue
            certain = now - orphan.since >= _LATE_EVENTS and (
                now >= orphan.certain_at
                or (now >= orphan.silent_by and execution.worker.has_replaced(orphan.process))
            )
            if certain and self._decide(execution, orphan, now):
                del self._orphans[execution]

    def _decide(self, execution: Execution, orphan: _Orphan, now: float) -> bool:
        """Decide about one, if that is possible."""
        worker: WorkerTracker = execution.worker
        again = self._repeats.later_start(execution)
        if again is not None:
            self._books.redelivered(execution, again, now)
            self._repeats.gone(execution, now)
        elif execution.started_at <= worker.events_lost_at:
            worker.missed_ends += 1
            self._books.unknown(execution, MISSED)
        elif orphan.idle:
            self._books.unknown(execution, SILENT)
        elif not worker.would_report_end(execution):
            self._books.unknown(execution, MISSED)
        elif self._is_lost(execution, orphan):
            text = datetime.fromtimestamp(orphan.since, timezone.utc).isoformat(timespec="seconds")
            self._books.lost(execution, orphan.reason, now, evidence(orphan.reason, text))
            self._repeats.gone(execution, now)
            self._keep_lost(execution, now)
            return True
        else:
            return False
        self._executions.remove(execution, now)
        return True

    def _is_lost(self, execution: Execution, orphan: _Orphan) -> bool:
        if execution.name.late is False and orphan.reason != CONNECTION_LOST:
            return True
        if any(
            one.delivers_again(execution) and one.state <= HELD
            for one in self._executions.of(execution.uuid)
        ):
            return False
        queue = execution.series.account.labels[1]
        return self.idle_since(queue, after=orphan.since) is not None

    def _keep_lost(self, execution: Execution, now: float) -> None:
        self._lost.append(execution)
        if len(self._lost) > _MAX_LOST:
            old = self._lost.popleft()
            if old.state == LOST:
                self._executions.remove(old, now)

    def to_state(self, references: References) -> SavedOrphans:
        """Return what is saved."""
        return SavedOrphans(
            [(references.to(one), replace(orphan)) for one, orphan in self._orphans.items()],
            [references.to(one) for one in self._lost if one.state == LOST],
            dict(self._idle),
        )

    def restore(self, state: SavedOrphans, find: Find) -> None:
        """Continue from a saved state."""
        for reference, orphan in state.orphans:
            execution = find(reference)
            if execution is not None:
                self._orphans[execution] = orphan
        self._lost.extend(one for one in map(find, state.lost) if one is not None)
        self._idle.update(state.idle)

    def samples(self) -> Iterator[Sample]:
        """Yield since when the oldest execution of each task and queue is undecided."""
        oldest: dict[tuple[str, str], float] = {}
        for execution, orphan in self._orphans.items():
            labels = execution.series.account.labels
            oldest[labels] = min(orphan.since, oldest.get(labels, orphan.since))
        for labels, since in oldest.items():
            yield definitions.TASK_OLDEST_ORPHANED(since, *labels)
