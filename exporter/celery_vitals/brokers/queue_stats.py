"""The numbers of queues at one moment, and what workers report that is needed to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_vitals.blind_spots import BlindSpot


@dataclass(frozen=True)
class QueueStats:
    """One queue's numbers; None where the broker reports none."""

    ready: int | None = None
    unacked: int | None = None
    consumers: int | None = None
    kind: str = ""
    """The broker's name for this kind of queue: classic, quorum, stream, list; or empty."""
    oldest_at: float | None = None
    """Unix time at which the oldest message was sent, by its producer's clock."""
    by_priority: Mapping[float, int] = field(default_factory=dict)
    """`ready` by priority, where the broker keeps priorities apart."""
    delayed: int | None = None
    """Messages that the broker holds back until their time."""


@dataclass(frozen=True)
class QueueSnapshot:
    """The queues of a broker at one moment."""

    queues: Mapping[str, QueueStats]
    unacked: int | None = None
    """Messages of all queues that workers hold, where only the total is known."""
    oldest_unacked_at: float | None = None
    """Unix time."""
    delayed: int | None = None
    """Messages that wait for their ETA in the broker, before they enter a queue."""
    dead_letter_queues: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The queues that receive the dead letters of a queue; none where they are dropped."""
    dropped: int | None = None
    """Messages that the broker has dropped since the exporter started, as no queue was bound."""
    orphaned_replies: int | None = None
    """Queues for replies to remote control that have no consumer."""
    blind_spots: tuple[BlindSpot, ...] = ()


@dataclass(frozen=True)
class WorkerReports:
    """What the workers report about their use of the broker."""

    queues: frozenset[str] = frozenset()
    """The queues that they consume, and that are to be read."""
    transport_options: tuple[Mapping[str, Any], ...] = ()
    """Their transport options that name keys, each once."""
