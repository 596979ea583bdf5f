"""Counters, gauges and histograms as plain tables: cheap to count in, cheap to write out.

One thread counts.  It holds the lock of the `Space` while it works on a slice of events: `row()` finds a row, and
changing it is one addition.  Scrapes, in other threads, take the lock only to copy what has changed; the text they make
without it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, ClassVar, Generic, TypeVar

from prometheus_client.samples import Sample

from celery_vitals.metrics.base import Kind, MetricDefinition
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.encoder import (
    HistogramFrame,
    HistogramText,
    TextFamily,
    head,
    number,
    series,
)

# Rows that are copied at a time: far below a millisecond of holding the lock.
_CHUNK = 2000
# The names that every format and every escaping scheme writes as they are.
_PLAIN_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class Row:
    """One label set of a table.  `value` is that of the counter or gauge, and the sum of a histogram."""

    # `text` is what was written for the value `shown`.  Compared by identity: exact for NaN and -0.0 too, and no other
    # value takes the place of one that is held.
    __slots__ = ("labels", "series", "shown", "text", "value")

    def __init__(self, labels: tuple[str, ...], series: int) -> None:
        self.labels = labels
        self.series = series
        self.value = 0.0
        self.shown: float | None = None
        self.text = b""


class ValueSeries(Row):
    """A counter or a gauge: `row.value += 1`."""

    __slots__ = ("head",)

    def __init__(self, labels: tuple[str, ...], head: str) -> None:
        super().__init__(labels, 1)
        self.head = head


class HistogramSeries(Row):
    """A histogram: `row.observe(seconds)`.  `counts` are of each bucket alone, the last is above all bounds."""

    __slots__ = ("bounds", "counts", "frame", "layout")

    def __init__(
        self, labels: tuple[str, ...], layout: HistogramText, frame: HistogramFrame
    ) -> None:
        super().__init__(labels, len(layout.bounds) + 3)
        self.bounds = layout.bounds
        self.counts = [0] * (len(layout.bounds) + 1)
        self.layout = layout
        self.frame = frame

    def observe(self, seconds: float) -> None:
        """Count one more.  `seconds` is a finite number: a NaN would stay in the sum for ever."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.value += seconds


R = TypeVar("R", bound=Row)
# A row, its value, and its counts if it has any, as they were at one moment.
Copy = tuple[R, float, Sequence[int]]


class _Table(ABC, Generic[R]):
    """Rows by their labels.

    Whoever calls `row`, `remove` or `clear` holds the space's lock; the other methods take it themselves, for moments.
    """

    kinds: ClassVar[tuple[Kind, ...]]

    def __init__(self, metric: MetricDefinition, limiter: CardinalityLimiter) -> None:
        if metric.kind not in self.kinds:
            raise ValueError(
                f"{metric.name} is a {metric.kind.value}, which a {type(self).__name__} cannot hold"
            )
        for name in (metric.name, *metric.labels):
            if not _PLAIN_NAME.fullmatch(name):
                raise ValueError(f"a metric or a label of a table cannot be named {name!r}")
        self.metric = metric
        self._limiter = limiter
        self._rows: dict[tuple[str, ...], R] = {}
        self._heads = {
            openmetrics: head(metric.family(), openmetrics) for openmetrics in (True, False)
        }

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, *labels: str) -> R:
        """The row of these label values, in the order of the metric's label names; made if there is none."""
        try:
            return self._rows[labels]
        except KeyError:
            return self._find(labels)

    def remove(self, row: R) -> None:
        """Take a row away.  One that is gone already is no error."""
        if self._rows.get(row.labels) is row:
            del self._rows[row.labels]
            self._limiter.removed(self.metric.labels, row.labels, row.series)

    def clear(self) -> None:
        """Take all rows away."""
        for row in list(self._rows.values()):
            self.remove(row)

    def family(self) -> TableFamily:
        """A metric family that shows what is in the table whenever it is read."""
        return TableFamily(self)

    def parts(self, openmetrics: bool) -> list[bytes]:
        """The text of the family, HELP and TYPE included, in the parts that are kept."""
        parts = [self._heads[openmetrics]]
        for rows in self._chunks():
            with self._limiter.writing:
                with self._limiter.lock:
                    changed = self._copies([row for row in rows if row.value is not row.shown])
                self._write(changed)
                parts += [row.text for row in rows]
        return parts

    def samples(self) -> Iterator[Sample]:
        """The samples of the family."""
        for rows in self._chunks():
            with self._limiter.lock:
                copies = self._copies(rows)
            for row, value, counts in copies:
                labels = dict(zip(self.metric.labels, row.labels, strict=True))
                yield from self._samples(row, labels, value, counts)

    def _chunks(self) -> Iterator[list[R]]:
        rows = list(self._rows.copy().values())  # one step to other threads: needs no lock
        for start in range(0, len(rows), _CHUNK):
            yield rows[start : start + _CHUNK]

    def _find(self, given: tuple[str, ...]) -> R:
        """The row of labels that are new, or not taken as they are."""
        names = self.metric.labels
        if len(given) != len(names):
            raise ValueError(f"{self.metric.name} takes the labels {names}, not {given}")
        # JSON can carry lone surrogates, which no text can.
        clean = tuple(value.encode(errors="replace").decode() for value in given)
        labels = self._limiter.capped(names, clean)
        row = self._rows.get(labels) or self._make(labels)
        if row.labels not in self._rows and not self._limiter.has_room(row.series):
            labels = self._limiter.shortened(names, labels)
            row = self._rows.get(labels) or self._make(labels)
        if labels not in self._rows:
            self._rows[labels] = row
            self._limiter.added(names, labels, row.series)
        if labels != clean:
            self._limiter.count_folded(self.metric.name)
        return row

    def _by_name(self, labels: tuple[str, ...]) -> list[tuple[str, str]]:
        """Names and values in the order in which prometheus_client writes them."""
        return sorted(zip(self.metric.labels, labels, strict=True))

    @abstractmethod
    def _make(self, labels: tuple[str, ...]) -> R: ...

    @abstractmethod
    def _copies(self, rows: Iterable[R]) -> list[Copy[R]]: ...

    @abstractmethod
    def _write(self, copies: Iterable[Copy[R]]) -> None: ...

    @abstractmethod
    def _samples(
        self, row: R, labels: dict[str, str], value: float, counts: Sequence[int]
    ) -> Iterator[Sample]: ...


