"""Finds the row of a task, and the name by which it is counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric

from celery_vitals.events.decode import Event
from celery_vitals.events.task_series import TaskName, TaskSeries, TaskTables
from celery_vitals.metrics.base import label_text
from celery_vitals.metrics.cardinality import OTHER

UNKNOWN = "unknown"
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\[({]|[\])}]""", re.DOTALL)
_VALUE = re.compile(r""": (?:'([^'\\]*)'|"([^"\\]*)"|(-?\d+(?:\.\d+)?))[,}]""")
_FAR = 10_000
"""Characters of the arguments that are looked at; Celery itself writes fewer."""
_LONGEST = 200
"""Characters that a label's value may have; a longer one is nobody's name for a task or a queue."""


@dataclass(frozen=True)
class KwargLabel:
    """An opt-in label whose value is a keyword argument of the task."""

    label: str
    argument: str

    def of(self, event: Event) -> str:
        """Its value; empty where the task has no such argument, or one that is no text or number.

        Events carry the arguments as Python writes them, shortened, so this looks for the one and reads no others.
        """
        text, depth = (event.kwargs or "")[:_FAR], 0
        for token in _TOKEN.finditer(text):
            what = token.group()
            depth += (what in "[({") - (what in "])}")
            if (
                depth == 1
                and what[1:-1] == self.argument
                and (found := _VALUE.match(text, token.end()))
            ):
                return next(group for group in found.groups() if group is not None)[:_LONGEST]
        return ""


class TaskSeriesIndex:
    """All rows of tasks, by their labels.  For one thread."""

    def __init__(
        self, tables: TaskTables, by_worker: bool, kwarg_label: KwargLabel | None, kept: int
    ) -> None:
        self._tables = tables
        self._kwarg_label = kwarg_label
        self._kept = kept
        """How many names and rows are kept for quick finding; a flood of names beyond it is folded by the tables."""
        self._most_rows = kept
        self.by_worker = by_worker
        self.unknown = TaskName(UNKNOWN, tables)
        self._names: dict[str, TaskName] = {}
        self._rows: dict[tuple[str, ...], TaskSeries] = {}

    def name(self, raw: str | None) -> TaskName:
        """The name by which a task is counted."""
        if not raw:
            return self.unknown
        name = self._names.get(raw)
        if name is None:
            raw = label_text(raw) if len(raw) <= _LONGEST else OTHER
            name = self._names.get(raw) or TaskName(raw, self._tables)
            if len(self._names) < self._kept:
                self._names[raw] = name
        return name

    def row(
        self, name: TaskName, queue: str, event: Event | None = None, now: float = 0.0
    ) -> TaskSeries:
        """The row of a task in a queue, before it is known which worker runs it."""
        kwarg_label = (
            (self._kwarg_label.of(event),)
            if self._kwarg_label and event is not None
            else ("",)
            if self._kwarg_label
            else ()
        )
        return self._row(name, queue if len(queue) <= _LONGEST else OTHER, "", kwarg_label, now)

    def again(self, row: TaskSeries, name: TaskName, worker: str, now: float = 0.0) -> TaskSeries:
        """The row to count on from now on: after this one has expired, or for the worker that runs the task."""
        kwarg_label = row.labels[-1:] if self._kwarg_label else ()
        if len(self._names) < self._kept:
            self._names.setdefault(name.label, name)  # so that its own series expire, too
        return self._row(name, row.labels[1], worker if self.by_worker else "", kwarg_label, now)

    def labels(self) -> Iterator[str]:
        """The names of all tasks that are kept."""
        return (name.label for name in self._names.values())

    def queues(self) -> set[str]:
        """The queues of all rows, as far as they are known."""
        return {row.labels[1] for row in self._rows.values()} - {UNKNOWN, OTHER}

    def families(self) -> Iterator[Metric]:
        """The families of all tables."""
        return self._tables.families()

    def expire(self, now: float, idle: float) -> None:
        """Remove the rows that nothing has been counted on for `idle` seconds, and the names that have none left."""
        for key, row in list(self._rows.items()):
            if row.idle(now) > idle or row.folded:
                row.expire()
                del self._rows[key]
        used = {key[0] for key in self._rows}
        for raw, name in list(self._names.items()):
            if name.label not in used:
                name.expire()
                del self._names[raw]

    def _row(
        self, name: TaskName, queue: str, worker: str, kwarg_label: tuple[str, ...], now: float
    ) -> TaskSeries:
        labels = (name.label, queue, *((worker,) if self.by_worker else ()), *kwarg_label)
        row = self._rows.get(labels)
        if row is None:
            if len(self._rows) >= self._most_rows:
                self._drop_folded()
            row = TaskSeries(labels, worker, self._tables, now)
            self._rows[labels] = row
        return row

    def _drop_folded(self) -> None:
        """Forget the rows that count together with others anyway: a flood of names or queues makes them without end."""
        for key, row in list(self._rows.items()):
            if row.folded:
                row.expire()
                del self._rows[key]
        self._most_rows = max(self._kept, 2 * len(self._rows))
