"""The tables of task metrics: one per metric, for all tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from prometheus_client.core import Metric

from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import MetricDefinition, label_text
from celery_vitals.metrics.cardinality import OTHER, CardinalityLimiter
from celery_vitals.metrics.tables import HistogramTable, ValueTable

Buckets = Callable[[str], Sequence[float]]
"""The upper bounds of a histogram's buckets in seconds, by the name of the task."""


class TaskTables:
    """All tables of tasks; `extra` labels follow those of the metric definitions."""

    def __init__(
        self,
        limiter: CardinalityLimiter,
        runtime: Buckets,
        wait: Buckets,
        extra: Sequence[str] = (),
    ) -> None:
        def labelled(metric: MetricDefinition, more: Sequence[str] = extra) -> MetricDefinition:
            return replace(metric, labels=(*metric.labels, *more))

        def value(metric: MetricDefinition) -> ValueTable:
            return ValueTable(labelled(metric), limiter)

        def histogram(metric: MetricDefinition, buckets: Buckets) -> HistogramTable:
            return HistogramTable(labelled(metric), limiter, lambda labels: buckets(labels[0]))

        # Producers are no workers.
        without_worker = [label for label in extra if label != "worker"]
        self.sent = ValueTable(labelled(definitions.TASK_SENT, without_worker), limiter)
        self.births = limiter.births
        self.received = value(definitions.TASK_RECEIVED)
        self.started = value(definitions.TASK_STARTED)
        self.succeeded = value(definitions.TASK_SUCCEEDED)
        self.retried = value(definitions.TASK_RETRIED)
        self.rejected = value(definitions.TASK_REJECTED)
        self.failed = value(definitions.TASK_FAILED)
        self.revoked = value(definitions.TASK_REVOKED)
        self.requeued = value(definitions.TASK_REQUEUED)
        self.retries_exhausted = value(definitions.TASK_RETRIES_EXHAUSTED)
        self.unregistered = ValueTable(definitions.TASK_UNREGISTERED, limiter)
        self.lost = value(definitions.TASK_LOST)
        self.found = value(definitions.TASK_FOUND)
        self.redelivered = value(definitions.TASK_REDELIVERED)
        self.overlapping = value(definitions.TASK_OVERLAPPING)
        self.repeated = value(definitions.TASK_REPEATED)
        self.end_unknown = value(definitions.TASK_END_UNKNOWN)
        self.runtime = histogram(definitions.TASK_RUNTIME, runtime)
        self.failed_runtime = histogram(definitions.TASK_FAILED_RUNTIME, runtime)
        self.wait = histogram(definitions.TASK_WAIT, wait)
        self.last_sent = ValueTable(definitions.TASK_LAST_SENT, limiter)
        self.last_succeeded = ValueTable(definitions.TASK_LAST_SUCCEEDED, limiter)
        self.last_failed = ValueTable(definitions.TASK_LAST_FAILED, limiter)
        self._limiter = limiter
        self.signs = {
            definitions.TASK_SENT.name: 1,
            definitions.TASK_FOUND.name: 1,
            definitions.TASK_REQUEUED.name: 1,
            definitions.TASK_SUCCEEDED.name: -1,
            definitions.TASK_FAILED.name: -1,
            definitions.TASK_REVOKED.name: -1,
            definitions.TASK_RETRIED.name: -1,
            definitions.TASK_REJECTED.name: -1,
            definitions.TASK_REDELIVERED.name: -1,
            definitions.TASK_LOST.name: -1,
            definitions.TASK_END_UNKNOWN.name: -1,
        }
        """Whether a counter adds to the executions that have entered (1) or left (-1)."""
        self.all: tuple[ValueTable | HistogramTable, ...] = (
            self.sent, self.received, self.started, self.succeeded, self.retried, self.rejected,
            self.failed, self.revoked, self.requeued, self.retries_exhausted,
            self.unregistered, self.lost, self.found, self.redelivered, self.overlapping,
             self.repeated, self.end_unknown, self.runtime,
            self.failed_runtime, self.wait, self.last_sent, self.last_succeeded, self.last_failed,
        )  # fmt: skip

    def limit_labels(self, task: str, queue: str) -> tuple[str, str]:
        """Return the values of the labels, `_other` over their limits."""
        labels = (label_text(task), label_text(queue))
        task, queue = self._limiter.limit_values(("task", "queue"), labels)
        return task, queue

    def last_succeeded_of(self) -> dict[str, float]:
        """Return the Unix time of the last success of each task."""
        return {labels[0]: at for labels, at in self.last_succeeded.values() if at}

    @property
    def names_aggregated(self) -> bool:
        """Whether some tasks have no values of their own: the limit of names is reached."""
        return self.last_succeeded.has(OTHER)

    def families(self) -> Iterator[Metric]:
        """Return the families of all tables, in the order in which the metrics are declared."""
        return (table.family() for table in self.all)
