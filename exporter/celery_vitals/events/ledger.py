"""The ledger: what becomes of the executions that do not end with an event, or start again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import msgspec

from celery_vitals.events.account import ENDED, HELD, ORPHANED, WAITING, Account
from celery_vitals.events.books import MISSED, NO_MESSAGE, SILENT, Books, SavedBooks
from celery_vitals.events.decode import Event
from celery_vitals.events.execution import Execution
from celery_vitals.events.executions import Executions
from celery_vitals.events.orphans import Orphans, SavedOrphans
from celery_vitals.events.repeats import Repeats, SavedRepeats
from celery_vitals.events.saved import Find, References
from celery_vitals.events.task_series import TaskSeriesIndex
from celery_vitals.events.worker_tracker import WorkerTracker
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.workers.stall_detection import QueueCounts

_SWEEP_INTERVAL = 60.0
"""Seconds between two searches for executions without a message."""
_SWEPT = 20_000
"""Executions that are examined in one round, while the event thread waits."""
_TRANSIT = 1.0
"""Seconds within which a message is in its queue after its task-sent event has arrived."""
_STATES = ("waiting", "held", "running")


@dataclass(frozen=True)
class Redelivery:
    """How the broker delivers a message again that was not acknowledged."""

    visibility_timeout: Callable[[], float | None]
    """Returns the seconds after which it does; None where it does not, or where unknown."""
    on_connection_loss: bool
    """Whether it does so at once when the connection of the worker is lost."""


NO_REDELIVERY = Redelivery(lambda: None, False)


class SavedLedger(msgspec.Struct):
    """The ledger as it is saved."""

    books: SavedBooks
    orphans: SavedOrphans
    repeats: SavedRepeats
    gap_at: float = 0.0


class Ledger:
    """The ledger of all tasks.  For one thread."""

    def __init__(
        self, executions: Executions, index: TaskSeriesIndex, redelivery: Redelivery
    ) -> None:
        self._executions = executions
        self._index = index
        self.books = Books(index)
        self.repeats = Repeats(
            executions, self.books, redelivery.visibility_timeout, redelivery.on_connection_loss
        )
        self.orphans = Orphans(executions, self.books, self.repeats)
        self._gap_at = 0.0
        self._swept_at = 0.0
        self._sweep: Iterator[Execution] = iter(())

    def events_lost(self, now: float) -> None:
        """Handle a gap in the events: what ran twice within it is unknown."""
        self._gap_at = now
        self.repeats.forget()

    def started_again(
        self, execution: Execution, event: Event, worker: WorkerTracker, now: float
    ) -> None:
        """Handle a start of a message that has started before, or whose uuid has."""
        self.books.started(execution, now)
        self.repeats.started(execution, _comparable(event, worker), now)

    def ended(self, execution: Execution, event: Event, worker: WorkerTracker, now: float) -> None:
        """Handle the end of an execution of which more is known than its start."""
        self.books.ended(execution)
        self.orphans.ended(execution)
        self.repeats.ended(execution, _comparable(event, worker), now)

    def heartbeat(self, event: Event, worker: WorkerTracker, now: float) -> None:
        """Handle a heartbeat."""
        if self.repeats:
            self.repeats.alive(worker, _comparable(event, worker), now)

    def requeued(self, execution: Execution, now: float) -> None:
        """Handle an execution that has returned its message; another worker may have it already."""
        self.repeats.gone(execution, now)
        if self.repeats.is_delivered_again(execution):
            self._merge(execution, now)

    def child_killed(self, execution: Execution, now: float) -> None:
        """Handle a failure that the death of the child process caused."""
        self.books.child_killed(execution, now)

    def left(self, executions: Iterable[Execution], reason: str, now: float) -> None:
        """Count and remove executions that are over without an event."""
        for execution in executions:
            self.books.unknown(execution, reason)
            self.repeats.gone(execution, now)
            self._executions.remove(execution, now)

    def reconciled(
        self, ended: Iterable[Execution], missed: Iterable[Execution], now: float
    ) -> None:
        """Handle executions that are over by the count of their worker."""
        self.left(ended, SILENT, now)
        self.left(missed, MISSED, now)

    def observe(
        self,
        queues: Mapping[str, QueueCounts],
        missing: Collection[str],
        at: float,
        silence: Mapping[str, float],
    ) -> None:
        """Handle the messages that the broker had at this time."""
        self.orphans.observe(queues, missing, at, silence)

    def decide(self, now: float) -> None:
        """Decide what is certain by now."""
        self.orphans.decide(now)
        for execution in self.repeats.take_abandoned():
            self._merge(execution, now)
        if not 0 <= now - self._swept_at <= _SWEEP_INTERVAL:
            self._swept_at = now
            if any(self._has_no_message(account) for account in self._index.accounts()):
                self._sweep = iter(self._executions.all())
        for execution in islice(self._sweep, _SWEPT):
            self._check_message(execution, now)

    def _merge(self, execution: Execution, now: float) -> None:
        """Remove a delivery that did not start: another one of its message has entered, too."""
        execution.move(ENDED)
        execution.series.account.without_sent_event -= 1
        self._executions.remove(execution, now, merged=True)

    def _has_no_message(self, account: Account) -> bool:
        """Return whether tasks wait or are held, and the broker has no message of their queue."""
        inside = account.counts[WAITING] + account.counts[HELD]
        return inside > 0 and self.orphans.idle_since(account.labels[1]) is not None

    def _check_message(self, execution: Execution, now: float) -> None:
        """Remove an execution that did not start and whose message is gone."""
        if execution.state > HELD:
            return
        idle = self.orphans.idle_since(execution.series.account.labels[1])
        if idle is not None and execution.seen_at < idle - _TRANSIT:
            self.left((execution,), MISSED if execution.seen_at < self._gap_at else NO_MESSAGE, now)

    def to_state(self, references: References) -> SavedLedger:
        """Return what is saved."""
        return SavedLedger(
            self.books.to_state(references),
            self.orphans.to_state(references),
            self.repeats.to_state(references),
            self._gap_at,
        )

    def restore(self, state: SavedLedger, find: Find) -> None:
        """Continue from a saved state, after the executions."""
        self.books.restore(state.books, find)
        self.orphans.restore(state.orphans, find)
        self.repeats.restore(state.repeats, find)
        self._gap_at = state.gap_at

    def samples(self) -> Iterator[Sample]:
        """Yield what is inside the accounts, and what is undecided."""
        for account in self._index.accounts():
            for state, name in enumerate(_STATES):
                yield definitions.TASK_IN_FLIGHT(account.counts[state], *account.labels, name)
            yield definitions.TASK_ORPHANED(account.counts[ORPHANED], *account.labels)
            yield definitions.TASK_WITHOUT_SENT_EVENT(account.without_sent_event, *account.labels)
        for task in self._index.names():
            if task.required_visibility_timeout:
                yield definitions.TASK_REQUIRED_VISIBILITY_TIMEOUT(
                    task.required_visibility_timeout, task.label
                )
        yield from self.orphans.samples()
        yield from self.books.samples()


def _comparable(event: Event, worker: WorkerTracker) -> float:
    """Return the time of an event, comparable between hosts whose clocks differ a little."""
    behind = worker.clock.behind
    return event.timestamp + (behind if behind < float("inf") else 0.0)
