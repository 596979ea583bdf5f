"""Queues on kombu's own transports whose count is known to be true and without side effects: files, memory."""

from __future__ import annotations

from collections.abc import Collection

from celery_vitals.brokers import BrokerConnection
from celery_vitals.brokers.queue_readers import QueueRegistry, QueueSnapshot, QueueStats
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason


class GenericQueueReader:
    """See `Gauge`."""

    def __init__(self, connection: BrokerConnection, known: QueueRegistry) -> None:
        self._channel = connection.channel
        self._known = known

    def measure(self, consumed: Collection[str], deadline: Deadline) -> QueueSnapshot:
        """One count per queue."""
        queues: dict[str, QueueStats] = {}
        for name in self._known.names() | set(consumed):
            if deadline.passed:
                raise ProbeError(Reason.TIMEOUT, f"{len(queues)} queues read, then the time was up")
            queues[name] = QueueStats(ready=self._channel._size(name))
        return QueueSnapshot(queues)

    def close(self) -> None:
        """Nothing was set up."""
