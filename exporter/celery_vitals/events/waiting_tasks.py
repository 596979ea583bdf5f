"""The tasks that wait in each queue, by their events and by the broker's counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from itertools import islice

from celery_vitals.events.execution import OBSERVED, Execution
from celery_vitals.workers.stall_detection import QueueCounts

_MIN_COMPACTION = 1024
_MAX_COMPARED = 5000
"""Tasks at the head of a queue that are compared with the number of its messages."""
_MAX_REMOVED = 100_000
"""Tasks removed in one round, while the event thread waits."""
_TRANSIT = 1.0
"""Seconds within which a message is in its queue after its task-sent event has arrived."""
_CONFIRMED_AFTER = 30.0
"""Seconds after which a task without a message is no longer tracked: the task-received event of a
message that a worker has taken may be late."""


@dataclass
class _Proof:
    """What the broker's counts prove of the tasks of one queue."""

    empty_at: float = 0.0
    """When the queue was read, if it had no message then; else 0."""
    idle: bool = False
    """Whether the workers held none either."""
    drained_before: float = 0.0
    """Tasks that were first seen before this time, and that no worker has received, have none."""
    unconfirmed: float = 0.0
    """A time like the one above, as long as the task-received events before it may be late."""
    excess: dict[Execution, float] = field(default_factory=dict)
    """Tasks in excess of the messages, and since when."""

    def hides(self, execution: Execution) -> bool:
        """Return whether this waiting task has no message any more."""
        if execution.worker is None:
            drained = execution.seen_at < max(self.empty_at, self.drained_before)
            return drained or execution in self.excess
        return self.idle and execution.seen_at < self.empty_at

    def update(self, waiting: deque[Execution], ready: int, unacked: int | None, at: float) -> None:
        """Compare the tasks with the messages of this time."""
        self.empty_at = 0.0 if ready else at
        self.idle = not ready and unacked == 0
        if not ready:
            self.drained_before = at - _TRANSIT
            self.unconfirmed = self.unconfirmed or self.drained_before
        before, self.excess = self.excess, {}
        if 0 < ready < min(len(waiting), _MAX_COMPARED):
            # Messages leave a queue at its head: the newest are those that are left.
            unreceived = [
                one
                for one in islice(waiting, _MAX_COMPARED)
                if _waits(one) and one.seen_at < at and not self.hides(one) and one.worker is None
            ]
            for one in unreceived[: max(0, len(unreceived) - ready)]:
                self.excess[one] = before.get(one, at)

    def gone(self, waiting: deque[Execution], at: float) -> Iterator[Execution]:
        """Yield the tasks whose message is gone for certain."""
        if self.unconfirmed and at - self.unconfirmed >= _CONFIRMED_AFTER:
            for one in islice(waiting, _MAX_REMOVED):
                if one.seen_at < self.unconfirmed and one.worker is None and _waits(one):
                    yield one
            self.unconfirmed = 0.0
        yield from (one for one, since in self.excess.items() if at - since >= _CONFIRMED_AFTER)


class WaitingTasks(dict[str, deque[Execution]]):
    """The executions that wait for a worker by queue, in the order of sending.

    Those that no longer wait are removed lazily: when they reach the head of their queue.  Messages
    that are purged, expire in the broker or vanish with their queue cause no event: then the tasks
    in excess of the messages are left out.
    """

    def __init__(self, tracked: Sized) -> None:
        super().__init__()
        self._tracked = tracked
        self._proofs: dict[str, _Proof] = {}

    def add(self, queue: str, execution: Execution) -> None:
        """Add an execution that was sent to this queue."""
        waiting = self.get(queue)
        if waiting is None:
            waiting = self[queue] = deque()
        waiting.append(execution)
        # One that waits for long at the head keeps all those behind it from being removed.
        if len(waiting) > _MIN_COMPACTION and len(waiting) > 2 * len(self._tracked):
            self[queue] = deque(one for one in waiting if _waits(one))

    def oldest(self) -> Iterator[tuple[str, float]]:
        """Yield each queue in which a task waits, and when the oldest was sent."""
        for queue, waiting in self.items():
            _drop_served(waiting)
            proof = self._proofs.get(queue)
            for execution in waiting:
                if proof is None or (_waits(execution) and not proof.hides(execution)):
                    yield queue, execution.sent_at
                    break

    def compare(
        self,
        queues: Mapping[str, QueueCounts],
        missing: Collection[str],
        at: float,
        silence: Mapping[str, float],
    ) -> list[Execution]:
        """Compare with the messages that the broker had at this time; return the tasks without one.

        `missing` are queues that do not exist.  A consumer may have taken a message and not
        reported it for so many seconds of `silence`.
        """
        gone: list[Execution] = []
        self._proofs = {queue: proof for queue, proof in self._proofs.items() if queue in self}
        for queue, waiting in self.items():
            counts = queues.get(queue)
            if counts is None and queue not in missing:
                continue
            ready, unacked = (counts.ready, counts.unacked) if counts is not None else (0, 0)
            if ready is None:
                continue
            _drop_served(waiting)
            proof = self._proofs.setdefault(queue, _Proof())
            proof.update(waiting, ready, unacked, at)
            gone += proof.gone(waiting, at - silence.get(queue, 0.0))
        for execution in gone:
            execution.sent_at = OBSERVED
        return gone

    def forget(self, queues: Iterable[str] | None = None) -> None:
        """Forget which tasks wait: in these queues, or in all of them after events were lost.

        Where a worker takes tasks without sending task events, it is unknown what still waits.
        """
        for queue in list(self) if queues is None else queues:
            self.pop(queue, None)

    def remove_empty(self) -> None:
        """Remove the queues in which no task waits."""
        for queue, waiting in list(self.items()):
            _drop_served(waiting)
            if not waiting:
                del self[queue]


def _waits(execution: Execution) -> bool:
    return execution.sent_at > 0 and not execution.ended


def _drop_served(waiting: deque[Execution]) -> None:
    while waiting and not _waits(waiting[0]):
        waiting.popleft()
