"""How long is a queue, and which queues are there?  One file per kind of broker."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from celery_vitals.cluster import BrokerConnection, Cluster
from celery_vitals.deadline import Deadline
from celery_vitals.queues.known import KnownQueues, is_control_reply, is_delayed, is_internal, shown_by

__all__ = [
    "Backlog",
    "Blind",
    "Depth",
    "Gauge",
    "KnownQueues",
    "is_control_reply",
    "is_delayed",
    "is_internal",
    "open_gauge",
    "shown_by",
    "stamp",
]

_AHEAD = 86400.0
"""Seconds by which a producer's clock may be ahead."""

Blind = tuple[str, str, str]
"""Subject, text and setting of what cannot be seen."""


@dataclass(frozen=True)
class Depth:
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
class Backlog:
    """What waits in a broker."""

    queues: Mapping[str, Depth]
    unacked: int | None = None
    """Messages of all queues that workers hold, where only the total is known."""
    oldest_unacked_at: float | None = None
    """Unix time."""
    delayed: int | None = None
    """Messages that wait for their ETA in the broker, before they come to a queue."""
    orphaned_replies: int | None = None
    """Queues for replies to remote control that nobody reads."""
    blind: tuple[Blind, ...] = field(default=())


class Gauge(Protocol):
    """Reads queue lengths over one connection."""

    def measure(self, consumed: Collection[str], deadline: Deadline) -> Backlog:
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


def open_gauge(cluster: Cluster, connection: BrokerConnection, known: KnownQueues) -> Gauge:
    """The gauge for this kind of broker, one whose lengths can be known."""
    from celery_vitals.queues.rabbitmq import RabbitGauge
    from celery_vitals.queues.redis import RedisGauge
    from celery_vitals.queues.virtual import VirtualGauge

    match cluster.target.driver:
        case "redis":
            return RedisGauge(connection, known, cluster.target.control_exchange)
        case "amqp":
            return RabbitGauge(connection, known, cluster.management, cluster.target.streams)
        case "sqs":
            from celery_vitals.queues.sqs import SqsGauge  # needs boto3

            return SqsGauge(connection, known)
        case _:
            return VirtualGauge(connection, known)
