"""The collector `queues`: queue lengths, read from the broker."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.base import BrokerConnection, QueueReader, QueueSnapshot, QueueStats
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.session import Session
from celery_vitals.collectors.base import Dependencies, ProbingCollector
from celery_vitals.deadline import Deadline
from celery_vitals.metrics import definitions as definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.settings import Settings
from celery_vitals.workers.registry import WorkerRegistry

_FIRST_ROUND = 0.5
"""The part of its time for which the first run waits to hear from the workers which queues they consume."""


class QueuesCollector(ProbingCollector[QueueSnapshot]):
    """Reads the lengths of all known queues over a connection of its own."""

    name = "queues"

    @classmethod
    def create(cls, shared: Dependencies) -> QueuesCollector | None:
        """Return the collector where the broker kind counts messages without side effects."""
        capabilities = shared.broker.target.capabilities
        if not capabilities.length:
            shared.add_unsupported(cls.name, "Queue lengths are not read", capabilities.length)
            return None
        if not capabilities.unacked:
            what = "Unacknowledged messages are not counted"
            shared.add_unsupported("queue_unacked_messages", what, capabilities.unacked)
        return cls(shared.broker, shared.workers, shared.queues, shared.settings)

    def __init__(
        self,
        broker: BrokerClient,
        registry: WorkerRegistry,
        known: QueueRegistry,
        settings: Settings,
    ) -> None:
        self._broker = broker
        self._target = broker.target
        self._registry = registry
        self._known = known
        self._limits = settings.queue_limits
        self._priorities = settings.queue_priorities
        self._session: Session[QueueReader] = Session(broker, self._set_up)

    def _set_up(self, connection: BrokerConnection) -> QueueReader:
        return self._broker.queue_readers(connection, self._known)

    def measure(self, deadline: Deadline) -> QueueSnapshot:
        """The lengths now."""
        self._registry.first_round.wait(deadline.remaining * _FIRST_ROUND)
        consumed = self._known.included(self._registry.queues())
        snapshot = self._session.use(deadline, lambda reader: reader.measure(consumed, deadline))
        self._registry.observe_queues(snapshot.queues)
        return snapshot

    def samples(self, value: QueueSnapshot | None) -> Iterator[Sample]:
        """Each queue's numbers; none after a failed run, since a length that is not known is not 0."""
        if self._target.visibility_timeout is not None:
            yield definitions.BROKER_VISIBILITY_TIMEOUT(self._target.visibility_timeout)
        if value is None:
            return
        for name, depth in sorted(value.queues.items()):
            yield from self._queue(name, depth)
        for metric, number in (
            (definitions.BROKER_UNACKED, value.unacked),
            (definitions.BROKER_OLDEST_UNACKED, value.oldest_unacked_at),
            (definitions.BROKER_DELAYED, value.delayed),
            (definitions.BROKER_ORPHANED_REPLIES, value.orphaned_replies),
        ):
            if number is not None:
                yield metric(number)

    def _queue(self, name: str, depth: QueueStats) -> Iterator[Sample]:
        for metric, number in (
            (definitions.QUEUE_LENGTH, depth.ready),
            (definitions.QUEUE_UNACKED, depth.unacked),
            (definitions.QUEUE_CONSUMERS, depth.consumers),
            (definitions.QUEUE_DELAYED, depth.delayed),
            (definitions.QUEUE_OLDEST_MESSAGE, depth.oldest_at),
            (definitions.QUEUE_LENGTH_LIMIT, self._limits.get(name, self._limits.get("*"))),
        ):
            if number is not None:
                yield metric(number, name)
        if depth.kind:
            yield definitions.QUEUE_INFO(1, name, depth.kind)
        for priority, number in depth.by_priority.items() if self._priorities else ():
            yield definitions.QUEUE_PRIORITY_LENGTH(number, name, str(priority))

    def blind_spots(self, value: QueueSnapshot | None) -> Iterator[BlindSpot]:
        """What this broker does not tell, or not to this user."""
        if value is not None:
            yield from value.blind_spots
            if self._known.full:
                text = "There are so many queues that any more are only seen when a worker consumes them or a setting"
                yield BlindSpot("queue_discovery", f"{text} names them.", "--queue-include")
            if not value.queues and all(
                blind_spot.subject != "queue_length" for blind_spot in value.blind_spots
            ):
                yield BlindSpot(
                    "queues",
                    "No queue is known: no worker has named one, and the broker shows none.",
                    "--queue",
                )

    def close(self, deadline: Deadline) -> None:
        """Close the connection."""
        self._session.close()
