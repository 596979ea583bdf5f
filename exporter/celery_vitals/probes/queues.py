"""What waits, and where?"""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals import catalogue
from celery_vitals.cluster import BrokerConnection, Cluster, Link
from celery_vitals.deadline import Deadline
from celery_vitals.fleet import Fleet
from celery_vitals.metric import Sample
from celery_vitals.note import Note
from celery_vitals.queues import Backlog, Gauge, KnownQueues, open_gauge

_FIRST_ROUND = 0.5
"""The part of its time for which the first run waits to hear from the workers which queues they consume."""


class QueuesProbe:
    """Reads the lengths of all known queues, over a connection of its own."""

    name = "queues"
    limit = 5.0

    def __init__(self, cluster: Cluster, fleet: Fleet, known: KnownQueues) -> None:
        self._cluster = cluster
        self._target = cluster.target
        self._fleet = fleet
        self._known = known
        self._link: Link[Gauge] = Link(cluster, self._set_up)

    def _set_up(self, connection: BrokerConnection) -> Gauge:
        return open_gauge(self._cluster, connection, self._known)

    def measure(self, deadline: Deadline) -> Backlog:
        """The lengths now."""
        self._fleet.first_round.wait(deadline.remaining * _FIRST_ROUND)
        backlog = self._link.use(deadline, lambda gauge: gauge.measure(self._fleet.queues(), deadline))
        self._fleet.saw_queues(backlog.queues)
        return backlog

    def samples(self, value: Backlog | None) -> Iterator[Sample]:
        """Each queue's numbers; none after a failed run, since a length that is not known is not 0."""
        if self._target.visibility_timeout is not None:
            yield catalogue.BROKER_VISIBILITY_TIMEOUT(self._target.visibility_timeout)
        if value is None:
            return
        for name, depth in sorted(value.queues.items()):
            for metric, number in (
                (catalogue.QUEUE_LENGTH, depth.ready),
                (catalogue.QUEUE_UNACKED, depth.unacked),
                (catalogue.QUEUE_CONSUMERS, depth.consumers),
            ):
                if number is not None:
                    yield metric(number, name)
        if value.unacked is not None:
            yield catalogue.BROKER_UNACKED(value.unacked)
        if value.oldest_unacked_at is not None:
            yield catalogue.BROKER_OLDEST_UNACKED(value.oldest_unacked_at)

    def notes(self, value: Backlog | None) -> Iterator[Note]:
        """What this broker does not tell, or not to this user."""
        if value is not None:
            yield from (Note(*blind) for blind in value.blind)
            if not value.queues:
                yield Note(
                    "queues", "No queue is known: no worker has named one, and the broker shows none.", "--queue"
                )

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
