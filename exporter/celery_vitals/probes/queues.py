"""What waits, and where?"""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals import catalogue
from celery_vitals.cluster import BrokerConnection, Cluster, Link
from celery_vitals.deadline import Deadline
from celery_vitals.fleet import Fleet
from celery_vitals.metric import Sample
from celery_vitals.note import Note
from celery_vitals.queues import Backlog, Depth, Gauge, KnownQueues, open_gauge
from celery_vitals.settings import Settings

_FIRST_ROUND = 0.5
"""The part of its time for which the first run waits to hear from the workers which queues they consume."""


class QueuesProbe:
    """Reads the lengths of all known queues, over a connection of its own."""

    name = "queues"
    limit = 5.0

    def __init__(self, cluster: Cluster, fleet: Fleet, known: KnownQueues, settings: Settings) -> None:
        self._cluster = cluster
        self._target = cluster.target
        self._fleet = fleet
        self._known = known
        self._limits = settings.queue_limits
        self._priorities = settings.queue_priorities
        self._link: Link[Gauge] = Link(cluster, self._set_up)

    def _set_up(self, connection: BrokerConnection) -> Gauge:
        return open_gauge(self._cluster, connection, self._known)

    def measure(self, deadline: Deadline) -> Backlog:
        """The lengths now."""
        self._fleet.first_round.wait(deadline.remaining * _FIRST_ROUND)
        consumed = self._known.shown(self._fleet.queues())
        backlog = self._link.use(deadline, lambda gauge: gauge.measure(consumed, deadline))
        self._fleet.saw_queues(backlog.queues)
        return backlog

    def samples(self, value: Backlog | None) -> Iterator[Sample]:
        """Each queue's numbers; none after a failed run, since a length that is not known is not 0."""
        if self._target.visibility_timeout is not None:
            yield catalogue.BROKER_VISIBILITY_TIMEOUT(self._target.visibility_timeout)
        if value is None:
            return
        for name, depth in sorted(value.queues.items()):
            yield from self._queue(name, depth)
        for metric, number in (
            (catalogue.BROKER_UNACKED, value.unacked),
            (catalogue.BROKER_OLDEST_UNACKED, value.oldest_unacked_at),
            (catalogue.BROKER_DELAYED, value.delayed),
            (catalogue.BROKER_ORPHANED_REPLIES, value.orphaned_replies),
        ):
            if number is not None:
                yield metric(number)

    def _queue(self, name: str, depth: Depth) -> Iterator[Sample]:
        for metric, number in (
            (catalogue.QUEUE_LENGTH, depth.ready),
            (catalogue.QUEUE_UNACKED, depth.unacked),
            (catalogue.QUEUE_CONSUMERS, depth.consumers),
            (catalogue.QUEUE_DELAYED, depth.delayed),
            (catalogue.QUEUE_OLDEST_MESSAGE, depth.oldest_at),
            (catalogue.QUEUE_LENGTH_LIMIT, self._limits.get(name, self._limits.get("*"))),
        ):
            if number is not None:
                yield metric(number, name)
        if depth.kind:
            yield catalogue.QUEUE_INFO(1, name, depth.kind)
        for priority, number in depth.by_priority.items() if self._priorities else ():
            yield catalogue.QUEUE_PRIORITY_LENGTH(number, name, str(priority))

    def notes(self, value: Backlog | None) -> Iterator[Note]:
        """What this broker does not tell, or not to this user."""
        if value is not None:
            yield from (Note(*blind) for blind in value.blind)
            if self._known.full:
                text = "There are so many queues that any more are only seen when a worker consumes them or a setting"
                yield Note("queue_discovery", f"{text} names them.", "--queue-include")
            if not value.queues and all(subject != "queue_length" for subject, _, _ in value.blind):
                yield Note(
                    "queues", "No queue is known: no worker has named one, and the broker shows none.", "--queue"
                )

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
