"""The last executions that were lost, ran twice, or do not end: one case each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from celery_vitals.blind_spots import BlindSpot

MAX_CASES = 1000
"""Cases that are kept; the oldest are dropped."""
LIMITING_SUBJECTS = frozenset(
    {
        "task_events", "sent_events", "rejected_events",
        "workers", "worker_names", "worker_replies", "worker_queues",
        "queues", "queue_length", "queue_discovery", "queue_unacked_messages",
    }
)  # fmt: skip
"""Subjects of the blind spots that can hide a case: no events, no replies of workers, or no proof
that the broker has no message left."""


class CaseKind(str, Enum):
    """What happened to an execution."""

    LOST = "lost"
    REDELIVERED = "redelivered"
    OVERLAPPING = "overlapping"
    REPEATED = "repeated"
    POISON = "poison"


@dataclass(frozen=True)
class Case:
    """One execution, and what proves the case.  Never contains an argument of the task."""

    kind: CaseKind
    uuid: str
    task: str
    queue: str
    worker: str
    """The worker of the execution; with two executions, that of the first one."""
    started_at: float
    """Unix time at which it started."""
    decided_at: float
    """Unix time at which the evidence was complete."""
    reason: str
    """The value of the label `reason` or `cause`; empty for kinds without one."""
    evidence: str
    """A sentence."""
    found: bool = False
    """Whether a lost execution has ended after all."""


@dataclass(frozen=True)
class CaseList:
    """The last cases, and what shows whether an empty list means that there were none."""

    cases: tuple[Case, ...] = ()
    """The newest first."""
    dropped: int = 0
    """Number of older cases that are not in the list."""
    stream_up: bool = False
    """Whether task events are received now."""
    watched_since: float | None = None
    """Unix time from which on task events are received; None before."""
    connected_since: float | None = None
    """The same since the last interruption; None during one."""
    blind_spots: tuple[BlindSpot, ...] = ()
    """What cannot be observed of executions."""


NO_CASES = CaseList()
"""Where no event is received."""


class Cases:
    """The last `MAX_CASES` cases, the oldest first.  For one thread."""

    def __init__(self) -> None:
        self.dropped = 0
        """Number of cases that were dropped."""
        self._cases: deque[Case] = deque(maxlen=MAX_CASES)

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)

    def __len__(self) -> int:
        return len(self._cases)

    def add(self, case: Case) -> None:
        """Add a case."""
        self.dropped += len(self._cases) == MAX_CASES
        self._cases.append(case)

    def mark_found(self, uuid: str, started_at: float) -> None:
        """Record that a lost execution has ended after all."""
        for place, case in enumerate(self._cases):
            if (case.kind, case.uuid, case.started_at) == (CaseKind.LOST, uuid, started_at):
                self._cases[place] = replace(case, found=True)
