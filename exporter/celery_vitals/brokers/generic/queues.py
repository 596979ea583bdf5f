"""Queue lengths of virtual transports whose count is true and free of side effects."""

from __future__ import annotations

from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.queue_stats import QueueSnapshot, QueueStats, WorkerReports
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.third_party import kombu_internals


class GenericQueueReader:
    """A `QueueReader` that counts with kombu."""

    def __init__(self, connection: BrokerConnection, registry: QueueRegistry) -> None:
        self._channel = connection.channel
        self._registry = registry

    def measure(self, reports: WorkerReports, deadline: Deadline) -> QueueSnapshot:
        """Count the messages of each queue."""
        queues: dict[str, QueueStats] = {}
        for name in self._registry.names() | reports.queues:
            if deadline.passed:
                raise ProbeError(Reason.TIMEOUT, f"deadline reached after {len(queues)} queues")
            queues[name] = QueueStats(ready=kombu_internals.queue_size(self._channel, name))
        return QueueSnapshot(queues)

    def close(self) -> None:
        """Do nothing: nothing was set up."""
