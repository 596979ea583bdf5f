"""The tasks that wait in each queue, by their events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sized

from celery_vitals.events.executions import Execution

_MIN_COMPACTION = 1024


class WaitingTasks(dict[str, deque[Execution]]):
    """The executions that wait for a worker by queue, in the order of sending.

    Those that no longer wait are removed lazily: when they reach the head of their queue.
    """

    def __init__(self, tracked: Sized) -> None:
        super().__init__()
        self._tracked = tracked

    def add(self, queue: str, execution: Execution) -> None:
        """Add an execution that was sent to this queue."""
        waiting = self.setdefault(queue, deque())
        waiting.append(execution)
        # One that waits for long at the head keeps all those behind it from being removed.
        if len(waiting) > max(_MIN_COMPACTION, 2 * len(self._tracked)):
            self[queue] = deque(one for one in waiting if _waits(one))

    def oldest(self) -> Iterator[tuple[str, float]]:
        """Yield each queue in which a task waits, and when the oldest was sent."""
        for queue, waiting in self.items():
            _drop_served(waiting)
            if waiting:
                yield queue, waiting[0].sent_at

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
