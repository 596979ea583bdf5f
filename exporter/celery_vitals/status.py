"""A snapshot of the cluster for the status page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.queue_stats import QueueSnapshot, QueueStats
from celery_vitals.brokers.target import Target
from celery_vitals.brokers.writability import UNKNOWN, Writability
from celery_vitals.events.cases import NO_CASES, CaseList
from celery_vitals.events.task_status import TasksStatus
from celery_vitals.probe_runner import Outcome
from celery_vitals.secrets import without_credentials
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.state import State
from celery_vitals.workers.worker import Worker


@dataclass(frozen=True)
class CollectorStatus:
    """The result of a collector's last run."""

    name: str
    ok: bool | None
    """None before the first run."""
    reason: str
    """The description of the failure; empty after a success."""
    seconds: float
    finished_at: float
    """Unix time."""


@dataclass(frozen=True)
class WorkerStatus:
    """The last observed state of a worker."""

    name: str
    up: bool
    state: State
    pool: str
    slots: int | None
    queues: tuple[str, ...]
    started: int | None
    """Tasks started since the start of the worker."""
    last_seen: float
    """Unix time."""
    offline: bool = False
    """Whether its latest event is the offline event: it was shut down."""
    version: str = ""
    """Version of its Celery, by its heartbeats."""
    prefetch: int | None = None
    pids: tuple[int, ...] = ()
    """Process ids of the workers that reply under its name."""


@dataclass(frozen=True)
class QueueStatus:
    """A queue; None is an unknown value."""

    name: str
    length: int | None
    workers: int | None
    consumers: int | None
    is_celery: bool = True
    """Whether it is proved to be Celery's, and not only found in the broker."""
    unacked: int | None = None
    oldest_message: float | None = None
    """Unix time at which the oldest message was sent."""

    @property
    def has_no_consumers(self) -> bool:
        """Whether it has no consumers; False while their number is unknown."""
        known = [count for count in (self.workers, self.consumers) if count is not None]
        return bool(known) and not any(known)

    @property
    def is_unserved(self) -> bool:
        """Whether messages of Celery wait in it without consumers."""
        return bool(self.length) and self.has_no_consumers and self.is_celery


@dataclass(frozen=True)
class ClusterStatus:
    """The results of the last collection."""

    transport: str
    broker: str
    """The address, without credentials."""
    backend: str
    """The address, without credentials; empty without a result backend."""
    collectors: tuple[CollectorStatus, ...]
    workers: tuple[WorkerStatus, ...]
    queues: tuple[QueueStatus, ...]
    blind_spots: tuple[BlindSpot, ...]
    broker_state: Writability = UNKNOWN
    cases: CaseList = NO_CASES
    workers_known: bool = False
    """Whether the workers answered in the last round, or there were none."""
    tasks: TasksStatus | None = None
    """What the task events show; None where they are not received."""
    visibility_timeout: float | None = None
    """That of the application, in seconds; None where it is unknown, or the broker has none."""
    late_tasks: frozenset[str] = frozenset()
    """The running tasks that acknowledge their message after the execution."""

    def collector(self, name: str) -> CollectorStatus | None:
        """Return the state of a collector; None where it is not in use."""
        return next((one for one in self.collectors if one.name == name), None)


def cluster_status(
    target: Target,
    registry: WorkerRegistry,
    outcomes: Mapping[str, Outcome[Any] | None],
    blind_spots: tuple[BlindSpot, ...],
    consumed: frozenset[str],
    broker_state: Writability = UNKNOWN,
    evidence: Callable[[str], str] = str,
    cases: CaseList = NO_CASES,
    tasks: TasksStatus | None = None,
    visibility_timeout: float | None = None,
    late_tasks: frozenset[str] = frozenset(),
) -> ClusterStatus:
    """Build the snapshot; `consumed` are the queues that workers consume from, after filters.

    `evidence` returns what proves that a queue is Celery's.
    """
    queues, workers = outcomes.get("queues"), outcomes.get("workers")
    snapshot = queues.value if queues is not None else None
    workers_known = workers is not None and workers.value is not False and workers.reason is None
    return ClusterStatus(
        transport=target.transport,
        broker=";".join(map(without_credentials, target.broker_urls)),
        backend=without_credentials(target.backend_url) if target.backend_url else "",
        collectors=tuple(_collector(name, outcome) for name, outcome in outcomes.items()),
        workers=_workers(registry),
        queues=_queues(
            snapshot,
            registry,
            consumed,
            evidence,
            workers_known,
            tasks.oldest_waiting if tasks is not None else {},
        ),
        blind_spots=blind_spots,
        broker_state=broker_state,
        cases=cases,
        workers_known=workers_known,
        tasks=tasks,
        visibility_timeout=visibility_timeout,
        late_tasks=late_tasks,
    )


def _collector(name: str, outcome: Outcome[Any] | None) -> CollectorStatus:
    if outcome is None:
        return CollectorStatus(name, None, "", 0.0, 0.0)
    reason = outcome.reason.description if outcome.reason else ""
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
            started=sum(worker.stats.accepted.values()) if worker.stats else None,
            last_seen=worker.seen_at,
            offline=worker.offline,
            version=worker.version,
            prefetch=worker.stats.prefetch if worker.stats else None,
            pids=_pids(worker),
        )
        for worker in registry.workers()
    )


def _pids(worker: Worker) -> tuple[int, ...]:
    known = [one.stats.pid for one in worker.processes if one.stats.pid is not None]
    return tuple(known if worker.instances > 1 else known[:1])


def _queues(
    snapshot: QueueSnapshot | None,
    registry: WorkerRegistry,
    consumed: frozenset[str],
    evidence: Callable[[str], str],
    workers_known: bool,
    oldest_waiting: Mapping[str, float],
) -> tuple[QueueStatus, ...]:
    stats: Mapping[str, QueueStats] = snapshot.queues if snapshot else {}
    names = sorted(set(stats) | consumed)
    consumers = registry.consumers_of(names)
    return tuple(
        QueueStatus(
            name=name,
            length=stats[name].ready if name in stats else None,
            workers=consumers[name][0] if workers_known and name in consumers else None,
            consumers=stats[name].consumers if name in stats else None,
            is_celery=name in consumed or bool(evidence(name)),
            unacked=stats[name].unacked if name in stats else None,
            oldest_message=_oldest(stats.get(name), oldest_waiting.get(name)),
        )
        for name in names
    )


def _oldest(stats: QueueStats | None, by_events: float | None) -> float | None:
    """Return when the oldest message was sent, by the broker or else by the task events."""
    if stats is not None and stats.oldest_at is not None:
        return stats.oldest_at
    return by_events
