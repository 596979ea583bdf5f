"""The state of one task while it is tracked, and the tasks that wait in each queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

OBSERVED = -1.0
"""`TaskState.sent_at` of an attempt whose wait has been observed."""
_NEXT_RECEIVED, _RETRIED = 1, 2
_MIN_COMPACTION = 1024


class TaskState(msgspec.Struct, gc=False):
    """One task.

    Excluded from garbage collection: a million tracked objects would cause long pauses.
    """

    series: Any
    """Its `TaskSeries`, once its queue is known; None before."""
    name: Any
    """Its `TaskName`; that of unknown tasks until an event contains the name."""
    sent_at: float = 0.0
    """Corrected Unix time at which the present attempt was sent, or its ETA where that is later; 0
    while unknown, `OBSERVED` once its wait has been observed."""
    next_sent_at: float = 0.0
    """The same for the next attempt: a task that retries is sent again while it still runs."""
    started_at: float = 0.0
    """Corrected Unix time at which the present attempt started; 0 before."""
    previous_started_at: float = 0.0
    """When the previous attempt started, while the time at which it was sent is unknown; else 0."""
    attempt: int = 0
    """Number of the present attempt: 0, and one more with each retry."""
    retries: int = 0
    """Number of task-retried events.  One may arrive after the next attempt has started or even
    ended."""
    worker: Any = None
    """The `WorkerTracker` on which the present attempt started, or the last one that did."""
    first_seen: float = 0.0
    """When its first event arrived, by the exporter's clock."""
    sent_event_seen: bool = False
    """Whether a task-sent event of it has arrived."""
    early_event: int = 0
    """The event that arrived before the start of the present attempt: that the next one was
    received (_NEXT_RECEIVED), or that this one has been retried (_RETRIED)."""
    ended: bool = False
    """Whether its end has been counted: an end that is reported twice is counted once."""

    def begin_attempt(self, attempt: int) -> None:
        """Continue with a further attempt, before or after the event that ends the last one."""
        unmatched = not self.sent_at and attempt <= self.attempt + 1
        self.previous_started_at = self.started_at if unmatched else 0.0
        self.attempt, self.started_at, self.early_event = attempt, 0.0, 0
        self.sent_at, self.next_sent_at = self.next_sent_at, 0.0

    def record_received(self, attempt: int) -> None:
        """Record that an attempt was received.

        A worker may report this before the start of the previous attempt: it learns of the message
        from the broker, and of the start from its pool.
        """
        if attempt == self.attempt + 1 and not self.started_at and self.early_event != _RETRIED:
            self.early_event = _NEXT_RECEIVED
        elif attempt > self.attempt:
            self.begin_attempt(attempt)

    def record_start(self, at: float, worker: Any) -> None:
        """Record a start: of the next attempt, if it was received and the present one started."""
        if self.started_at and self.early_event == _NEXT_RECEIVED:
            self.begin_attempt(self.attempt + 1)
        self.started_at, self.worker, self.ended = at, worker, False

    def record_retry(self) -> None:
        """Record that an attempt, the present or an earlier one, ended with a retry."""
        self.retries += 1
        if self.retries <= self.attempt:
            return
        if self.started_at or self.early_event == _NEXT_RECEIVED:
            self.begin_attempt(self.attempt + 1)
        else:
            self.early_event = _RETRIED

    def record_sent(self, attempt: int, since: float) -> float:
        """Record when an attempt was sent; return its start if its wait is over, else 0."""
        started_at = 0.0
        if attempt > self.attempt:
            self.next_sent_at = since
        elif attempt == self.attempt and not self.sent_at:
            self.sent_at, started_at = (OBSERVED if self.started_at else since), self.started_at
        elif attempt == self.attempt - 1:
            started_at, self.previous_started_at = self.previous_started_at, 0.0
        return started_at


class WaitingTasks(dict[str, deque[str]]):
    """The uuids of waiting tasks by queue, in the order of sending.

    Tasks that no longer wait are removed lazily: when they reach the head of their queue.
    """

    def __init__(self, tasks: Mapping[str, TaskState]) -> None:
        super().__init__()
        self._tasks = tasks

    def add(self, queue: str, uuid: str) -> None:
        """Add a task that was sent to this queue."""
        uuids = self.setdefault(queue, deque())
        uuids.append(uuid)
        # A task that waits for long at the head keeps all those behind it from being removed.
        if len(uuids) > max(_MIN_COMPACTION, 2 * len(self._tasks)):
            self[queue] = deque(one for one in uuids if self._waits(one))

    def oldest(self) -> Iterator[tuple[str, float]]:
        """Yield each queue in which a task waits, and when the oldest was sent."""
        for queue, uuids in self.items():
            self._drop_served(uuids)
            if uuids:
                yield queue, self._tasks[uuids[0]].sent_at

    def remove_empty(self) -> None:
        """Remove the queues in which no task waits."""
        for queue, uuids in list(self.items()):
            self._drop_served(uuids)
            if not uuids:
                del self[queue]

    def _waits(self, uuid: str) -> bool:
        task = self._tasks.get(uuid)
        return task is not None and task.sent_at > 0 and not task.ended

    def _drop_served(self, uuids: deque[str]) -> None:
        while uuids and not self._waits(uuids[0]):
            uuids.popleft()
