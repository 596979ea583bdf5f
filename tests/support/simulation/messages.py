"""Tasks, their messages, and every run of one: the reference that the exporter is compared with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

SUCCEEDED = "succeeded"
Span = tuple[float, float]
SILENT = ("silent", "replaced")
"""Outcomes that cause no event."""
CONFIRMING = 2
"""Heartbeats after which a worker's count of running tasks has shown a silent end."""


@dataclass(frozen=True, eq=False)
class Task:
    """A task of the simulated application."""

    name: str
    queue: str
    seconds: Span
    """Shortest and longest runtime."""
    late: bool = False
    """Whether its messages are acknowledged after the run."""
    outcomes: Mapping[str, float] = field(default_factory=lambda: {SUCCEEDED: 1.0})
    """The weights of the outcomes: succeeded, failed, retried, silent, replaced, rejected,
    requeued, timeout."""
    eta: Span | None = None
    """Seconds until its ETA."""
    expires: float | None = None
    """Seconds after which it expires."""
    sent_events: bool = True
    """Whether its producers send events."""
    replacement: str = ""
    """The task that replaces it."""
    registered: bool = True
    """Whether the workers know it."""

    def runtime(self, rng: Random) -> float:
        """Return a runtime; short ones are more frequent."""
        low, high = self.seconds
        return low * float((high / low) ** rng.random())

    def outcome(self, rng: Random, first: bool) -> str:
        """Return how a run ends; a message is requeued once."""
        (outcome,) = rng.choices([*self.outcomes], [*self.outcomes.values()])
        return outcome if first or outcome not in ("requeued", "retried") else SUCCEEDED


@dataclass(eq=False)
class Message:
    """One message as its producer sent it."""

    uuid: str
    task: Task
    retries: int = 0
    eta: float = 0.0
    expires: float = 0.0
    deliveries: int = 0
    discarded: str = ""
    """Why a worker discarded it without a run: expired, revoked or unregistered."""


@dataclass(eq=False)
class Run:
    """One run of a message, as it really was."""

    message: Message
    worker: str
    started_at: float
    stopped_at: float = float("inf")
    outcome: str = "running"
    """The outcome of the task, `child_killed`, or `killed` with its worker."""
    start_published: bool = False
    end_published: bool = False
    heartbeats: int = 0
    """Heartbeats that its process sent after its end, of the first few."""


class Truth:
    """All messages and runs."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.runs: dict[str, list[Run]] = defaultdict(list)

    def start(self, message: Message, worker: str, at: float) -> Run:
        """Record a start."""
        run = Run(message, worker, at)
        self.runs[message.uuid].append(run)
        return run

    def outcomes(self) -> Counter[str]:
        """Return how many runs ended in which way."""
        return Counter(run.outcome for runs in self.runs.values() for run in runs)

    def ambiguous(self) -> Counter[str]:
        """Return how many runs ended without an event, by name of task, of which the counts of a
        worker that was killed could not show it any more: as if they had died with it."""
        return Counter(
            run.message.task.name
            for runs in self.runs.values()
            for run in runs
            if run.outcome in SILENT and run.heartbeats < CONFIRMING
        )

    def hidden(self) -> dict[str, int]:
        """Return how many runs started or ended without a trace: their events were with a process
        that was killed."""
        runs = [run for all_of_one in self.runs.values() for run in all_of_one]
        return {
            "starts": sum(not run.start_published for run in runs),
            "ends": sum(
                run.start_published and not run.end_published
                for run in runs
                if run.outcome not in ("killed", "running", "silent", "replaced")
            ),
        }

    def expected(self) -> dict[str, Counter[str]]:
        """Return what the exporter should count, by metric and name of task."""
        counts: dict[str, Counter[str]] = {
            kind: Counter() for kind in ("lost", "redelivered", "overlapping", "repeated")
        }
        for runs in self.runs.values():
            seen = [run for run in runs if run.start_published]
            for place, run in enumerate(seen):
                for kind in _kinds(run, seen[:place], seen[place + 1 :]):
                    counts[kind][run.message.task.name] += 1
        return counts


def _kinds(run: Run, before: list[Run], after: list[Run]) -> list[str]:
    """Return what a run counts as, among the runs of its uuid before and after it."""
    kinds, message = [], run.message
    same = [
        one
        for one in before
        if one.message.task is message.task and one.message.retries == message.retries
    ]
    if any(one.stopped_at > run.started_at for one in same):
        kinds.append("overlapping")
    elif any(one.outcome not in ("killed", "requeued", "child_killed") for one in same):
        kinds.append("repeated")
    if run.outcome == "killed" or (run.stopped_at < float("inf") and not _reported(run)):
        again = message.task.late and any(one.message is message for one in after)
        kinds.append("redelivered" if again else "lost")
    if run.outcome == "child_killed":
        kinds.append("lost")
    return kinds


def _reported(run: Run) -> bool:
    return run.end_published or run.outcome in SILENT
