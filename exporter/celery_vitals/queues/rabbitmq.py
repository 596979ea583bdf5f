"""Queues on RabbitMQ: a passive declare tells what waits and who consumes; the management API tells the rest."""

from __future__ import annotations

import logging
from collections.abc import Collection

import amqp.exceptions

from celery_vitals.cluster import BrokerConnection, Management, QueueInfo
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.queues import Backlog, Depth, KnownQueues, is_internal

log = logging.getLogger(__name__)

_LONGEST = 255
"""Bytes of a queue's name that AMQP can carry."""
_UNSEEN = (
    ("queue_unacked_messages", "What workers hold and have not acknowledged is not seen: {}."),
    ("queue_discovery", "Queues that no worker consumes and no setting names are not seen: {}."),
)


class RabbitGauge:
    """See `Gauge`."""

    def __init__(self, connection: BrokerConnection, known: KnownQueues, management: Management) -> None:
        self._connection = connection.kombu
        self._channel = connection.kombu.channel()
        self._known = known
        self._management = management
        self._refused: dict[str, str] = {}

    def measure(self, consumed: Collection[str], deadline: Deadline) -> Backlog:
        """The management API for names and unacknowledged messages, then the lengths of this very moment."""
        infos, trouble = self._infos(deadline)
        self._known.found(name for name, info in infos.items() if not info.exclusive)
        if trouble is None:
            self._known.pass_ended()
        queues: dict[str, Depth] = {}
        for name in sorted(self._known.names() | set(consumed)):
            if len(name.encode()) > _LONGEST:
                continue
            if deadline.passed:
                raise ProbeError(Reason.TIMEOUT, f"{len(queues)} queues read, then the time was up")
            depth = self._declared(name)
            if depth is not None:
                info = infos.get(name)
                queues[name] = Depth(depth[0], info.unacked if info else None, depth[1])
        blind = tuple((subject, text.format(trouble), "--rabbitmq-management-url") for subject, text in _UNSEEN)
        return Backlog(queues, blind=blind if trouble else ())

    def close(self) -> None:
        """Nothing was set up."""

    def _infos(self, deadline: Deadline) -> tuple[dict[str, QueueInfo], str | None]:
        infos = self._management.queues(self._connection.virtual_host or "/", deadline)
        if isinstance(infos, str):
            return {}, infos
        return {name: info for name, info in infos.items() if not is_internal(name)}, None

    def _declared(self, name: str) -> tuple[int, int] | None:
        """Messages ready and consumers; None for a queue that does not exist or may not be looked at."""
        try:
            ok = self._channel.queue_declare(name, passive=True)
        except (amqp.exceptions.NotFound, amqp.exceptions.AccessRefused, amqp.exceptions.ResourceLocked) as error:
            # The broker closes the channel with such an answer, and only the channel.
            self._channel = self._connection.channel()
            if self._refused.get(name) != error.reply_text:
                self._refused[name] = error.reply_text
                log.warning("queue %s cannot be read: %s", name, error.reply_text)
            return None
        self._refused.pop(name, None)
        return ok.message_count, ok.consumer_count
