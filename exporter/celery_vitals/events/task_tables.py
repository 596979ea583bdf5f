"""The tables of task metrics: one per metric, for all tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from prometheus_client.core import Metric

from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import MetricDefinition
from celery_vitals.metrics.cardinality import CardinalityLimiter
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
        self.runtime = histogram(definitions.TASK_RUNTIME, runtime)
        self.failed_runtime = histogram(definitions.TASK_FAILED_RUNTIME, runtime)
        self.wait = histogram(definitions.TASK_WAIT, wait)
        self.last_sent = ValueTable(definitions.TASK_LAST_SENT, limiter)
        self.last_succeeded = ValueTable(definitions.TASK_LAST_SUCCEEDED, limiter)
        self.last_failed = ValueTable(definitions.TASK_LAST_FAILED, limiter)
        self.all: tuple[ValueTable | HistogramTable, ...] = (
            self.sent, self.received, self.started, self.succeeded, self.retried, self.rejected,
            self.failed, self.revoked, self.runtime, self.failed_runtime, self.wait,
            self.last_sent, self.last_succeeded, self.last_failed,
        )  # fmt: skip

    def families(self) -> Iterator[Metric]:
        """Return the families of all tables, in the order in which the metrics are declared."""
        return (table.family() for table in self.all)
