"""The state of each worker process by its events: clock, running tasks, number of lost events."""

from __future__ import annotations

from typing import Any

import msgspec

from celery_vitals.events.account import HELD, ORPHANED
from celery_vitals.events.clock import Clock
from celery_vitals.events.execution import Execution
from celery_vitals.events.saved import (
    Find,
    Reference,
    References,
    restore_attributes,
    saved_attributes,
)

_EVENTS_OFF_AFTER = 5
"""Consecutive heartbeats that count new task starts, without any task-started event, after which
task events are considered disabled."""
_QUEUES_TIMEOUT = 5.0
"""Seconds within which a worker reports which queues it consumes; after that its remote control is
considered disabled."""
_SHARED = 300.0
"""Seconds for which two processes are considered to share a name, after the last sign of both."""
_MAX_PREVIOUS_PIDS = 8
_REORDERED = 60.0
"""Seconds by which a heartbeat that is older than the one before it is late; beyond, the clock was
set back."""
_REPLACED_AFTER = 3
"""Heartbeats of a new process, after which the one before it has certainly ended: two that share a
name take turns."""
_RESTART_HEARTBEATS = 2
"""Heartbeats of a new process until the one before it is considered ended: were it alive, it would
have sent a heartbeat, too."""


class SavedWorker(msgspec.Struct):
    """A worker as it is saved."""

    name: str
    clock: tuple[float, float, float, float]
    attributes: dict[str, Any]
    abandoned: list[tuple[int, Reference]] = []


_NOT_SAVED = ("_abandoned", "clock", "name", "registered", "running")


