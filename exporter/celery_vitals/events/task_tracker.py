"""From events to the series of tasks: finds the execution that an event is about, and its name and
queue.

Not `celery.events.State`: that one forgets tasks above a few thousand, shifts times by the time
zone, and relies on events that come once and in order.  They do neither: a task may be received
before its task-sent event arrives, a hard time limit fails it twice, an ignored task never ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

import msgspec

from celery_vitals.events.account import ENDED, FAILED, HELD, REJECTED, RUNNING, WAITING
from celery_vitals.events.books import NO_MESSAGE
from celery_vitals.events.chord_unlocks import CHORD_UNLOCK, ChordUnlocks
from celery_vitals.events.decode import Event, parse_eta
from celery_vitals.events.deferred_events import DeferredEvents, Handler, SavedDeferrals
from celery_vitals.events.exceptions import exception_class
from celery_vitals.events.execution import OBSERVED, UNKNOWN_ATTEMPT, Execution
from celery_vitals.events.executions import Executions, SavedExecutions
from celery_vitals.events.executions_copy import ExecutionsCopy
from celery_vitals.events.ledger import NO_REDELIVERY, Ledger, Redelivery, SavedLedger
from celery_vitals.events.saved import (
    Chunk,
    Find,
    Reference,
    References,
    Restorer,
    copied_chunk,
)
from celery_vitals.events.task_name import TaskName
from celery_vitals.events.task_series import UNKNOWN, SavedIndex, TaskSeries, TaskSeriesIndex
from celery_vitals.events.unregistered_tasks import UnregisteredTasks, unregistered_name
from celery_vitals.events.waiting_tasks import WaitingTasks
from celery_vitals.events.worker_tracker import WorkerTracker
from celery_vitals.metrics.cardinality import FairLock
from celery_vitals.workers.stall_detection import QueueCounts

_MAX_UNRECEIVED = 10_000
_MAX_RUNTIME = 100 * 365 * 86400.0
"""Seconds; a longer runtime is invalid, and would spoil the sum forever."""

_NO_MORE_RETRIES = "MaxRetriesExceededError"


class SavedTasks(msgspec.Struct):
    """The tracked tasks as they are saved, besides their executions."""

    index: SavedIndex
    executions: SavedExecutions
    deferred: SavedDeferrals
    ledger: SavedLedger
    sent_event_seen: bool
    remembered: tuple[Chunk, Chunk]
    untracked: Chunk
    """Executions that others refer to."""
    unreceived: list[Reference] = []


@dataclass
class TasksCopy:
    """The tracked tasks at one moment."""

    saved: SavedTasks
    executions: ExecutionsCopy
    remembered: tuple[list[Execution], list[Execution]]
    """They have ended, and change no more."""

    def complete(self, references: References) -> SavedTasks:
        """Return what is saved, the executions that are not tracked included."""
        new, old = self.remembered
        self.saved.remembered = copied_chunk(new), copied_chunk(old)
        self.saved.untracked = copied_chunk(references.untracked)
        return self.saved


class TaskTracker:
    """The tracked tasks.  For one thread."""

    def __init__(
        self,
        index: TaskSeriesIndex,
        max_tasks: int,
        forget_after: float,
        redelivery: Redelivery = NO_REDELIVERY,
    ) -> None:
        self._index = index
        self._by_worker = index.by_worker
        self.forget_after = forget_after
        """Seconds after which a task that is not known to run is evicted."""
        self._executions = Executions(max_tasks)
        self._unreceived: set[Execution] = set()
        """Running executions whose task-received event has not arrived."""
        self.ledger = Ledger(self._executions, index, redelivery)
        self._pairs = self.ledger.repeats.pairs
        self.deferred = DeferredEvents()
        """The sender of an event to a handler adds it here instead, if others of its task are."""
        self.waiting = WaitingTasks(self._executions)
        self.chord_unlocks = ChordUnlocks()
        self.max_retries: Callable[[str], float | None] = lambda _: None
        """Returns how often a task is retried: infinite without a limit; None if unknown."""
        self._unregistered = UnregisteredTasks()
        self._sent_event_seen = False
        self._handlers: dict[str, Handler] = {
            "task-sent": self._sent,
            "task-received": self._received,
            "task-started": self._started,
            "task-succeeded": self._succeeded,
            "task-failed": self._failed,
            "task-retried": self._retried,
            "task-revoked": self._revoked,
            "task-rejected": self._rejected,
            "task-cancelled": self._cancelled,
        }
        ends = ("task-failed", "task-revoked")
        self.handlers = self._handlers | {
            kind: partial(self._handle_or_defer, self._handlers[kind]) for kind in ends
        }

    def __len__(self) -> int:
        return len(self._executions) + len(self.deferred)

    @property
    def evicted(self) -> int:
        """Tasks no longer tracked because of their number or their age."""
        return self._executions.evicted

    def compare_with_broker(
        self,
        queues: Mapping[str, QueueCounts],
        missing: Collection[str],
        at: float,
        silence: Mapping[str, float],
    ) -> None:
        """Stop tracking tasks whose message has left its queue without an event.

        `silence`: seconds since the last sign of life of the most silent consumer of a queue.
        """
        self.ledger.left(self.waiting.compare(queues, missing, at, silence), NO_MESSAGE, at)
        self.ledger.observe(queues, missing, at, silence)

    def expire(self, now: float) -> None:
        """Count deferred events that timed out, and remove the tasks that have ended or are old."""
        while (uuid := self.deferred.pop_due(now)) is not None:
            self._count_deferred(uuid, now, timed_out=True)
        self.waiting.remove_empty()
        self.chord_unlocks.expire(now - self.forget_after)
        self._unregistered.expire(now)
        self.ledger.decide(now)
        self._executions.expire(now, self.forget_after)

    # State

    def copy(self, references: References, lock: FairLock) -> TasksCopy:
        """Return the state as it is now, and begin to copy the executions."""
        executions = self._executions
        saved = SavedTasks(
            self._index.to_state(),
            executions.to_state(),
            self.deferred.to_state(),
            self.ledger.to_state(references),
            self._sent_event_seen,
            remembered=(Chunk(), Chunk()),
            untracked=Chunk(),
            unreceived=[references.to(one) for one in self._unreceived],
        )
        return TasksCopy(
            saved,
            ExecutionsCopy(executions.firsts(), executions.of, lock),
            executions.remembered_halves(),
        )

    def references(self) -> References:
        """Return an empty set of references to the tracked executions."""
        return References(self._executions.of)

    def restore(self, state: SavedTasks, chunks: Iterable[Chunk], restorer: Restorer) -> Find:
        """Continue from a saved state, after the tables; return what finds the executions."""
        self._index.restore(state.index)
        waiting: list[Execution] = []
        for chunk in chunks:
            for execution in restorer.executions(chunk):
                self._executions.add(execution, len(self.deferred))
                if execution.state < ENDED:
                    execution.series.account.counts[execution.state] += 1
                else:
                    self._executions.keep_ended(execution, restorer.at)
                if _is_in_queue(execution):
                    waiting.append(execution)
        for execution in sorted(waiting, key=lambda one: one.seen_at):
            self.waiting.add(execution.series.labels[1], execution)
        self._index.restore_accounts(state.index)
        recent, older = map(restorer.executions, state.remembered)
        self._executions.restore(state.executions, recent, older)
        self.deferred.restore(state.deferred, restorer.worker)
        self._sent_event_seen = state.sent_event_seen
        untracked = list(restorer.executions(state.untracked))

        def find(reference: Reference) -> Execution | None:
            uuid, place = reference
            found = islice(self._executions.of(uuid) if uuid else untracked, place, None)
            return next(found, None)

        self.ledger.restore(state.ledger, find)
        self._unreceived.update(one for one in map(find, state.unreceived) if one is not None)
        return find

    def restorer(self, worker: Callable[[str], WorkerTracker], at: float) -> Restorer:
        """Return what makes executions again; `at` is when they were saved."""
        return Restorer(self._index.saved_name, self._index.saved_series, worker, at)

    # Event handlers

    def _sent(self, event: Event, producer: WorkerTracker, at: float, now: float) -> None:
        name = self._index.name(event.name)
        name.sent_event_seen = self._sent_event_seen = True
        name.set_last("sent", at)
        if name.only_producer != producer.name:
            name.only_producer = producer.name if name.only_producer is None else ""
        if not name.receiver or name.unregistered:
            self._unregistered.sent(event.uuid, producer.name)
        since = at
        if event.eta:
            since = max(at, parse_eta(event.eta, event.utcoffset, producer.clock.correction))
        attempt = event.retries or 0
        series = self._index.series(name, event.queue or UNKNOWN, event)
        sent = series.sent
        sent.value += 1
        execution = self._executions.unsent(event.uuid, name, attempt, at)
        if execution is None:
            execution = Execution(event.uuid, name, series, attempt, seen_at=now)
            series.account.counts[WAITING] += 1
            self._executions.add(execution, len(self.deferred))
        else:
            execution.assign(series)
            execution.name, execution.attempt = name, attempt
            series.account.without_sent_event -= 1
        execution.sent_event_seen = True
        if execution.started_at:
            if not execution.sent_at:
                self._observe_wait(execution, execution.worker, since)
        else:
            execution.sent_at = since
            if not event.eta:
                self.waiting.add(sent.labels[1], execution)
        if self.deferred:
            self._count_deferred(event.uuid, now)

    def _received(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        name = self._index.name(event.name)
        attempt = event.retries or 0
        execution = self._executions.unreceived(event.uuid, name, attempt)
        late = False
        if execution is None:
            execution = self._executions.received_late(event.uuid, worker, at, name, attempt)
            late = execution is not None
        if execution is None:
            if self._is_deferred(event, worker, name):
                self.deferred.start(event.uuid, (event, worker, at), now)
                return
            execution = self._new_message(event, worker, name, now)
        elif execution.attempt == UNKNOWN_ATTEMPT:
            execution.name, execution.attempt = name, attempt
            execution.assign(self._index.series(name, execution.series.labels[1], event))
        elif execution.name is not name and execution.name.label == name.label:
            execution.name = name  # its series have expired
        if not late:
            execution.worker, execution.seen_at = worker, now
        if execution.state == WAITING:
            counts = execution.series.account.counts
            counts[WAITING] -= 1
            counts[HELD] += 1
            execution.state = HELD
        name.receiver = worker.name
        if event.retries and event.retries > name.highest_retried + 1:
            name.highest_retried = event.retries - 1
        self._series(execution, worker).received.value += 1

    def _started(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        execution = self._executions.unstarted(event.uuid, worker)
        if execution is None:
            execution = self._executions.running(event.uuid, worker, at)
            if execution is not None and execution.started_at == at:
                self._series(execution, worker).started.value += 1
                return  # the same event again
            execution = self._executions.started_late(event.uuid, worker)
            if execution is not None:
                execution.started_at = at
                self._series(execution, worker).started.value += 1
                return
            execution = self._not_received(event.uuid, worker, now)
            self._executions.add(execution, len(self.deferred))
        if execution.worker is None:
            if len(self._unreceived) >= _MAX_UNRECEIVED:
                self._unreceived.clear()
            self._unreceived.add(execution)
        execution.worker, execution.started_at = worker, at
        counts = execution.series.account.counts
        counts[execution.state] -= 1
        counts[RUNNING] += 1
        execution.state = RUNNING
        execution.starts += 1
        worker.running[execution] = None
        if execution.starts > 1 or self._executions.is_repetition(execution):
            self.ledger.started_again(execution, event, worker, now)
        self._series(execution, worker).started.value += 1
        since = execution.sent_at
        if not since and self._sent_event_seen:
            since = self._executions.take_sent_at(execution)
        if since > 0:
            self._observe_wait(execution, worker, since)

    def _succeeded(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        runtime = event.runtime
        if runtime is not None and not 0 <= runtime < _MAX_RUNTIME:
            runtime = None
        began = at - runtime if runtime is not None else None
        execution = self._executions.running(event.uuid, worker, began)
        execution = self._end(execution, event, worker, now)
        series = self._series(execution, worker)
        series.succeeded.value += 1
        execution.name.set_last("succeeded", at)
        if runtime is not None:
            series.observe_runtime(runtime)

    def _failed(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        exception = exception_class(event.exception, event.traceback)
        # Celery 5.7 reports a task that rejects itself as failed, without requeueing; earlier
        # versions do not.  Only with late acknowledgement its task-rejected event follows.
        rejects = exception == "Reject" and not (event.exception or "").startswith("Reject(")
        started = exception != "NotRegistered"
        if not (started or self._is_new_discard(event, worker, now)):
            return
        running = self._executions.last_attempt(event.uuid, worker)
        # Where a failure is not acknowledged, it is rejected first, then it fails.
        execution = None
        if running is None and started:
            execution = self._executions.just_ended(event.uuid, worker)
        if execution is None:
            execution = self._end(running, event, worker, now, keep=True, started=started)
        elif execution.state == FAILED or rejects:
            return
        else:  # it leaves by two columns: as rejected, and as failed
            execution.series.account.without_sent_event += 1
        series = self._series(execution, worker)
        if rejects:
            execution.state = REJECTED
            series.rejected.value += 1
            return
        execution.state = FAILED
        series.counter("failed", exception).value += 1
        if exception == _NO_MORE_RETRIES or self._was_last_retry(execution):
            series.counter("retries_exhausted").value += 1
        if exception == "WorkerLostError":
            self.ledger.child_killed(execution, now)
        execution.name.set_last("failed", at)
        if execution.started_at:
            series.observe_failed_runtime(max(0.0, at - execution.started_at))

    def _handle_or_defer(
        self, handler: Handler, event: Event, worker: WorkerTracker, at: float, now: float
    ) -> None:
        """Handle the end of a task, or defer it where its task-sent event is not there yet.

        A message that a worker discards may have no other event, and it discards it at once.
        """
        if (
            self._sent_event_seen
            and not self._executions.is_tracked(event.uuid)
            and len(self) + 1 < self._executions.max_tasks
        ):
            self.deferred.start(event.uuid, (event, worker, at), now)
        else:
            handler(event, worker, at, now)

    def _retried(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        running = self._executions.running(event.uuid, worker)
        execution = self._end(running, event, worker, now)
        series, name = self._series(execution, worker), execution.name
        series.retried.value += 1
        if name.label == CHORD_UNLOCK:
            self.chord_unlocks.retried(event.uuid, execution.attempt + 1, now)

    def _revoked(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        reason = "terminated" if event.terminated else "expired" if event.expired else "revoked"
        # Unless it was terminated, it did not start; another execution of its uuid may run.
        running = self._executions.running(event.uuid, worker) if event.terminated else None
        execution = self._end(running, event, worker, now, started=bool(event.terminated))
        self._series(execution, worker).counter("revoked", reason).value += 1

    def _rejected(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        running = self._executions.running(event.uuid, worker)
        execution = None
        if running is None:
            execution = self._executions.just_ended(event.uuid, worker)
            if execution is not None and (execution.state == REJECTED or not event.requeue):
                return  # counted when it failed
        if event.requeue:
            execution = self._release(event, worker, now) or execution
        counted = execution is not None
        if execution is None:
            execution = self._end(running, event, worker, now, keep=True)
        series = self._series(execution, worker)
        series.rejected.value += 1
        if not event.requeue:
            execution.state = REJECTED
        elif counted:  # its end is yet to come, or was counted when it failed
            series.counter("requeued").value += 1

    def _cancelled(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        """Stop a task whose worker lost the broker."""
        execution = self._executions.running(event.uuid, worker)
        if execution is None:
            worker.count_unseen_end()
        else:
            self.ledger.orphans.cancelled(execution, now)

    def _release(self, event: Event, worker: WorkerTracker, now: float) -> Execution | None:
        """Stop a task that the broker will deliver again; return which."""
        execution = self._executions.running(event.uuid, worker)
        if execution is not None:
            worker.running.pop(execution, None)
            self.ledger.orphans.ended(execution)
            execution.release()
            self.ledger.requeued(execution, now)
        return execution

    def _was_last_retry(self, execution: Execution) -> bool:
        """Return whether an execution was the last retry that the settings of its task permit.

        Not where one with as many was retried: a call of `retry` has another limit.
        """
        name, attempt = execution.name, execution.attempt
        if not name.highest_retried < attempt or attempt <= 0:
            return False
        return bool(attempt == self.max_retries(name.label))

    # Executions

    def _is_new_discard(self, event: Event, worker: WorkerTracker, now: float) -> bool:
        """Count a message that was discarded, since its task is not registered.

        Return whether the event is no duplicate.
        """
        raw = unregistered_name(event)
        if raw is None:
            return True
        name = self._index.name(raw)
        if not self._unregistered.discarded(event, name, now):
            return False
        if self._executions.last(event.uuid) is None:
            self._new_message(event, worker, name, now)
        return True

    def _new_message(
        self, event: Event, worker: WorkerTracker, name: TaskName, now: float
    ) -> Execution:
        """Track the execution of a message that was received, by its task-received event."""
        queue = worker.queue
        if queue is None:
            last = self._executions.last(event.uuid)
            queue = last.series.labels[1] if last and last.name is name else UNKNOWN
        series = self._index.series(name, queue, event)
        execution = Execution(event.uuid, name, series, event.retries or 0, seen_at=now)
        execution.enter()
        self._executions.add(execution, len(self.deferred))
        self.ledger.repeats.received(execution)
        return execution

    def _not_received(self, uuid: str, worker: WorkerTracker, now: float) -> Execution:
        """Return an execution whose first events did not arrive, with the name of its uuid."""
        last = self._executions.last(uuid)
        if last is not None:
            known = (last.name, last.series, last.attempt)
            sent = last.sent_event_seen
            execution = Execution(uuid, *known, seen_at=now, sent_event_seen=sent)
        else:
            name = self._index.unknown
            series = self._index.series(name, worker.queue or UNKNOWN)
            execution = Execution(uuid, name, series, seen_at=now)
        execution.enter(HELD)
        return execution

    def _is_deferred(self, event: Event, worker: WorkerTracker, name: TaskName) -> bool:
        """Return whether a task-received event is deferred until the queue of the task is known."""
        expects_sent = self._sent_event_seen and name.may_be_sent
        if worker.queue is not None or not (expects_sent or not worker.queues_settled):
            return False
        if len(self) + 1 >= self._executions.max_tasks:
            return False
        attempt = event.retries or 0  # the same one is the same message, delivered again
        known = self._executions.of(event.uuid)
        return not any(one.name is name and one.attempt == attempt for one in known)

    def _series(self, execution: Execution, worker: WorkerTracker) -> TaskSeries:
        series: TaskSeries = execution.series
        if series.expired or (self._by_worker and series.worker != worker.name):
            series = self._index.current(execution, worker.name)
        return series

    def _observe_wait(self, execution: Execution, worker: WorkerTracker, since: float) -> None:
        wait = max(0.0, execution.started_at - since)
        self._series(execution, worker).observe_wait(wait)
        execution.sent_at = OBSERVED

    def _end(
        self,
        execution: Execution | None,
        event: Event,
        worker: WorkerTracker,
        now: float,
        keep: bool = False,
        started: bool = True,
    ) -> Execution:
        """End an execution that runs, or one of which no start arrived; return which.

        `keep`: whether its end may be reported twice.  `started`: whether the event proves that it
        has started.
        """
        if execution is None:
            execution = self._find_ended(event.uuid, worker, started)
        if execution is None:
            execution = self._not_received(event.uuid, worker, now)
            keep = keep or started
            if keep:
                self._executions.add(execution, len(self.deferred))
        if started and (not execution.started_at or execution in self._unreceived):
            keep = True
            self._unreceived.discard(execution)
        worker.running.pop(execution, None)
        execution.worker = worker
        self.chord_unlocks.retries.pop(event.uuid, None)
        if execution.state > RUNNING or execution.starts > 1 or self._pairs:
            self.ledger.ended(execution, event, worker, now)
        execution.move(ENDED)
        name = execution.name
        if name.required_visibility_timeout:
            name.require_visibility_timeout(now - execution.seen_at)
        if not execution.sent_event_seen:
            name.ended_without_sent += 1
        if keep or (not execution.sent_event_seen and name.may_be_sent):
            self._executions.keep_ended(execution, now)
        else:
            self._executions.settle(execution, now)
        return execution

    def _find_ended(self, uuid: str, worker: WorkerTracker, started: bool) -> Execution | None:
        """Return the execution of an end without a known start on this worker."""
        execution = self._executions.orphaned(uuid, worker.name)
        if execution is not None:
            return execution
        if started:
            worker.count_unseen_end()
        # A process that shuts down returns the messages that it holds.
        return self._executions.unstarted(uuid, worker) or self._executions.held(uuid)

    def _count_deferred(self, uuid: str, now: float, timed_out: bool = False) -> None:
        """Count the deferred events of a task, now that its queue is known or timed out."""
        for event, worker, at in self.deferred.pop(uuid, ()):
            if timed_out and event.type == "task-received":
                name = self._index.name(event.name)
                if self._executions.unreceived(uuid, name, event.retries or 0) is None:
                    self._new_message(event, worker, name, now)
            if not self.deferred.append(event, worker, at):
                self._handlers[event.type](event, worker, at, now)


def _is_in_queue(execution: Execution) -> bool:
    """Return whether it waits in its queue: one with an ETA is not in its order."""
    return (
        execution.sent_event_seen
        and execution.state <= HELD
        and 0 < execution.sent_at <= execution.seen_at
    )
