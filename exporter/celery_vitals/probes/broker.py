"""Is the broker there, and does it answer?"""

from __future__ import annotations

from collections.abc import Iterable

from celery_vitals import catalogue
from celery_vitals.cluster import BrokerConnection, Cluster, Link
from celery_vitals.deadline import Deadline
from celery_vitals.metric import Sample
from celery_vitals.note import Note


class BrokerProbe:
    """A round trip over a connection of its own."""

    name = "broker"
    limit = 5.0

    def __init__(self, cluster: Cluster) -> None:
        self._transport = cluster.target.transport
        self._link: Link[BrokerConnection] = Link(cluster, lambda connection: connection)

    def measure(self, deadline: Deadline) -> bool:
        """True, or the library's error."""
        self._link.use(deadline, BrokerConnection.round_trip)
        return True

    def samples(self, value: bool | None) -> Iterable[Sample]:
        """Up or not, and the kind."""
        yield catalogue.BROKER_UP(1 if value else 0)
        yield catalogue.BROKER_INFO(1, self._transport)

    def notes(self, value: bool | None) -> Iterable[Note]:
        """None."""
        return ()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
