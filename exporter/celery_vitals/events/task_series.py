"""The series of tasks: counters and histograms for each task name and queue, found by label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from celery_vitals.events.account import Account
from celery_vitals.events.decode import Event
from celery_vitals.events.execution import Execution
from celery_vitals.events.kwarg_label import MAX_LABEL_LENGTH, KwargLabel
from celery_vitals.events.task_name import TaskName
from celery_vitals.events.task_tables import TaskTables
from celery_vitals.metrics.base import label_text
from celery_vitals.metrics.cardinality import OTHER
from celery_vitals.metrics.series import HistogramSeries, Series, ValueSeries
from celery_vitals.metrics.tables import ValueTable

UNKNOWN = "unknown"


class TaskSeries:
    """The series of one task name and queue.

    Histograms exist from their first observation on, and `sent` from the first task-sent event:
    by default producers send none, and 0 would be wrong.
    """

    __slots__ = (
        "_counters", "_created", "_idle_since", "_sent", "_sent_labels", "_tables", "_total",
        "account", "expired", "failed_runtime", "labels", "received", "rejected", "retried",
        "runtime", "started", "succeeded", "wait", "worker",
    )  # fmt: skip

    def __init__(
        self,
        labels: tuple[str, ...],
        worker: str,
        tables: TaskTables,
        now: float,
        account: Account,
        sent_only: bool = False,
    ) -> None:
        """`sent_only`: create no counter of a worker, where the worker is a label and unknown."""
        self.labels = labels
        """Task, queue, and the extra ones."""
        self.worker = worker
        """The worker whose events it counts, where the worker is a label."""
        self.expired = False
        """Whether it was removed; `TaskSeriesIndex.successor` returns the series to use instead."""
        self.account = account
        """Its executions that have not ended, with those of other series of the task and queue."""
        self._tables = tables
        self._created: list[tuple[ValueTable, ValueSeries]] = []
        self._sent: ValueSeries | None = None
        self._sent_labels = (*labels[:2], *labels[3:]) if sent_only else labels
        if not sent_only:
            self.received = self._create(tables.received, labels)
            self.started = self._create(tables.started, labels)
            self.succeeded = self._create(tables.succeeded, labels)
            self.retried = self._create(tables.retried, labels)
            self.rejected = self._create(tables.rejected, labels)
        self.runtime: HistogramSeries | None = None
        self.failed_runtime: HistogramSeries | None = None
        self.wait: HistogramSeries | None = None
        self._counters: dict[tuple[str, ...], ValueSeries] = {}
        self._total = 0.0
        self._idle_since = now

    def _create(self, table: ValueTable, labels: tuple[str, ...]) -> ValueSeries:
        series = table.series(*labels)
        self._created.append((table, series))
        return series

    @property
    def sent(self) -> ValueSeries:
        """The counter of task-sent events."""
        if self._sent is None:
            self._sent = self._create(self._tables.sent, self._sent_labels)
        return self._sent

    def counter(self, table: str, *value: str) -> ValueSeries:
        """Return the counter of a table of `TaskTables`, with a value for a label of its own."""
        key = (table, *value)
        series = self._counters.get(key)
        if series is None:
            labels = (*self.labels[:2], *value, *self.labels[2:])
            series = self._counters[key] = self._create(getattr(self._tables, table), labels)
        return series

    def observe_runtime(self, seconds: float) -> None:
        """Observe the runtime of a success."""
        if self.runtime is None:
            self.runtime = self._tables.runtime.series(*self.labels)
        self.runtime.observe(seconds)

    def observe_failed_runtime(self, seconds: float) -> None:
        """Observe the runtime of a failure."""
        if self.failed_runtime is None:
            self.failed_runtime = self._tables.failed_runtime.series(*self.labels)
        self.failed_runtime.observe(seconds)

    def observe_wait(self, seconds: float) -> None:
        """Observe the time between sending and start."""
        if self.wait is None:
            self.wait = self._tables.wait.series(*self.labels)
        self.wait.observe(seconds)

    @property
    def received_count(self) -> int:
        """Number of task-received events; 0 where they are counted together with other tasks."""
        if self.aggregated:
            return 0
        received = self._tables.received
        return int(sum(series.value for table, series in self._created if table is received))

    @property
    def aggregated(self) -> bool:
        """Whether it has no series of its own: it counts on shared `_other` series, or on none.

        Where the first counter is shared, all are.
        """
        return not self._created or OTHER in self._created[0][1].labels

    def idle_seconds(self, now: float) -> float:
        """Return the seconds since a counter was last found changed.

        The counters are compared at this call only, so that counting an event costs nothing more.
        """
        total = sum(series.value for _, series in self._created)
        if total != self._total or not self._idle_since:  # changed, or not compared before
            self._total, self._idle_since = total, now
        return now - self._idle_since

    @property
    def held(self) -> bool:
        """Whether a scraper has yet to see the value of a counter."""
        held_after = self._tables.births.held_after
        return any(series.born > held_after for _, series in self._created)

    def expire(self) -> None:
        """Remove its series."""
        self.expired = True
        tables = self._tables
        self.account.without_sent_event += self._surplus()
        held: list[tuple[Any, Series | None]] = [
            *self._created,
            (tables.runtime, self.runtime),
            (tables.failed_runtime, self.failed_runtime),
            (tables.wait, self.wait),
        ]
        for table, series in held:
            if series is not None and not self._is_shared(series):
                table.remove(series)

    def _surplus(self) -> int:
        """Return how many more executions its series say to have entered than left."""
        tables, surplus = self._tables, 0.0
        for table, series in self._created:
            if table is tables.lost and series.labels[2] == "child_killed":
                continue  # counted as failed, too
            if not self._is_shared(series):
                surplus += tables.signs.get(table.metric.name, 0) * series.value
        return round(surplus)

    def _is_shared(self, series: Series) -> bool:
        """Return whether others count on a series: one aggregated as `_other`.

        An exception or reason that is aggregated does not count: its series has this task's labels.
        """
        own = (
            series.labels
            if len(series.labels) <= len(self.labels)
            else (*series.labels[:2], *series.labels[3:])
        )
        return OTHER in own


class TaskSeriesIndex:
    """All series of tasks, by their labels.  For one thread."""

    def __init__(
        self, tables: TaskTables, by_worker: bool, kwarg_label: KwargLabel | None, capacity: int
    ) -> None:
        self._tables = tables
        self._kwarg_label = kwarg_label
        self._capacity = capacity
        """Number of names and of series kept here; the tables aggregate any more as `_other`."""
        self._max_series = capacity
        self.by_worker = by_worker
        self.unknown = TaskName(UNKNOWN, tables)
        self._names: dict[str, TaskName] = {}
        self._series: dict[tuple[str, ...], TaskSeries] = {}
        self._accounts: dict[tuple[str, str], Account] = {}

    def name(self, raw: str | None) -> TaskName:
        """Return the name under which a task is counted."""
        if not raw:
            return self.unknown
        name = self._names.get(raw)
        if name is None:
            raw = label_text(raw) if len(raw) <= MAX_LABEL_LENGTH else OTHER
            name = self._names.get(raw) or TaskName(raw, self._tables)
            if len(self._names) < self._capacity:
                self._names[raw] = name
        return name

    def series(
        self, name: TaskName, queue: str, event: Event | None = None, now: float = 0.0
    ) -> TaskSeries:
        """Return the series of a task in a queue, before its worker is known."""
        kwarg_label = (
            (self._kwarg_label.value_of(event),)
            if self._kwarg_label and event is not None
            else ("",)
            if self._kwarg_label
            else ()
        )
        queue = queue if len(queue) <= MAX_LABEL_LENGTH else OTHER
        return self._find(name, queue, "", kwarg_label, now)

    def successor(
        self, series: TaskSeries, name: TaskName, worker: str, now: float = 0.0
    ) -> TaskSeries:
        """Return the series to count on after one expired, or once the task's worker is known."""
        kwarg_label = series.labels[-1:] if self._kwarg_label else ()
        if len(self._names) < self._capacity:
            self._names.setdefault(name.label, name)  # so that its own series expire, too
        return self._find(
            name, series.labels[1], worker if self.by_worker else "", kwarg_label, now
        )

    def current(self, execution: Execution, worker: str) -> TaskSeries:
        """Return the series to count an execution of this worker on."""
        series: TaskSeries = execution.series
        if series.expired or (series.worker != worker and self.by_worker):
            series = self.successor(series, execution.name, worker)
            execution.assign(series)
        return series

    def accounts(self) -> list[Account]:
        """Return the accounts of all tasks and queues."""
        return list(self._accounts.values())

    def names(self) -> list[TaskName]:
        """Return the names that are kept."""
        return list(self._names.values())

    def labels(self) -> Iterator[str]:
        """Return the names of all tasks that are kept."""
        return (name.label for name in self._names.values())

    def received(self) -> list[tuple[str, str]]:
        """Return the names of tasks that workers have received, and the last worker of each."""
        return [(name.label, name.receiver) for name in self._names.values() if name.receiver]

    def queues(self) -> set[str]:
        """Return the known queues of all series."""
        return {series.labels[1] for series in self._series.values()} - {UNKNOWN, OTHER}

    def names_without_sent_events(self) -> dict[str, int]:
        """Return how many tasks of each name were received, where none has a task-sent event."""
        names = {name.label for name in self._names.values() if not name.sent_event_seen}
        received = Counter[str]()
        for series in self._series.values():
            if series.labels[0] in names:
                received[series.labels[0]] += series.received_count
        return {name: count for name, count in received.items() if count}

    def expire(self, now: float, idle: float) -> None:
        """Remove the series unchanged for `idle` seconds, and the names that have none left."""
        for key, series in list(self._series.items()):
            if series.aggregated or (series.idle_seconds(now) > idle and not series.held):
                series.expire()
                del self._series[key]
        in_use = {series.account for series in self._series.values()}
        for labels, account in list(self._accounts.items()):
            # Aggregated counters stay, and with them their part of the account.
            if account not in in_use and not account.inside and not account.without_sent_event:
                del self._accounts[labels]
        used = {key[0] for key in self._series}
        for raw, name in list(self._names.items()):
            if name.label not in used:
                name.expire()
                del self._names[raw]

    def _find(
        self, name: TaskName, queue: str, worker: str, kwarg_label: tuple[str, ...], now: float
    ) -> TaskSeries:
        labels = (name.label, queue, *((worker,) if self.by_worker else ()), *kwarg_label)
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= self._max_series:
                self._drop_aggregated()
            sent_only = self.by_worker and not worker
            account = self._account(name.label, queue)
            series = TaskSeries(labels, worker, self._tables, now, account, sent_only)
            self._series[labels] = series
        return series

    def _account(self, task: str, queue: str) -> Account:
        task, queue = self._tables.limit_labels(task, queue)
        account = self._accounts.get((task, queue))
        if account is None:
            account = self._accounts[task, queue] = Account((task, queue))
        return account

    def _drop_aggregated(self) -> None:
        """Remove the entries that share series: a flood of names or queues adds them forever."""
        for key, series in list(self._series.items()):
            if series.aggregated:
                series.expire()
                del self._series[key]
        self._max_series = max(self._capacity, 2 * len(self._series))
