"""The series of tasks: a row of counters and histograms for each task name and queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from prometheus_client.core import Metric

from celery_vitals.metrics import definitions as definitions
from celery_vitals.metrics.base import MetricDefinition
from celery_vitals.metrics.cardinality import OTHER, CardinalityLimiter
from celery_vitals.metrics.tables import (
    HistogramSeries,
    HistogramTable,
    Row,
    ValueSeries,
    ValueTable,
)

Buckets = Callable[[str], Sequence[float]]
"""The upper bounds of a histogram's buckets in seconds, by the name of the task."""


class TaskTables:
    """All tables of tasks; `extra` labels come after those that the catalogue declares."""

    def __init__(
        self,
        limiter: CardinalityLimiter,
        runtime: Buckets,
        wait: Buckets,
        extra: Sequence[str] = (),
    ) -> None:
        def labelled(metric: MetricDefinition) -> MetricDefinition:
            return replace(metric, labels=(*metric.labels, *extra))

        def value(metric: MetricDefinition) -> ValueTable:
            return ValueTable(labelled(metric), limiter)

        def histogram(metric: MetricDefinition, buckets: Buckets) -> HistogramTable:
            return HistogramTable(labelled(metric), limiter, lambda labels: buckets(labels[0]))

        self.sent = value(definitions.TASK_SENT)
        self.received = value(definitions.TASK_RECEIVED)
        self.started = value(definitions.TASK_STARTED)
        self.succeeded = value(definitions.TASK_SUCCEEDED)
        self.retried = value(definitions.TASK_RETRIED)
        self.rejected = value(definitions.TASK_REJECTED)
        self.failed = value(definitions.TASK_FAILED)
        self.revoked = value(definitions.TASK_REVOKED)
        self.runtime = histogram(definitions.TASK_RUNTIME, runtime)
        self.failed_runtime = histogram(definitions.TASK_FAILED_RUNTIME, runtime)
        self.wait = histogram(definitions.TASK_WAIT, wait)
        self.last_sent = ValueTable(definitions.TASK_LAST_SENT, limiter)
        self.last_succeeded = ValueTable(definitions.TASK_LAST_SUCCEEDED, limiter)
        self.last_failed = ValueTable(definitions.TASK_LAST_FAILED, limiter)

    def families(self) -> Iterator[Metric]:
        """The families of all tables, in the catalogue's order."""
        for table in vars(self).values():
            yield table.family()


class TaskName:
    """What is kept by the name of a task alone: when it was last sent, succeeded and failed, by any queue."""

    __slots__ = ("_rows", "_tables", "ends_silently", "label", "sent_seen", "unsent")

    def __init__(self, label: str, tables: TaskTables) -> None:
        self.label = label
        self.ends_silently = False
        """Whether one has ended without an event: a task that ignores its own result does."""
        self.unsent = 0
        """How many have ended of which no producer had told."""
        self.sent_seen = False
        """Whether producers tell when they send this task, so that it pays to wait for it."""
        self._tables = {
            "sent": tables.last_sent,
            "succeeded": tables.last_succeeded,
            "failed": tables.last_failed,
        }
        self._rows: dict[str, ValueSeries] = {}

    def last(self, what: str, at: float) -> None:
        """Note when this was last seen to happen; a time before the one noted does not count."""
        row = self._rows.get(what)
        if row is None:
            row = self._rows[what] = self._tables[what].row(self.label)
        if at > row.value:
            row.value = at

    def expire(self) -> None:
        """Remove its series."""
        for what, row in self._rows.items():
            if OTHER not in row.labels:
                self._tables[what].remove(row)
        self._rows.clear()


