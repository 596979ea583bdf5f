"""What the last round found, for the page and for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers import Target
from celery_vitals.brokers.queue_readers import QueueSnapshot, QueueStats
from celery_vitals.probe_runner import Outcome
from celery_vitals.secrets import without_credentials
from celery_vitals.workers import State, WorkerRegistry


@dataclass(frozen=True)
class CollectorStatus:
    """How a collector's last run ended."""

    name: str
    ok: bool | None
    """None when it has not run."""
    reason: str
    """Why it failed, in words; empty when it did not."""
    seconds: float
    finished_at: float
    """Unix time."""


@dataclass(frozen=True)
class WorkerStatus:
    """A worker, as last heard of."""

    name: str
    up: bool
    state: State
    pool: str
    slots: int | None
    queues: tuple[str, ...]
    accepted: int | None
    """Tasks begun since its start."""
    last_seen: float
    """Unix time."""


@dataclass(frozen=True)
class QueueStatus:
    """A queue; None where something is not known."""

    name: str
    length: int | None
    workers: int | None
    consumers: int | None


@dataclass(frozen=True)
class ClusterStatus:
    """What the last round found."""

    transport: str
    broker: str
    """Its address, without credentials."""
    backend: str
    """Likewise; empty where there is none."""
    probes: tuple[CollectorStatus, ...]
    workers: tuple[WorkerStatus, ...]
    queues: tuple[QueueStatus, ...]
    blind_spots: tuple[BlindSpot, ...]


def cluster_status(
    target: Target,
    registry: WorkerRegistry,
    outcomes: Mapping[str, Outcome[Any] | None],
    blind_spots: tuple[BlindSpot, ...],
    consumed: frozenset[str],
) -> ClusterStatus:
    """Put the rows together; `consumed` are the queues of workers that are to be shown."""
    queues, workers = outcomes.get("queues"), outcomes.get("workers")
    snapshot = queues.value if queues is not None else None
    return ClusterStatus(
        transport=target.transport,
        broker=";".join(map(without_credentials, target.broker_urls)),
        backend=without_credentials(target.backend_url) if target.backend_url else "",
        probes=tuple(_probe(name, outcome) for name, outcome in outcomes.items()),
        workers=_workers(registry),
        queues=_queues(
            snapshot, registry, consumed, asked=workers is not None and workers.reason is None
        ),
        blind_spots=blind_spots,
    )


def _probe(name: str, outcome: Outcome[Any] | None) -> CollectorStatus:
    if outcome is None:
        return CollectorStatus(name, None, "", 0.0, 0.0)
    reason = outcome.reason.words if outcome.reason else ""
    return CollectorStatus(
        name, outcome.reason is None, reason, outcome.seconds, outcome.finished_at
    )


def _workers(registry: WorkerRegistry) -> tuple[WorkerStatus, ...]:
    return tuple(
        WorkerStatus(
            name=worker.name,
            up=registry.is_up(worker),
            state=registry.state(worker),
            pool=worker.stats.pool if worker.stats else "",
            slots=worker.stats.slots if worker.stats else None,
            queues=tuple(sorted(worker.queues or ())),
            accepted=sum(worker.stats.accepted.values()) if worker.stats else None,
            last_seen=worker.seen_at,
        )
        for worker in registry.workers()
    )


def _queues(
    snapshot: QueueSnapshot | None, registry: WorkerRegistry, consumed: frozenset[str], asked: bool
) -> tuple[QueueStatus, ...]:
    depths: Mapping[str, QueueStats] = snapshot.queues if snapshot else {}
    names = sorted(set(depths) | consumed)
    serving = registry.consumers_of(names)
    return tuple(
        QueueStatus(
            name=name,
            length=depths[name].ready if name in depths else None,
            workers=serving[name][0] if asked else None,
            consumers=depths[name].consumers if name in depths else None,
        )
        for name in names
    )
