"""The collector `broker`: whether the broker answers."""

from __future__ import annotations

from collections.abc import Iterable

from celery_vitals.brokers.base import BrokerConnection
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.session import Session
from celery_vitals.collectors.base import Dependencies, ProbingCollector
from celery_vitals.deadline import Deadline
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample


class BrokerCollector(ProbingCollector[bool]):
    """The collector that sends a request to the broker over a connection of its own."""

    name = "broker"

    @classmethod
    def create(cls, shared: Dependencies) -> BrokerCollector | None:
        """Return the collector where the broker kind allows a request without side effects."""
        capabilities = shared.broker.target.capabilities
        if capabilities.up:
            return cls(shared.broker)
        shared.add_unsupported(cls.name, "The broker is not probed", capabilities.up)
        return None

    def __init__(self, broker: BrokerClient) -> None:
        self._transport = broker.target.transport
        self._session: Session[BrokerConnection] = Session(broker, lambda connection: connection)

    def measure(self, deadline: Deadline) -> bool:
        """Return True after a round trip."""
        self._session.use(deadline, lambda connection: connection.round_trip())
        return True

    def samples(self, value: bool | None) -> Iterable[Sample]:
        """Yield whether the broker answered, and its kind."""
        yield definitions.BROKER_UP(1 if value else 0)
        yield definitions.BROKER_INFO(1, self._transport)

    def close(self, deadline: Deadline) -> None:
        """Close the connection."""
        self._session.close()
