"""How long is a queue, and which queues are there?  One file per kind of broker."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from celery_vitals.brokers import BrokerClient, BrokerConnection
from celery_vitals.deadline import Deadline
from celery_vitals.queue_registry import (
    QueueRegistry,
    is_control_reply,
    is_delayed,
    is_internal,
    shown_by,
)

__all__ = [
    "Blind",
    "QueueReader",
    "QueueRegistry",
    "QueueSnapshot",
    "QueueStats",
    "is_control_reply",
    "is_delayed",
    "is_internal",
    "open_queue_reader",
    "shown_by",
    "stamp",
]

_AHEAD = 86400.0
"""Seconds by which a producer's clock may be ahead."""

Blind = tuple[str, str, str]
"""Subject, text and setting of what cannot be seen."""


@dataclass(frozen=True)
class QueueStats:
    """One queue's numbers; None where the broker does not tell."""

    ready: int | None = None
    unacked: int | None = None
    consumers: int | None = None
    kind: str = ""
    """What the broker calls this kind of queue: classic, quorum, stream, list; empty where it does not tell."""
    oldest_at: float | None = None
    """Unix time at which the oldest message was sent, as its producer has stamped it."""
    by_priority: Mapping[int, int] = field(default_factory=dict)
    """`ready` by priority, where the broker keeps them apart."""
    delayed: int | None = None
    """Messages that the broker holds back until their time."""


@dataclass(frozen=True)
class QueueSnapshot:
    """What waits in a broker."""

    queues: Mapping[str, QueueStats]
    unacked: int | None = None
    """Messages of all queues that workers hold, where only the total is known."""
    oldest_unacked_at: float | None = None
    """Unix time."""
    delayed: int | None = None
    """Messages that wait for their ETA in the broker, before they come to a queue."""
    orphaned_replies: int | None = None
    """Queues for replies to remote control that nobody reads."""
    blind: tuple[Blind, ...] = field(default=())


class QueueReader(Protocol):
    """Reads queue lengths over one connection."""

    def measure(self, consumed: Collection[str], deadline: Deadline) -> QueueSnapshot:
        """The numbers of all known queues, the `consumed` ones among them."""

    def close(self) -> None:
        """Nothing is left in the broker."""


def stamp(value: float | str | None) -> float | None:
    """A producer's stamp as Unix time; None for what can be none: no number, milliseconds, the far future."""
    try:
        at = float(value) if value is not None else 0.0
    except ValueError:
        return None
    return at if 0 < at < time.time() + _AHEAD else None


def open_queue_reader(
    broker: BrokerClient, connection: BrokerConnection, known: QueueRegistry
) -> QueueReader:
    """The gauge for this kind of broker, one whose lengths can be known."""
    from celery_vitals.brokers.generic.queues import GenericQueueReader
    from celery_vitals.brokers.rabbitmq.queues import RabbitMQQueueReader
    from celery_vitals.brokers.redis.queues import RedisQueueReader

    match broker.target.driver:
        case "redis":
            return RedisQueueReader(connection, known, broker.target.control_exchange)
        case "amqp":
            return RabbitMQQueueReader(connection, known, broker.management, broker.target.streams)
        case "sqs":
            from celery_vitals.brokers.sqs.queues import SqsQueueReader  # needs boto3

            return SqsQueueReader(connection, known)
        case _:
            return GenericQueueReader(connection, known)
