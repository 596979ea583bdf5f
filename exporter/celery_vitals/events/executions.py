"""The executions that are tracked, and which of them an event is about.

A uuid does not identify an execution: a message may be delivered twice, a retry and the replacement
of a task (`Task.replace`) keep its uuid, and an application may choose one that it uses again.  But
every message that a worker receives starts there once, and ends there once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from typing import Any

import msgspec

from celery_vitals.events.account import (
    ENDED,
    FAILED,
    HELD,
    LOST,
    ORPHANED,
    REJECTED,
    RUNNING,
)
from celery_vitals.events.execution import OBSERVED, UNKNOWN_ATTEMPT, Execution

_KEEP_ENDED = 5.0
"""Seconds for which an execution that has ended is kept, where further events of it may arrive."""
_MAX_ENDED = 20_000
_UUID_LENGTH = 36
_KEEP_RECEIVED = 3600.0
"""Seconds for which a message that was received, but not started, is kept after another execution
of its uuid has ended: it may have been delivered to a worker that was killed."""
_REMEMBER = 3600.0
_MAX_REMEMBERED = 10_000
"""Ended executions that are remembered, for `_REMEMBER` seconds, and as many older ones: the number
is checked once a second."""
_MAX_PER_UUID = 1000
_BATCH = 1024


class SavedExecutions(msgspec.Struct):
    """What is saved of the executions besides each of them."""

    evicted: int = 0
    repeated: dict[str, float] = {}
    remembered_since: float = 0.0


class Executions:
    """All tracked executions by uuid, in the order of their messages.  For one thread."""

    def __init__(self, max_tasks: int) -> None:
        self.max_tasks = max_tasks
        self.evicted = 0
        """Uuids no longer tracked because of their number or their age."""
        self._first: dict[str, Execution] = {}
        """The first execution of each uuid."""
        self._ended: deque[tuple[float, Execution]] = deque()
        self._recent: dict[str, Execution] = {}
        self._older: dict[str, Execution] = {}
        self._recent_since = 0.0
        self._repeated: dict[str, float] = {}
        """Until when the messages of a uuid that were received and not started are kept."""

    def __len__(self) -> int:
        return len(self._first)

    # Lookups

    def is_repetition(self, execution: Execution) -> bool:
        """Return whether another execution of its uuid is tracked or remembered."""
        uuid = execution.uuid
        return (
            uuid in self._recent
            or uuid in self._older
            or execution.following is not None
            or self._first.get(uuid) is not execution
        )

    def is_tracked(self, uuid: str) -> bool:
        """Return whether an execution of this uuid is tracked."""
        return uuid in self._first

    def remembered(self, uuid: str) -> Execution | None:
        """Return the last execution of this uuid that ended within the last hour or two."""
        return self._recent.get(uuid) or self._older.get(uuid)

    def of(self, uuid: str) -> Iterator[Execution]:
        """Yield the executions of a uuid."""
        execution = self._first.get(uuid)
        while execution is not None:
            yield execution
            execution = execution.following

    def unsent(self, uuid: str, name: Any, attempt: int, at: float) -> Execution | None:
        """Return the execution whose task-sent event, of that time, arrives late."""
        execution = self._first.get(uuid)
        while execution is not None:
            if not execution.sent_event_seen and execution.attempt in (attempt, UNKNOWN_ATTEMPT):
                if execution.attempt == UNKNOWN_ATTEMPT or execution.name is name:
                    return execution
                # Other events contain the `shadow` of a name, which is never sent.  But what an
                # execution sends while it runs is its replacement.
                if not (execution.name.sent_event_seen or 0 < execution.started_at < at):
                    return execution
            execution = execution.following
        return None

    def unreceived(self, uuid: str, name: Any, attempt: int) -> Execution | None:
        """Return the execution of a message that a worker receives, maybe under its `shadow`.

        Or the one that a process which is gone had received and not started.
        """
        execution, other = self._first.get(uuid), None
        while execution is not None:
            if execution.attempt in (attempt, UNKNOWN_ATTEMPT):
                if execution.worker is None:
                    if execution.name is name:
                        return execution
                    if not name.sent_event_seen:
                        other = other or execution
                elif execution.name is name and is_abandoned(execution):
                    other = other or execution
            execution = execution.following
        return other

    def unstarted(self, uuid: str, worker: Any) -> Execution | None:
        """Return the first that this worker has received and not started, or whose message is
        with the broker."""
        execution, unreceived = self._first.get(uuid), None
        while execution is not None:
            if execution.state <= HELD:
                if execution.worker is worker:
                    return execution
                if execution.worker is None and unreceived is None:
                    unreceived = execution
            execution = execution.following
        return unreceived

    def held(self, uuid: str) -> Execution | None:
        """Return the first that any worker has received and not started."""
        return next((one for one in self.of(uuid) if one.state == HELD), None)

    def received_late(
        self, uuid: str, worker: Any, at: float, name: Any, attempt: int
    ) -> Execution | None:
        """Return the execution whose task-received event, of that time, comes after later ones."""
        for one in self.of(uuid):
            known = one.name is name and one.attempt == attempt
            later = one.started_at > at or (one.ended and not one.started_at)
            if one.worker is worker and later and (known or one.attempt == UNKNOWN_ATTEMPT):
                return one
        return None

    def started_late(self, uuid: str, worker: Any) -> Execution | None:
        """Return the execution that has ended here, and whose task-started event arrives now."""
        for one in self.of(uuid):
            if one.ended and one.worker is worker and not one.started_at:
                return one
        return None

    def running(self, uuid: str, worker: Any, started_at: float | None = None) -> Execution | None:
        """Return the execution that runs on this worker.

        Of several, the one that started closest to this time.  Without it, the first with the
        latest name: the other names were replaced, and end without an event.
        """
        execution, found = self._first.get(uuid), None
        while execution is not None:
            if execution.worker is worker and RUNNING <= execution.state <= LOST:
                if found is None or execution.state < found.state:
                    found = execution
                elif found.state < execution.state:
                    pass
                elif started_at is None:
                    found = found if found.name is execution.name else execution
                elif abs(execution.started_at - started_at) < abs(found.started_at - started_at):
                    found = execution
            execution = execution.following
        return found

    def last_attempt(self, uuid: str, worker: Any) -> Execution | None:
        """Return the execution that runs on this worker; of several attempts, the last: the others
        end with a retry, whose event may arrive later."""
        first = found = self.running(uuid, worker)
        while found is not None and found.following is not None:
            one = found.following
            if first is None or one.state != RUNNING or one.worker is not worker:
                break
            if one.name is not first.name or one.attempt <= found.attempt:
                break
            found = one
        return found

    def orphaned(self, uuid: str, worker: str) -> Execution | None:
        """Return the undecided or lost execution of a worker that was forgotten meanwhile."""
        for one in self.of(uuid):
            if one.state in (ORPHANED, LOST) and one.worker.name == worker:
                return one
        return None

    def last(self, uuid: str) -> Execution | None:
        """Return the execution of the last message."""
        execution = self._first.get(uuid)
        while execution is not None and execution.following is not None:
            execution = execution.following
        return execution

    def just_ended(self, uuid: str, worker: Any) -> Execution | None:
        """Return the execution that has just failed or been rejected on this worker.

        Of several, the one whose failure has not been reported.
        """
        ended = (one for one in self.of(uuid) if one.worker is worker)
        reported = (one for one in ended if one.state in (FAILED, REJECTED))
        return min(reported, key=lambda one: one.state == FAILED, default=None)

    # Changes

    def take_sent_at(self, execution: Execution) -> float:
        """Return when a message was sent that was delivered before, where it did not start; or 0.

        Its wait is observed once.
        """
        for one in self.of(execution.uuid):
            if (
                one.sent_at > 0
                and one.state <= HELD
                and one.name is execution.name
                and one.attempt == execution.attempt
            ):
                sent_at, one.sent_at = one.sent_at, OBSERVED
                return sent_at
        return 0.0

    def add(self, execution: Execution, reserved: int = 0) -> Execution:
        """Track an execution, while `reserved` other tasks need a place too."""
        first = self._first.get(execution.uuid)
        if first is None:
            if len(self._first) + reserved >= self.max_tasks:
                self._make_room(execution.seen_at, reserved)
            self._first[execution.uuid] = execution
            return execution
        length = 1
        while first.following is not None:
            first, length = first.following, length + 1
        if length < _MAX_PER_UUID:
            first.following = execution
        else:
            self._leave(execution)
        return execution

    def remove(self, execution: Execution, now: float, merged: bool = False) -> None:
        """Stop tracking an execution; `merged`: it did not end, another one has its message."""
        first = self._first.get(execution.uuid)
        if first is execution:
            del self._first[execution.uuid]
            if execution.following is None:
                self._repeated.pop(execution.uuid, None)
                return
            # At the end of the order: a newer one in the old place would protect those behind it.
            self._first[execution.uuid] = execution.following
        else:
            while first is not None and first.following is not execution:
                first = first.following
            if first is None:
                return
            first.following = execution.following
        if not merged and any(one.delivers_again(execution) for one in self.of(execution.uuid)):
            self._repeated.setdefault(execution.uuid, now + _KEEP_RECEIVED)

    def keep_ended(self, execution: Execution, now: float) -> None:
        """Track an execution that has ended for a few seconds more."""
        self._ended.append((now + _KEEP_ENDED, execution))
        if len(self._ended) > _MAX_ENDED:
            self.settle(self._ended.popleft()[1], now)

    def settle(self, execution: Execution, now: float) -> None:
        """Stop tracking an execution that has ended.

        It is remembered where another one of its message may start: where it was acknowledged late,
        as far as known, where the application has chosen its uuid, or where others are tracked.
        """
        uuid = execution.uuid
        if (
            execution.name.late is not False
            or len(uuid) != _UUID_LENGTH
            or execution.following is not None
            or self._first.get(uuid) is not execution
        ):
            self._recent[uuid] = execution
        self.remove(execution, now)

    def expire(self, now: float, forget_after: float) -> None:
        """Remove the executions that have ended or are old."""
        if len(self._recent) > _MAX_REMEMBERED or not is_recent(self._recent_since, now, _REMEMBER):
            self._recent, self._older, self._recent_since = {}, self._recent, now
        while self._ended and is_due(self._ended[0][0], now, _KEEP_ENDED):
            self.settle(self._ended.popleft()[1], now)
        due = takewhile(lambda item: is_due(item[1], now, _KEEP_RECEIVED), self._repeated.items())
        for uuid, deadline in list(due):
            del self._repeated[uuid]
            for one in list(self.of(uuid)):
                if one.state == HELD and one.seen_at <= deadline - _KEEP_RECEIVED:
                    self._leave(one)
                    self.remove(one, now)
        self._evict_old(now - forget_after, now)

    def firsts(self) -> list[Execution]:
        """Return the first execution of each uuid, in their order."""
        return list(self._first.values())

    def to_state(self) -> SavedExecutions:
        """Return what is saved besides the executions."""
        return SavedExecutions(self.evicted, dict(self._repeated), self._recent_since)

    def remembered_halves(self) -> tuple[list[Execution], list[Execution]]:
        """Return the remembered executions, the newer and the older half."""
        return list(self._recent.values()), list(self._older.values())

    def restore(
        self, state: SavedExecutions, recent: Iterable[Execution], older: Iterable[Execution]
    ) -> None:
        """Continue from a saved state, with these remembered executions."""
        self._recent = {one.uuid: one for one in recent}
        self._older = {one.uuid: one for one in older}
        self.evicted = state.evicted
        self._repeated.update(state.repeated)
        self._recent_since = state.remembered_since

    def all(self) -> Iterator[Execution]:
        """Yield those that are tracked now, also while they change."""
        for first in list(self._first.values()):
            execution: Execution | None = first
            while execution is not None:
                yield execution
                execution = execution.following

    def _make_room(self, now: float, reserved: int) -> None:
        self._evict_old(float("inf"), now)
        if len(self._first) + reserved >= self.max_tasks:  # all of them run
            self._evict(list(islice(self._first, _BATCH)))

    def _evict_old(self, seen_before: float, now: float) -> None:
        """Evict the oldest tasks that do not run; those that run move to the end of the order."""
        old = []
        for uuid, first in list(islice(self._first.items(), _BATCH)):
            if first.seen_at >= seen_before:
                break
            if any(one.state == RUNNING for one in self.of(uuid)):
                first.seen_at = now
                self._first[uuid] = self._first.pop(uuid)
            else:
                old.append(uuid)
        self._evict(old)

    def _evict(self, uuids: Iterable[str]) -> None:
        for uuid in uuids:
            tracked = False
            for execution in self.of(uuid):
                tracked = tracked or execution.state < LOST
                if execution.state < LOST:
                    self._leave(execution)
                execution.worker, execution.started_at, execution.sent_at = None, 0.0, 0.0
            del self._first[uuid]
            self._repeated.pop(uuid, None)
            self.evicted += tracked

    def _leave(self, execution: Execution) -> None:
        execution.move(ENDED)
        execution.series.counter("end_unknown", "evicted").value += 1


def is_abandoned(execution: Execution) -> bool:
    """Return whether the process that had received it and not started it is gone."""
    worker = execution.worker
    return (
        execution.state == HELD
        and worker is not None
        and (worker.down or worker.process_since > execution.seen_at)
    )


def is_recent(at: float, now: float, within: float) -> bool:
    """Return whether a time is at most `within` seconds ago, and the clock was not set back."""
    return 0 <= now - at <= within


def is_due(at: float, now: float, within: float) -> bool:
    """Return whether a time set `within` seconds ahead has passed, or the clock was set back."""
    return not now < at <= now + within
