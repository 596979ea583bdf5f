"""Queues on kombu's own transports whose count is known to be true and without side effects: files, memory."""

from __future__ import annotations

from collections.abc import Collection

from celery_vitals.cluster import BrokerConnection
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.queues import Backlog, Depth, KnownQueues


class VirtualGauge:
    """See `Gauge`."""

    def __init__(self, connection: BrokerConnection, known: KnownQueues) -> None:
        self._channel = connection.channel
        self._known = known

    def measure(self, consumed: Collection[str], deadline: Deadline) -> Backlog:
        """One count per queue."""
        queues: dict[str, Depth] = {}
        for name in self._known.names() | set(consumed):
            if deadline.passed:
                raise ProbeError(Reason.TIMEOUT, f"{len(queues)} queues read, then the time was up")
            queues[name] = Depth(ready=self._channel._size(name))
        return Backlog(queues)

    def close(self) -> None:
        """Nothing was set up."""
