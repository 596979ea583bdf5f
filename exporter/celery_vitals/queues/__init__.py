"""How long is a queue, and which queues are there?  One file per kind of broker."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from celery_vitals.cluster import BrokerConnection, Cluster
from celery_vitals.deadline import Deadline

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_INTERNAL = re.compile(
    rf"celeryev(\..*)?|.*\.pidbox|celery_delayed_\d+|celery-vitals\..*|amq\.gen-.*|{_UUID}(\.reply.*)?", re.DOTALL
)
"""Queues of Celery's own machinery: events, remote control, delayed delivery, replies of the RPC backend."""

_MOST = 10_000
"""Queues that are found by themselves; there is no such limit on those that are named."""

Blind = tuple[str, str, str]
"""Subject, text and setting of what cannot be seen."""


@dataclass(frozen=True)
class Depth:
    """One queue's numbers; None where the broker does not tell."""

    ready: int | None = None
    unacked: int | None = None
    consumers: int | None = None
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
    blind: tuple[Blind, ...] = field(default=())


class Gauge(Protocol):
    """Reads queue lengths over one connection."""

    def measure(self, consumed: Collection[str], deadline: Deadline) -> Backlog:
        """The numbers of all known queues, the `consumed` ones among them."""

    def close(self) -> None:
        """Nothing is left in the broker."""


class KnownQueues:
    """The names of queues by what is configured and by what the broker shows.  Safe for several threads."""

    def __init__(self, configured: Iterable[str]) -> None:
        self._configured = frozenset(configured)
        self._lock = threading.Lock()
        self._found: dict[str, int] = {}
        self._passes = 0

    def names(self) -> frozenset[str]:
        """All names known."""
        with self._lock:
            return self._configured | frozenset(self._found)

    def found(self, names: Iterable[str]) -> None:
        """Note queues that the broker shows; those of Celery's own machinery are left out."""
        with self._lock:
            for name in names:
                if not is_internal(name) and (name in self._found or len(self._found) < _MOST):
                    self._found[name] = self._passes

    def pass_ended(self) -> None:
        """The broker has been looked through once: what two passes have not shown is gone."""
        with self._lock:
            self._found = {name: seen for name, seen in self._found.items() if seen >= self._passes - 1}
            self._passes += 1


def is_internal(name: str) -> bool:
    """Whether a queue belongs to Celery's own machinery, and not to an application."""
    return _INTERNAL.fullmatch(name) is not None


def open_gauge(cluster: Cluster, connection: BrokerConnection, known: KnownQueues) -> Gauge:
    """The gauge for this kind of broker, one whose lengths can be known."""
    from celery_vitals.queues.rabbitmq import RabbitGauge
    from celery_vitals.queues.redis import RedisGauge
    from celery_vitals.queues.virtual import VirtualGauge

    match cluster.target.driver:
        case "redis":
            return RedisGauge(connection, known)
        case "amqp":
            return RabbitGauge(connection, known, cluster.management)
        case "sqs":
            from celery_vitals.queues.sqs import SqsGauge  # needs boto3

            return SqsGauge(connection, known)
        case _:
            return VirtualGauge(connection, known)
