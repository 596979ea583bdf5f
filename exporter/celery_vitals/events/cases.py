"""The last executions that were lost, ran twice, or do not end: one case each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

MAX_CASES = 1000
"""Cases that are kept; the oldest are dropped."""


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


class Cases:
    """The last `MAX_CASES` cases, the oldest first.  For one thread."""

    def __init__(self) -> None:
        self._cases: deque[Case] = deque(maxlen=MAX_CASES)

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)

    def __len__(self) -> int:
        return len(self._cases)

    def add(self, case: Case) -> None:
        """Add a case."""
        self._cases.append(case)

    def mark_found(self, uuid: str, started_at: float) -> None:
        """Record that a lost execution has ended after all."""
        for place, case in enumerate(self._cases):
            if (case.kind, case.uuid, case.started_at) == (CaseKind.LOST, uuid, started_at):
                self._cases[place] = replace(case, found=True)
