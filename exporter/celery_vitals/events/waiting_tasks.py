"""Which tasks wait in which queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from celery_vitals.events.task_state import TaskState

_FEW = 1024


class WaitingTasks(dict[str, deque[str]]):
    """The uuids of tasks that wait, and of some that no longer do, by queue, in the order in which they were sent."""

    def __init__(self, records: Mapping[str, TaskState]) -> None:
        super().__init__()
        self._records = records

    def add(self, queue: str, uuid: str) -> None:
        """A task waits from now on."""
        uuids = self.setdefault(queue, deque())
        uuids.append(uuid)
        if len(uuids) > max(_FEW, 2 * len(self._records)):  # behind one that waits for long
            self[queue] = deque(one for one in uuids if self._waits(one))

    def oldest(self) -> Iterator[tuple[str, float]]:
        """Each queue in which a task waits, and when the oldest was sent."""
        for queue, uuids in self.items():
            self._drop_served(uuids)
            if uuids:
                yield queue, self._records[uuids[0]].sent

    def tend(self) -> None:
        """Forget queues in which none waits."""
        for queue, uuids in list(self.items()):
            self._drop_served(uuids)
            if not uuids:
                del self[queue]

    def _waits(self, uuid: str) -> bool:
        record = self._records.get(uuid)
        return record is not None and record.sent > 0 and not record.ended

    def _drop_served(self, uuids: deque[str]) -> None:
        while uuids and not self._waits(uuids[0]):
            uuids.popleft()
