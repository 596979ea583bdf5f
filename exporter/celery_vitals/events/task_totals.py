"""What has been counted of each task, in all queues, and how many of its executions are tracked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.events.account import HELD, ORPHANED, WAITING, Account
from celery_vitals.events.task_name import TaskName
from celery_vitals.events.task_tables import TaskTables
from celery_vitals.metrics.distribution import Distribution

COUNTERS = (
    "sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected",
    "requeued", "retries_exhausted", "unregistered", "lost", "found", "redelivered",
    "overlapping", "repeated", "end_unknown",
)  # fmt: skip
"""The counters of `TaskTables`."""
HISTOGRAMS = ("runtime", "failed_runtime", "wait")
TIMES = ("last_sent", "last_succeeded", "last_failed")
LIMITING_SUBJECTS = frozenset({"task_events", "sent_events", "rejected_events"})
"""Subjects of the blind spots for which a number may be too low, or unknown."""


@dataclass
class TaskTotals:
    """The numbers of one task."""

    task: str
    counts: Counter[str] = field(default_factory=Counter)
    """By the names of COUNTERS."""
    sent_known: bool = False
    """Whether its producers send task-sent events."""
    running: int = 0
    waiting: int = 0
    """With the broker, as far as its producers send task-sent events."""
    held: int = 0
    """Received by a worker and not started: they wait for a slot or for their ETA."""
    orphaned: int = 0
    distributions: dict[str, Distribution] = field(
        default_factory=lambda: {name: Distribution() for name in HISTOGRAMS}
    )
    times: dict[str, float] = field(default_factory=dict)
    """Unix times, by the names of TIMES."""

    def merge(self, other: TaskTotals) -> None:
        """Add the numbers of another task."""
        self.counts.update(other.counts)
        self.sent_known = self.sent_known or other.sent_known
        self.running += other.running
        self.waiting += other.waiting
        self.held += other.held
        self.orphaned += other.orphaned
        for name, distribution in other.distributions.items():
            self.distributions[name].merge(distribution)
        for name, at in other.times.items():
            self.times[name] = max(at, self.times.get(name, 0.0))


@dataclass(frozen=True)
class TotalsList:
    """The numbers of all tasks, and since when they are counted."""

    tasks: Mapping[str, TaskTotals] = field(default_factory=dict)
    counted_since: float | None = None
    """Unix time at which the counting began, maybe by an earlier process; None while unknown."""
    stream_up: bool = False
    watched_since: float | None = None
    """When this process received the first event; None before."""
    connected_since: float | None = None
    """The same for the present connection; None without one."""
    blind_spots: tuple[BlindSpot, ...] = ()


class Summation:
    """Adds up what tables, accounts and workers have of each task."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskTotals] = {}

    def of(self, task: str) -> TaskTotals:
        """Return the numbers of a task."""
        found = self.tasks.get(task)
        if found is None:
            found = self.tasks[task] = TaskTotals(task)
        return found

    def add_tables(self, tables: TaskTables) -> None:
        """Add the series; acquires `update_lock` for moments."""
        for name in COUNTERS:
            for series, value, _ in getattr(tables, name).copies():
                self.of(series.labels[0]).counts[name] += int(value)
                if name == "sent":
                    self.of(series.labels[0]).sent_known = True
        for name in HISTOGRAMS:
            for series, total, counts in getattr(tables, name).copies():
                distribution = self.of(series.labels[0]).distributions[name]
                distribution.add(series.bounds, counts, total)
        for name in TIMES:
            for series, at, _ in getattr(tables, name).copies():
                if at:
                    self.of(series.labels[0]).times[name] = at

    def add_tracked(self, accounts: Iterable[Account], names: Iterable[TaskName]) -> None:
        """Add the executions that have not ended; the caller holds `update_lock`."""
        for account in accounts:
            totals = self.of(account.labels[0])
            totals.waiting += account.counts[WAITING]
            totals.held += account.counts[HELD]
            totals.orphaned += account.counts[ORPHANED]
        for name in names:
            if name.sent_event_seen and name.label in self.tasks:
                self.tasks[name.label].sent_known = True
