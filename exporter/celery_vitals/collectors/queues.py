"""The collector `queues`: queue lengths, read from the broker."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.base import QueueReader
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.queue_stats import QueueSnapshot, QueueStats, WorkerReports
from celery_vitals.brokers.session import Session
from celery_vitals.collectors.base import Dependencies, ProbingCollector, QueueListener
from celery_vitals.collectors.visibility_timeout import visibility_timeout
from celery_vitals.deadline import Deadline
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.settings import Settings
from celery_vitals.workers.registry import WorkerRegistry

_SHOWN = 3
_MAX_DEAD_LETTER_QUEUES = 10_000
"""Limit of the series of `celery_queue_dead_letter_info`."""
_FIRST_ROUND = 0.5
"""The part of its time for which the first probe waits for the replies of the workers, which name
the queues they consume."""


class QueuesCollector(ProbingCollector[QueueSnapshot]):
    """The collector that reads the lengths of all known queues over a connection of its own."""

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
        return cls(
            shared.broker, shared.workers, shared.queues, shared.settings, shared.queue_listeners
        )

    def __init__(
        self,
        broker: BrokerClient,
        workers: WorkerRegistry,
        queues: QueueRegistry,
        settings: Settings,
        listeners: Iterable[QueueListener] = (),
    ) -> None:
        self._broker = broker
        self._target = broker.target
        self._workers = workers
        self._queues = queues
        self._named = settings.queues
        self._limits = settings.queue_limits
        self._listeners = listeners
        self._priorities = settings.queue_priorities
        self._session: Session[QueueReader] = Session(broker, self._set_up)

    def _set_up(self, connection: BrokerConnection) -> QueueReader:
        return self._broker.queue_readers(connection, self._queues)

    def measure(self, deadline: Deadline) -> QueueSnapshot:
        """Read the queues."""
        self._workers.first_round.wait(deadline.remaining * _FIRST_ROUND)
        self._queues.broadcasts = self._workers.broadcasts()
        reports = WorkerReports(
            self._queues.included(self._workers.read_queues()), self._workers.transport_options()
        )

        def read(reader: QueueReader) -> tuple[float, QueueSnapshot]:
            return time.time(), reader.measure(reports, deadline)

        at, snapshot = self._session.use(deadline, read)
        self._queues.mark_consumed(reports.queues)
        self._workers.observe_queues(snapshot.queues)
        for listener in self._listeners:
            listener(snapshot.queues, self._queues.missing(), at)
        return snapshot

    def samples(self, value: QueueSnapshot | None) -> Iterator[Sample]:
        """Yield the samples of each queue; none after a failed probe: unknown is not 0."""
        timeout = visibility_timeout(self._target, self._workers)
        if timeout is not None:
            yield definitions.BROKER_VISIBILITY_TIMEOUT(timeout)
        if value is None:
            return
        evidence_of = self._queues.evidence()
        for name, stats in sorted(value.queues.items()):
            yield from self._queue_samples(name, stats)
            if evidence := evidence_of(name):
                yield definitions.QUEUE_EVIDENCE(1, name, evidence)
        yield from islice(self._dead_letters(value), _MAX_DEAD_LETTER_QUEUES)
        for metric, amount in (
            (definitions.BROKER_UNACKED, value.unacked),
            (definitions.BROKER_OLDEST_UNACKED, value.oldest_unacked_at),
            (definitions.BROKER_DELAYED, value.delayed),
            (definitions.BROKER_UNROUTABLE, value.dropped),
            (definitions.BROKER_ORPHANED_REPLIES, value.orphaned_replies),
        ):
            if amount is not None:
                yield metric(amount)

    def _dead_letters(self, value: QueueSnapshot) -> Iterator[Sample]:
        """Yield each queue and a queue of its dead letters, empty where they are dropped."""
        for name, received_by in sorted(value.dead_letter_queues.items()):
            exported = sorted(received_by & value.queues.keys())
            for dead_letter_queue in exported if received_by else ("",):
                yield definitions.QUEUE_DEAD_LETTER_INFO(1, name, dead_letter_queue)

    def _queue_samples(self, name: str, stats: QueueStats) -> Iterator[Sample]:
        for metric, amount in (
            (definitions.QUEUE_LENGTH, stats.ready),
            (definitions.QUEUE_UNACKED, stats.unacked),
            (definitions.QUEUE_CONSUMERS, stats.consumers),
            (definitions.QUEUE_DELAYED, stats.delayed),
            (definitions.QUEUE_OLDEST_MESSAGE, stats.oldest_at),
            (definitions.QUEUE_LENGTH_LIMIT, self._limits.get(name, self._limits.get("*"))),
        ):
            if amount is not None:
                yield metric(amount, name)
        if stats.kind:
            yield definitions.QUEUE_INFO(1, name, stats.kind)
        for priority, length in stats.by_priority.items() if self._priorities else ():
            yield definitions.QUEUE_PRIORITY_LENGTH(length, name, str(priority))

    def blind_spots(self, value: QueueSnapshot | None) -> Iterator[BlindSpot]:
        """Yield the values that the broker does not report, or not to this user."""
        if value is not None:
            yield from value.blind_spots
            yield from self._undeclared(value)
            if self._queues.full:
                text = (
                    "The limit of discovered queues is reached. Further queues are included only if"
                    " a worker consumes them or a setting names them."
                )
                yield BlindSpot("queue_discovery", text, "--queue-include")
            if not value.queues and all(
                blind_spot.subject != "queue_length" for blind_spot in value.blind_spots
            ):
                text = "No queue is known: no worker consumes one and the broker has none."
                yield BlindSpot("queues", text, "--queue")

    def _undeclared(self, value: QueueSnapshot) -> Iterator[BlindSpot]:
        missing = sorted(self._queues.missing().intersection(self._named) - value.queues.keys())
        if missing:
            names = ", ".join(missing[:_SHOWN]) + (" and others" if len(missing) > _SHOWN else "")
            text = (
                f"Queues that do not exist have no length: {names}. A worker declares its queues"
                " when it starts, a producer when it first sends to them."
            )
            yield BlindSpot("queues", text, "--queue")

    def close(self, deadline: Deadline) -> None:
        """Close the connection."""
        self._session.close()
