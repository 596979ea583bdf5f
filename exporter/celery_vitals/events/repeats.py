"""The executions of messages that start more than once.

When a message starts again while its first execution runs, as far as known, the two may overlap;
or the process of the first is gone, which is noticed later.  The pair is undecided until the first
one ends, its process shows life, or is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional

import msgspec

from celery_vitals.events.account import HELD, LOST, ORPHANED, RUNNING
from celery_vitals.events.books import Books
from celery_vitals.events.execution import Execution
from celery_vitals.events.executions import Executions, is_abandoned
from celery_vitals.events.saved import Find, Reference, References
from celery_vitals.events.worker_tracker import WorkerTracker

_SIGNS_OF_LIFE = 2
"""Heartbeats of a process after the second start that prove that the first execution still runs:
events from before one may arrive after it."""
_NEARLY = 0.95
"""The part of the visibility timeout after which it is the cause of a delivery: the first one was
a moment before its task-received event."""
VISIBILITY_TIMEOUT, TASK_ID, UNKNOWN_CAUSE = "visibility_timeout", "task_id", "unknown"
CONNECTION_LOST = "connection_lost"


@dataclass(eq=False)
class _Pair:
    """An execution that has started, and those of its message that ran then, as far as known."""

    again: Execution
    at: float
    """When it started, comparable between hosts."""
    running: list[Execution]
    ended: Execution | None
    """One that had ended before."""
    signs_of_life: dict[Execution, int] = field(default_factory=dict)


class SavedPair(msgspec.Struct, array_like=True):
    """A pair as it is saved."""

    again: Reference
    at: float
    running: list[tuple[Reference, int]]
    """With the signs of life of each."""
    ended: Optional[Reference]  # noqa: UP045 - resolved at runtime, on Python 3.9 too


class SavedRepeats(msgspec.Struct):
    """The undecided executions as they are saved."""

    pairs: list[SavedPair] = []
    held: list[Reference] = []


class Repeats:
    """The pairs that are undecided.  For one thread.

    `visibility_timeout` returns that of the broker in seconds; None where it has none, or it is
    unknown.  `redelivers`: whether the broker delivers again when a connection is lost.
    """

    def __init__(
        self,
        executions: Executions,
        books: Books,
        visibility_timeout: Callable[[], float | None],
        redelivers: bool,
    ) -> None:
        self._executions = executions
        self._books = books
        self._visibility_timeout = visibility_timeout
        self._redelivers = redelivers
        self.pairs: dict[Execution, list[_Pair]] = {}
        """The undecided pairs of each execution that another one has followed."""
        self._held: dict[Execution, None] = {}
        """Deliveries that have not started, of messages that were delivered again."""

    def to_state(self, references: References) -> SavedRepeats:
        """Return what is saved."""
        to = references.to
        pairs = {id(pair): pair for pairs in self.pairs.values() for pair in pairs}
        return SavedRepeats(
            [
                SavedPair(
                    to(pair.again),
                    pair.at,
                    [(to(one), pair.signs_of_life.get(one, 0)) for one in pair.running],
                    to(pair.ended) if pair.ended is not None else None,
                )
                for pair in pairs.values()
            ],
            [to(one) for one in self._held],
        )

    def restore(self, state: SavedRepeats, find: Find) -> None:
        """Continue from a saved state."""
        for saved in state.pairs:
            again = find(saved.again)
            found = [(find(reference), signs) for reference, signs in saved.running]
            signs_of_life = {one: signs for one, signs in found if one is not None}
            if again is not None:
                ended = find(saved.ended) if saved.ended is not None else None
                pair = _Pair(again, saved.at, list(signs_of_life), ended, signs_of_life)
                for one in pair.running:
                    self.pairs.setdefault(one, []).append(pair)
        self._held.update((one, None) for one in map(find, state.held) if one is not None)

    def forget(self) -> None:
        """Forget the pairs: after events were lost, it is unknown which of them overlap."""
        self.pairs.clear()

    def received(self, execution: Execution) -> None:
        """Handle a further delivery of a message: an earlier one may be with a process that is gone
        or has returned it."""
        for one in self._executions.of(execution.uuid):
            if one.state == HELD and one.delivers_again(execution):
                self._held[one] = None

    def started(self, execution: Execution, at: float, now: float) -> None:
        """Handle the start of an execution whose uuid has others."""
        running, ended = [], None
        for one in list(self._executions.of(execution.uuid)):
            if not one.delivers_again(execution):
                continue
            if one.state in (RUNNING, ORPHANED):
                running.append(one)
            elif one.state == LOST:
                self._books.redelivered(one, execution, now)
                self._executions.remove(one, now)
            elif one.ended and one.started_at:
                ended = one
        remembered = self._executions.remembered(execution.uuid)
        if remembered is not None and remembered.delivers_again(execution):
            ended = ended or remembered
        pair = _Pair(execution, at, running, ended)
        for one in running:
            self.pairs.setdefault(one, []).append(pair)
        if not running and ended is not None:
            self._books.repeated(execution, ended, self._cause(ended, execution, now), now)

    def ended(self, execution: Execution, at: float, now: float) -> None:
        """Handle the end of an execution that others followed; `at` is comparable between hosts."""
        for pair in self.pairs.pop(execution, ()):
            if at > pair.at:
                self._overlap(pair, execution, now)
            else:
                pair.ended = execution
                self._leave(pair, execution, now)

    def gone(self, execution: Execution, now: float) -> None:
        """Handle an execution that ended with its process, before the others started."""
        for pair in self.pairs.pop(execution, ()):
            self._leave(pair, execution, now)

    def alive(self, worker: WorkerTracker, at: float, now: float) -> None:
        """Handle a heartbeat: what this process runs, it still runs at that time."""
        for execution, pairs in list(self.pairs.items()):
            if execution not in worker.running:
                continue
            for pair in list(pairs):
                if at > pair.at:
                    signs = pair.signs_of_life.get(execution, 0) + 1
                    pair.signs_of_life[execution] = signs
                    if signs >= _SIGNS_OF_LIFE:
                        self._overlap(pair, execution, now)

    def take_abandoned(self) -> list[Execution]:
        """Return the deliveries that have not started, whose process is gone, once."""
        taken = [one for one in self._held if is_abandoned(one)]
        self._held = {one: None for one in self._held if one.state == HELD and one not in taken}
        return taken

    def is_delivered_again(self, execution: Execution) -> bool:
        """Return whether a further delivery of its message has been received."""
        one = execution.following
        while one is not None:
            if one.delivers_again(execution) and not one.sent_event_seen:
                return True
            one = one.following
        return False

    def later_start(self, execution: Execution) -> Execution | None:
        """Return an execution of the same message that has started after this one."""
        if execution in self.pairs:  # it may have ended long ago
            return self.pairs[execution][0].again
        one = execution.following
        while one is not None:
            if one.started_at and one.delivers_again(execution):
                return one
            one = one.following
        ended = self._executions.remembered(execution.uuid)
        if ended is not None and ended.delivers_again(execution):
            return ended if ended.seen_at >= execution.seen_at else None
        return None

    def _overlap(self, pair: _Pair, first: Execution, now: float) -> None:
        cause = self._cause(first, pair.again, now)
        self._books.overlapping(pair.again, first, cause, now)
        for one in pair.running:
            self._remove(one, pair)
        pair.running.clear()

    def _leave(self, pair: _Pair, execution: Execution, now: float) -> None:
        """Take an execution out of a pair: it did not run when the other started."""
        if execution in pair.running:
            pair.running.remove(execution)
            if not pair.running and pair.ended is not None:
                cause = self._cause(pair.ended, pair.again, now)
                self._books.repeated(pair.again, pair.ended, cause, now)

    def _remove(self, execution: Execution, pair: _Pair) -> None:
        pairs = self.pairs.get(execution)
        if pairs is not None and pair in pairs:
            pairs.remove(pair)
            if not pairs:
                del self.pairs[execution]

    def _cause(self, first: Execution, again: Execution, now: float) -> str:
        if again.sent_event_seen or first.name.late is False:
            return TASK_ID
        timeout = self._visibility_timeout()
        if timeout is None:
            return CONNECTION_LOST if self._redelivers else UNKNOWN_CAUSE
        if again.seen_at - first.seen_at < timeout * _NEARLY:
            return UNKNOWN_CAUSE
        first.name.require_visibility_timeout(now - first.seen_at)
        return VISIBILITY_TIMEOUT