class TaskSeries:
    """The series of one task name and queue.  Histograms begin with the first thing they observe."""

    __slots__ = (
        "_failed", "_idle_since", "_revoked", "_tables", "_total", "failed_runtime", "gone", "labels",
        "received", "rejected", "retried", "runtime", "sent", "started", "succeeded", "wait", "worker",
    )  # fmt: skip

    def __init__(
        self, labels: tuple[str, ...], worker: str, tables: TaskTables, now: float
    ) -> None:
        self.labels = labels
        """Task, queue, and the extra ones."""
        self.worker = worker
        """Whose events it counts, where the worker is a label."""
        self.gone = False
        """Whether it has expired; whoever holds it asks for a new one."""
        self.sent = tables.sent.row(*labels)
        self.received = tables.received.row(*labels)
        self.started = tables.started.row(*labels)
        self.succeeded = tables.succeeded.row(*labels)
        self.retried = tables.retried.row(*labels)
        self.rejected = tables.rejected.row(*labels)
        self.runtime: HistogramSeries | None = None
        self.failed_runtime: HistogramSeries | None = None
        self.wait: HistogramSeries | None = None
        self._tables = tables
        self._failed: dict[str, ValueSeries] = {}
        self._revoked: dict[str, ValueSeries] = {}
        self._total = 0.0
        self._idle_since = now

    def failed(self, exception: str) -> ValueSeries:
        """The counter of failures by this exception."""
        row = self._failed.get(exception)
        if row is None:
            row = self._failed[exception] = self._tables.failed.row(
                *self.labels[:2], exception, *self.labels[2:]
            )
        return row

    def revoked(self, reason: str) -> ValueSeries:
        """The counter of revocations for this reason."""
        row = self._revoked.get(reason)
        if row is None:
            row = self._revoked[reason] = self._tables.revoked.row(
                *self.labels[:2], reason, *self.labels[2:]
            )
        return row

    def ran(self, seconds: float) -> None:
        """Observe the runtime of a success."""
        if self.runtime is None:
            self.runtime = self._tables.runtime.row(*self.labels)
        self.runtime.observe(seconds)

    def failed_after(self, seconds: float) -> None:
        """Observe the runtime of a failure."""
        if self.failed_runtime is None:
            self.failed_runtime = self._tables.failed_runtime.row(*self.labels)
        self.failed_runtime.observe(seconds)

    def waited(self, seconds: float) -> None:
        """Observe a wait."""
        if self.wait is None:
            self.wait = self._tables.wait.row(*self.labels)
        self.wait.observe(seconds)

    @property
    def folded(self) -> bool:
        """Whether it counts on series that it shares: none of the others has room where the first has none."""
        return OTHER in self.sent.labels

    def idle(self, now: float) -> float:
        """Seconds since a counter was last seen to change.  Asked now and then, so that counting costs nothing."""
        total = sum(row.value for row in self._values())
        if total != self._total or not self._idle_since:  # changed, or not looked at before
            self._total, self._idle_since = total, now
        return now - self._idle_since

    def expire(self) -> None:
        """Remove its series."""
        self.gone = True
        tables = self._tables
        held: list[tuple[Any, Row | None]] = [
            (tables.sent, self.sent),
            (tables.received, self.received),
            (tables.started, self.started),
            (tables.succeeded, self.succeeded),
            (tables.retried, self.retried),
            (tables.rejected, self.rejected),
            (tables.runtime, self.runtime),
            (tables.failed_runtime, self.failed_runtime),
            (tables.wait, self.wait),
            *((tables.failed, row) for row in self._failed.values()),
            *((tables.revoked, row) for row in self._revoked.values()),
        ]
        for table, row in held:
            if row is not None and not self._shares(row):
                table.remove(row)

    def _shares(self, row: Row) -> bool:
        """Whether others count on it: what was folded, but for an exception, which only this task's rows have."""
        own = (
            row.labels
            if len(row.labels) == len(self.labels)
            else (*row.labels[:2], *row.labels[3:])
        )
        return OTHER in own

    def _values(self) -> Iterator[ValueSeries]:
        yield from (
            self.sent,
            self.received,
            self.started,
            self.succeeded,
            self.retried,
            self.rejected,
        )
        yield from self._failed.values()
        yield from self._revoked.values()
