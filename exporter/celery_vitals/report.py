"""What the last round found, for the page and for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_vitals.cluster import Target
from celery_vitals.fleet import Fleet, State
from celery_vitals.lane import Outcome
from celery_vitals.note import Note
from celery_vitals.queues import Backlog, Depth
from celery_vitals.secret import without_credentials


@dataclass(frozen=True)
class ProbeReport:
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
class WorkerRow:
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
class QueueRow:
    """A queue; None where something is not known."""

    name: str
    length: int | None
    workers: int | None
    consumers: int | None


@dataclass(frozen=True)
class Report:
    """What the last round found."""

    transport: str
    broker: str
    """Its address, without credentials."""
    backend: str
    """Likewise; empty where there is none."""
    probes: tuple[ProbeReport, ...]
    workers: tuple[WorkerRow, ...]
    queues: tuple[QueueRow, ...]
    notes: tuple[Note, ...]


def make_report(
    target: Target,
    fleet: Fleet,
    outcomes: Mapping[str, Outcome[Any] | None],
    notes: tuple[Note, ...],
    consumed: frozenset[str],
) -> Report:
    """Put the rows together; `consumed` are the queues of workers that are to be shown."""
    queues, workers = outcomes.get("queues"), outcomes.get("workers")
    backlog = queues.value if queues is not None else None
    return Report(
        transport=target.transport,
        broker=";".join(map(without_credentials, target.broker_urls)),
        backend=without_credentials(target.backend_url) if target.backend_url else "",
        probes=tuple(_probe(name, outcome) for name, outcome in outcomes.items()),
        workers=_workers(fleet),
        queues=_queues(backlog, fleet, consumed, asked=workers is not None and workers.reason is None),
        notes=notes,
    )


def _probe(name: str, outcome: Outcome[Any] | None) -> ProbeReport:
    if outcome is None:
        return ProbeReport(name, None, "", 0.0, 0.0)
    reason = outcome.reason.words if outcome.reason else ""
    return ProbeReport(name, outcome.reason is None, reason, outcome.seconds, outcome.finished_at)


def _workers(fleet: Fleet) -> tuple[WorkerRow, ...]:
    return tuple(
        WorkerRow(
            name=worker.name,
            up=fleet.is_up(worker),
            state=fleet.state(worker),
            pool=worker.stats.pool if worker.stats else "",
            slots=worker.stats.slots if worker.stats else None,
            queues=tuple(sorted(worker.queues or ())),
            accepted=sum(worker.stats.accepted.values()) if worker.stats else None,
            last_seen=worker.seen_at,
        )
        for worker in fleet.workers()
    )


def _queues(backlog: Backlog | None, fleet: Fleet, consumed: frozenset[str], asked: bool) -> tuple[QueueRow, ...]:
    depths: Mapping[str, Depth] = backlog.queues if backlog else {}
    names = sorted(set(depths) | consumed)
    serving = fleet.consumers_of(names)
    return tuple(
        QueueRow(
            name=name,
            length=depths[name].ready if name in depths else None,
            workers=serving[name][0] if asked else None,
            consumers=depths[name].consumers if name in depths else None,
        )
        for name in names
    )