class WorkerTracker:
    """One worker, as its events show it."""

    __slots__ = (
        "_abandoned",
        "_first_seen",
        "_heartbeat_at",
        "_last_active",
        "_last_processed",
        "_previous_pids",
        "_processed_base",
        "_restart_heartbeats",
        "_shared_until",
        "_starts_at_heartbeat",
        "_unmatched_heartbeats",
        "_unseen_ends",
        "_unseen_running",
        "clock",
        "confirmed_until",
        "down",
        "draining_process",
        "events_lost_at",
        "heartbeats",
        "last_event_at",
        "missed_ends",
        "missed_starts",
        "name",
        "pid",
        "process",
        "process_since",
        "queue",
        "queues_settled",
        "registered",
        "reported_idle",
        "running",
        "sends_task_events",
        "shutting_down",
        "starts",
    )

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self._first_seen = now
        self._heartbeat_at = 0.0
        self.clock = Clock()
        self.pid: int | None = None
        self.process = 0
        """The number of its processes before this one."""
        self.process_since = 0.0
        """When the first event of this process arrived; 0 for the first one."""
        self.heartbeats = 0
        """Heartbeats of this process."""
        self.running: dict[Execution, None] = {}
        """The executions that run there, in the order of their starts."""
        self.queue: str | None = None
        """The one queue that it consumes; None where that is uncertain or there are several."""
        self.queues_settled = False
        """Whether the queues that it consumes are known, or it is not expected to report them."""
        self.starts = 0
        """Task-started events of this process, plus the starts already counted as missed."""
        self.sends_task_events: bool | None = None
        """Whether its task events are on; None while unknown."""
        self.missed_starts = 0
        """Task starts that its own count includes and that no event reported."""
        self.missed_ends = 0
        """Ends of executions that its count of running tasks shows and that no event reported."""
        self.last_event_at = 0.0
        """When its last event arrived."""
        self.down = False
        """Whether it is lost or offline, so that no task is known to run there."""
        self.registered = False
        """Whether the registry has had it, which then decides how long it is kept."""
        self.draining_process = -1
        """The last of its processes that sent an offline event while tasks were running."""
        self.reported_idle = False
        """Whether its latest event is an offline event without a running task."""
        self.confirmed_until = 0.0
        """The time of the count of running tasks that was applied last."""
        self.shutting_down = False
        """Whether it sent its offline event while all the tasks it still runs are known."""
        self._previous_pids: tuple[int, ...] = ()
        self._shared_until = 0.0
        self._restart_heartbeats = 0
        """Heartbeats left until the process before this one is considered ended."""
        self._processed_base: int | None = None
        """Its own count of starts, less those in `starts`; None before the first heartbeat."""
        self._last_processed: int | None = None
        self._last_active = (0, 0.0)
        """The number of running tasks in the last heartbeat, and its corrected time."""
        self._starts_at_heartbeat = 0
        self._unmatched_heartbeats = 0
        self._unseen_running = 0
        """Missed starts whose ends have neither arrived nor been counted as missed."""
        self._unseen_ends = [0, 0, 0]
        """Ends without a known start, since the last heartbeat and between those before: of starts
        that are not counted as missed yet, or of executions confused with others."""
        self.events_lost_at = 0.0
        """When events of it were last lost: executions that started before may end unseen."""
        self._abandoned: list[tuple[int, Execution]] = []
        """Executions that ran in processes before this one, each with the number of its process."""

    def set_process(self, pid: int | None) -> None:
        """Record the pid of an event: a new one shows a restart, a previous one a shared name."""
        if pid is None or pid == self.pid:
            return
        if pid in self._previous_pids:
            self.mark_shared()
        if self.pid is not None:
            others = (one for one in self._previous_pids if one != self.pid)
            self._previous_pids = (*others, self.pid)[-_MAX_PREVIOUS_PIDS:]
            self._reset_after_restart()
        self.pid = pid

    def mark_shared(self) -> None:
        """Record that two processes share its name: for a while, ignore the counts of both."""
        self._shared_until = self.last_event_at + _SHARED

    @property
    def shared(self) -> bool:
        """Whether several processes have its name."""
        return self.last_event_at < self._shared_until

    def set_queues(self, queues: frozenset[str] | None, now: float) -> None:
        """Record which queues it consumes; None while unknown."""
        self.queues_settled = queues is not None or now - self._first_seen > _QUEUES_TIMEOUT
        self.queue = next(iter(queues)) if queues is not None and len(queues) == 1 else None

    def count_start(self) -> None:
        """Count a task-started event."""
        self.starts += 1
        self.sends_task_events = True

    def count_missed(self, processed: int | None) -> int:
        """Compare the worker's own count of started tasks with the events; return the newly missed.

        Events may arrive after their heartbeat, so the starts that one counts are compared at the
        next.  Or before it (on gevent and eventlet), so the events seen until one must be in the
        count of the next, not in its own.
        """
        if processed is None:
            return 0
        if self.shared:
            self._processed_base = self._last_processed = None
            self.starts = self._starts_at_heartbeat = self._unseen_running = 0
            return 0
        # In containers every process has the same pid: a count that decreases shows a restart.
        self.heartbeats += 1
        if self._last_processed is not None and processed < self._last_processed:
            if self.process and self.heartbeats <= _REPLACED_AFTER:
                self.mark_shared()  # two processes take turns
                return 0
            self._reset_after_restart()
        before, self._last_processed = self._last_processed, processed
        if self._processed_base is None:
            self._processed_base = processed - self.starts
            self._starts_at_heartbeat = self.starts
            return 0
        if self._restart_heartbeats:
            self._restart_heartbeats -= 1
            return 0
        late = before - self._processed_base - self.starts if before is not None else 0
        self._processed_base = min(self._processed_base, processed - self._starts_at_heartbeat)
        return self._record_missed(late)

    def count_unseen_end(self) -> None:
        """Count the end of an execution whose start is not known."""
        if self._unseen_running:
            self._unseen_running -= 1
        else:
            self._unseen_ends[0] += 1

    def _take_unseen_ends(self, count: int) -> int:
        """Remove so many ends without a known start, or as many as there are; return how many."""
        taken = 0
        for place, ends in enumerate(self._unseen_ends):
            matched = min(ends, count - taken)
            self._unseen_ends[place] -= matched
            taken += matched
        return taken

    def _record_missed(self, late: int) -> int:
        """Count `late` starts as missed, unless they show that task events are off."""
        unmatched = late > 0 and self.starts == self._starts_at_heartbeat
        self._unmatched_heartbeats = self._unmatched_heartbeats + 1 if unmatched else 0
        self._starts_at_heartbeat = self.starts
        self._unseen_ends = [0, *self._unseen_ends[:2]]
        if late <= 0:
            return 0
        if self._unmatched_heartbeats >= _EVENTS_OFF_AFTER or self.sends_task_events is None:
            self.sends_task_events = False
        if not self.sends_task_events:
            self._processed_base = (self._processed_base or 0) + late
            return 0
        self.starts += late
        self._starts_at_heartbeat = self.starts
        self.missed_starts += late
        self._unseen_running += late - self._take_unseen_ends(late)
        self.events_lost_at = self.last_event_at
        return late

    def _reset_after_restart(self) -> None:
        if self.shared:
            return
        self._restart_heartbeats = _RESTART_HEARTBEATS
        # Its count begins at 0, so that all the starts that no event reported show up as missed.
        self.starts, self._starts_at_heartbeat = 0, 0
        self._processed_base, self._last_processed = 0, None
        self._last_active = (0, 0.0)
        self._unseen_running, self._unseen_ends = 0, [0, 0, 0]
        for execution in self.running:
            execution.move(ORPHANED)
            self._abandoned.append((self.process, execution))
        self.running.clear()
        self.process += 1
        self.process_since, self.heartbeats, self._heartbeat_at = self.last_event_at, 0, 0.0

    def take_abandoned(self) -> dict[int, list[Execution]]:
        """Return the executions that ran in each process before this one, once."""
        taken: dict[int, list[Execution]] = {}
        for process, execution in self._abandoned:
            taken.setdefault(process, []).append(execution)
        self._abandoned = []
        return taken

    def is_old(self, timestamp: float) -> bool:
        """Return whether a heartbeat of this process with a later time has arrived before, within
        the last minute; record its time otherwise."""
        if 0 < self._heartbeat_at - timestamp < _REORDERED:
            return True
        self._heartbeat_at = timestamp
        return False

    def has_replaced(self, process: int) -> bool:
        """Return whether this process has certainly replaced that one: were that one alive, it
        would have sent a heartbeat in the meantime, or since this one is gone, too."""
        replaced = self.process > process != self.draining_process
        silent = self.down or self.heartbeats >= _REPLACED_AFTER
        return replaced and silent and not self.shared

    def reconcile_running(self, active: int, at: float) -> tuple[list[Execution], list[Execution]]:
        """Record the number of running tasks from a heartbeat, and apply that of the one before.

        Returns the executions that ended without an event, by the previous heartbeat, and those of
        them whose event was missed: events of those that have just ended may arrive after this
        one.  Executions whose name is known to end
        without an event are removed first, then those whose starts were missed, then those that
        started first.  Without a loss of events since its start, a name ends without an event.
        """
        if self.shared:
            return [], []
        (count, before), self._last_active = self._last_active, (max(active, 0), at)
        self.confirmed_until = before
        known = sorted(
            (one for one in self.running if one.started_at < before),
            key=lambda one: (not one.name.ends_without_event, one.started_at),
        )
        over = max(0, len(known) + self._unseen_running - count)
        silent = sum(one.name.ends_without_event for one in known)
        unseen = min(self._unseen_running, max(0, over - silent))
        self._unseen_running -= unseen
        ended, missed = [], []
        for execution in known[: over - unseen]:
            del self.running[execution]
            name = execution.name
            if execution.started_at > self.events_lost_at:
                name.ends_without_event = name.ends_without_event or count == 0
            elif not name.ends_without_event and not self._take_unseen_ends(1):
                missed.append(execution)
                continue
            ended.append(execution)
        self.missed_ends += unseen + len(missed)
        return ended, missed

    def forget_running(self) -> None:
        """Treat no task as running here: the tasks expire like any that does not run."""
        for execution in self.running:
            execution.release(HELD)
        self.running.clear()

    def events_lost(self, now: float) -> None:
        """Handle a gap in the events.

        The tasks that ended in it show by the worker's count of running tasks; without that count,
        it is unknown what still runs.
        """
        self.events_lost_at = now
        if not self.reports_active_count:
            self.forget_running()

    def limit_running(self, slots: int | None, since: float) -> None:
        """Cap the running tasks at `slots` and expire those before `since`, without heartbeats."""
        if self.reports_active_count:
            return
        over = len(self.running) - slots if slots is not None and not self.shared else 0
        for place, execution in enumerate(list(self.running)):
            if place < over or execution.started_at < since:
                del self.running[execution]
                execution.release(HELD)

    def would_report_end(self, execution: Execution) -> bool:
        """Return whether an event or a count would have shown the end of an execution.

        Where its name ends without an event, only a count of running tasks shows that it ran still;
        and without such counts, it is unknown which names do.
        """
        if execution.started_at < self.confirmed_until:
            return True
        return self.active_reported_at > 0 and not execution.name.ends_without_event

    @property
    def reports_active_count(self) -> bool:
        """Whether it reports how many tasks it runs, which it does in its heartbeats."""
        return self.active_reported_at > 0 and not self.shared

    @property
    def active_reported_at(self) -> float:
        """The time of the count that the next call of `reconcile_running` applies."""
        return self._last_active[1]

    def shift_starts(self, seconds: float) -> None:
        """Move the starts of its running tasks, after its clock correction changed by so much."""
        for execution in self.running:
            execution.started_at += seconds

    def to_state(self, references: References) -> SavedWorker:
        """Return its state as it is saved, without the executions that run there."""
        return SavedWorker(
            self.name,
            self.clock.to_state(),
            saved_attributes(self, _SAVED),
            [(process, references.to(one)) for process, one in self._abandoned],
        )

    def restore_abandoned(self, state: SavedWorker, find: Find) -> None:
        """Continue with the executions of processes before this one."""
        found = ((process, find(reference)) for process, reference in state.abandoned)
        self._abandoned += [(process, one) for process, one in found if one is not None]

    @classmethod
    def restored(cls, state: SavedWorker) -> WorkerTracker:
        """Return a worker with a saved state."""
        worker = cls(state.name, 0.0)
        worker.clock.restore(state.clock)
        restore_attributes(worker, _SAVED, state.attributes)
        return worker


_SAVED = tuple(name for name in WorkerTracker.__slots__ if name not in _NOT_SAVED)
