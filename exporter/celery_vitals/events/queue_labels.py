"""The label `queue` of task series: queues of one process count under a name that they share."""

from __future__ import annotations

from collections.abc import Callable

from celery_vitals.queue_names import DIRECT, broadcast_name, ends_in_uuid, is_direct

_MAX_NAMES = 10_000
"""Names that are remembered, so that they are matched once."""


class QueueLabels:
    """The labels of the queues in events, by the names that events contain.  For one thread.

    `broadcasts` returns the exchanges that workers consume by a queue of each.
    """

    def __init__(self, broadcasts: Callable[[], frozenset[str]] = frozenset) -> None:
        self._current_broadcasts = broadcasts
        self.own: set[str] = set()
        """Names of queues that are known to count under their own names."""
        self._broadcasts: frozenset[str] = frozenset()
        self._shared: set[str] = set()

    @property
    def shared(self) -> frozenset[str]:
        """The labels that stand for the queues of several processes, and for no one queue."""
        return self._broadcasts.union(self._shared)

    def update(self) -> None:
        """Match the names again if the workers consume other exchanges."""
        exchanges = self._current_broadcasts()
        if exchanges != self._broadcasts:
            self._broadcasts = exchanges
            self.own.clear()

    def label(self, queue: str, exchange: str | None = None) -> str:
        """Return the label of a queue to which tasks were sent through this exchange."""
        if ends_in_uuid(queue):
            self.update()
        label = (
            DIRECT if is_direct(queue) else broadcast_name(queue, exchange or "", self._broadcasts)
        )
        known = self.own if label is None else self._shared
        if len(known) >= _MAX_NAMES:
            known.clear()
        known.add(label or queue)
        return label or queue
