"""The account of one task and queue: how many of its executions are tracked, in which state.

Every execution enters an account once and leaves it once.  What entered and left is counted in the
series; what is inside is counted here, and a scrape compares the two.
"""

from __future__ import annotations

WAITING, HELD, RUNNING, ORPHANED, LOST, ENDED, FAILED, REJECTED = range(8)
"""The states of an execution, in their order.  `WAITING`: its message is with the broker.  `HELD`:
a worker has received it.  `ORPHANED`: it ran in a process that is gone, and is undecided.  `LOST`:
it is counted as lost, and may be found.  `ENDED`, `FAILED`, `REJECTED`: it has ended, within the
last seconds."""


class Account:
    """The account of one task and queue."""

    __slots__ = ("counts", "labels", "without_sent_event")

    def __init__(self, labels: tuple[str, str]) -> None:
        self.labels = labels
        """Task and queue, as in the series."""
        self.counts = [0] * (REJECTED + 1)
        """Executions by state, from `WAITING` to `ORPHANED`; of the others, how many came there."""
        self.without_sent_event = 0
        """Executions that entered without a task-sent event; less those whose event named another
        queue after their end, or that left with a series that was removed."""

    @property
    def inside(self) -> int:
        """Number of executions that have entered and not left."""
        return sum(self.counts[:LOST])