class ValueTable(_Table[ValueSeries]):
    """A counter or a gauge."""

    kinds = (Kind.COUNTER, Kind.GAUGE)

    def _make(self, labels: tuple[str, ...]) -> ValueSeries:
        return ValueSeries(labels, series(self.metric.name, self._by_name(labels)))

    def _copies(self, rows: Iterable[ValueSeries]) -> list[Copy[ValueSeries]]:
        return [(row, row.value, ()) for row in rows]

    def _write(self, copies: Iterable[Copy[ValueSeries]]) -> None:
        for row, value, _ in copies:
            row.text = f"{row.head}{number(value)}\n".encode()
            row.shown = value

    def _samples(
        self, row: ValueSeries, labels: dict[str, str], value: float, counts: Sequence[int]
    ) -> Iterator[Sample]:
        yield Sample(self.metric.name, labels, float(value))


class HistogramTable(_Table[HistogramSeries]):
    """A histogram.  `buckets` gives the upper bounds, in seconds, for a label set, so that a task may have its own."""

    kinds = (Kind.HISTOGRAM,)

    def __init__(
        self,
        metric: MetricDefinition,
        limiter: CardinalityLimiter,
        buckets: Callable[[tuple[str, ...]], Sequence[float]],
    ) -> None:
        if "le" in metric.labels:
            raise ValueError(f"{metric.name} cannot have a label le: it is that of the buckets")
        super().__init__(metric, limiter)
        self._buckets = buckets
        self._layouts: dict[tuple[float, ...], HistogramText] = {}

    def _make(self, labels: tuple[str, ...]) -> HistogramSeries:
        bounds = tuple(self._buckets(labels))
        layout = self._layouts.get(bounds)
        if layout is None:
            layout = self._layouts[bounds] = HistogramText(bounds)
        return HistogramSeries(
            labels, layout, HistogramFrame.of(self.metric.name, self._by_name(labels))
        )

    def _copies(self, rows: Iterable[HistogramSeries]) -> list[Copy[HistogramSeries]]:
        return [(row, row.value, row.counts[:]) for row in rows]

    def _write(self, copies: Iterable[Copy[HistogramSeries]]) -> None:
        for row, value, counts in copies:
            row.text = row.layout.text(row.frame, counts, value).encode()
            row.shown = value

    def _samples(
        self, row: HistogramSeries, labels: dict[str, str], value: float, counts: Sequence[int]
    ) -> Iterator[Sample]:
        name = self.metric.name
        upto = list(accumulate(counts))
        for bound, count in zip(row.layout.written, upto, strict=True):
            yield Sample(f"{name}_bucket", {**labels, "le": bound}, float(count))
        yield Sample(f"{name}_count", labels, float(upto[-1]))
        yield Sample(f"{name}_sum", labels, float(value))


class TableFamily(TextFamily):
    """What is in a table, as a metric family of prometheus_client: its samples are made when they are asked for."""

    def __init__(self, table: _Table[Any]) -> None:
        super().__init__(table.metric)
        self._table = table

    def listed(self) -> Iterator[Sample]:
        """What is in the table now."""
        return self._table.samples()

    def parts(self, openmetrics: bool) -> list[bytes]:
        """The text as it is now."""
        return self._table.parts(openmetrics)
