"""Is the broker there, and does it answer?"""

from __future__ import annotations

from collections.abc import Iterable

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers import BrokerClient, BrokerConnection, Session
from celery_vitals.deadline import Deadline
from celery_vitals.metrics import definitions as definitions
from celery_vitals.metrics.base import Sample


class BrokerCollector:
    """A round trip over a connection of its own."""

    name = "broker"
    limit = 5.0

    def __init__(self, broker: BrokerClient) -> None:
        self._transport = broker.target.transport
        self._session: Session[BrokerConnection] = Session(broker, lambda connection: connection)

    def measure(self, deadline: Deadline) -> bool:
        """True, or the library's error."""
        self._session.use(deadline, BrokerConnection.round_trip)
        return True

    def samples(self, value: bool | None) -> Iterable[Sample]:
        """Up or not, and the kind."""
        yield definitions.BROKER_UP(1 if value else 0)
        yield definitions.BROKER_INFO(1, self._transport)

    def blind_spots(self, value: bool | None) -> Iterable[BlindSpot]:
        """None."""
        return ()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()
