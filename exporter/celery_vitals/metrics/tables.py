"""Counters, gauges and histograms as tables: cheap to update, cheap to encode.

One thread updates.  It holds the `update_lock` of the `CardinalityLimiter` while it processes a
batch of events: `series()` finds a series, and updating it is one addition.  Scrapes, in other
threads, hold that lock only to copy what has changed; they encode without it.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import add
from typing import Any, ClassVar, Generic, Optional, TypeVar

import msgspec
from prometheus_client.samples import Sample

from celery_vitals.metrics.base import Kind, MetricDefinition, label_text
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.encoder import (
    HistogramBuckets,
    HistogramLabels,
    TextFamily,
    format_value,
    head,
    series_prefix,
)
from celery_vitals.metrics.series import HistogramSeries, Series, ValueSeries

# Series that are copied at a time: the lock is held for far less than a millisecond.
_CHUNK = 2000
# The names that every format and every escaping scheme leaves unchanged.
_PLAIN_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


S = TypeVar("S", bound=Series)
# A series, its value, and the counts of a histogram, as they were at one moment.
Copy = tuple[S, float, Sequence[int]]


class SeriesState(msgspec.Struct, array_like=True):
    """A series as it is saved."""

    labels: tuple[str, ...]
    value: float
    born: Optional[float]  # noqa: UP045 - resolved at runtime, on Python 3.9 too
    """When it was created, while a scraper has yet to see its zero."""
    counts: list[int] = []
    bounds: tuple[float, ...] = ()


class TableState(msgspec.Struct):
    """A table as it is saved."""

    metric: str
    series: list[SeriesState]


class _Table(ABC, Generic[S]):
    """All series of one metric, by their labels.

    The caller of `series`, `remove` or `clear` holds `update_lock`; the other methods acquire it
    themselves, for moments.
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
        self._series: dict[tuple[str, ...], S] = {}
        self._last_born = -math.inf
        self._heads = {
            openmetrics: head(metric.family(), openmetrics) for openmetrics in (True, False)
        }

    def __len__(self) -> int:
        return len(self._series)

    def series(self, *labels: str) -> S:
        """Return the series of these label values, in the order of the metric's label names.

        Creates it where there is none.
        """
        try:
            return self._series[labels]
        except KeyError:
            return self._find(labels)

    def has(self, *labels: str) -> bool:
        """Return whether there is a series of these label values."""
        return labels in self._series

    def remove(self, series: S) -> None:
        """Remove a series, unless it was removed before."""
        if self._series.get(series.labels) is series:
            del self._series[series.labels]
            self._limiter.remove(self.metric.labels, series.labels, series.size)

    def clear(self) -> None:
        """Remove all series."""
        for series in list(self._series.values()):
            self.remove(series)

    def family(self) -> TableFamily:
        """Return a metric family that reads the table each time it is encoded."""
        return TableFamily(self)

    def parts(self, openmetrics: bool, held_after: float = math.inf) -> list[bytes]:
        """Return the text of the family, HELP and TYPE included, in its cached parts.

        Counters that were created after `held_after` are 0.
        """
        parts = [self._heads[openmetrics]]
        for chunk in self._chunks():
            with self._limiter.encode_lock:
                with self._limiter.update_lock:
                    changed = self._copies(
                        [series for series in chunk if series.value is not series.encoded_value]
                    )
                self._encode(changed)
                if self._last_born > held_after:
                    parts += [
                        self._zero_text(series) if series.born > held_after else series.text
                        for series in chunk
                    ]
                else:
                    parts += [series.text for series in chunk]
        return parts

    def samples(self, held_after: float = math.inf) -> Iterator[Sample]:
        """Yield the samples of the family; counters created after `held_after` are 0."""
        for series, value, counts in self.copies():
            labels = dict(zip(self.metric.labels, series.labels, strict=True))
            if series.born > held_after:
                value, counts = 0.0, [0] * len(counts)
            yield from self._samples(series, labels, value, counts)

    def copies(self) -> Iterator[Copy[S]]:
        """Yield each series with its value as it is now."""
        for chunk in self._chunks():
            with self._limiter.update_lock:
                copied = self._copies(chunk)
            yield from copied

    def copy(self) -> TableCopy[S]:
        """Return all values as they are now; the caller holds `update_lock`."""
        return TableCopy(self.metric.name, self._copies(self._series.values()))

    def restore(self, state: TableState) -> None:
        """Add the values of a copy; the caller holds `update_lock`."""
        for saved in state.series:
            series = self.series(*saved.labels)
            if self._add(series, saved):
                series.born = -math.inf if saved.born is None else saved.born

    def shift_births(self, seconds: float) -> None:
        """Move the times of creation; the caller holds `update_lock`."""
        self._last_born += seconds
        for series in self._series.values():
            series.born += seconds

    def _chunks(self) -> Iterator[list[S]]:
        every = list(self._series.copy().values())  # atomic for other threads: needs no lock
        for start in range(0, len(every), _CHUNK):
            yield every[start : start + _CHUNK]

    def _find(self, given: tuple[str, ...]) -> S:
        """Return the series of labels that are new, or that are aggregated as `_other`."""
        names = self.metric.labels
        if len(given) != len(names):
            raise ValueError(f"{self.metric.name} takes the labels {names}, not {given}")
        clean = tuple(map(label_text, given))
        labels = self._limiter.limit_values(names, clean)
        series = self._series.get(labels) or self._make(labels)
        if series.labels not in self._series and not self._limiter.can_add(series.size):
            labels = self._limiter.aggregate_values(names, labels)
            series = self._series.get(labels) or self._make(labels)
        if labels not in self._series:
            self._series[labels] = series
            if self.metric.counted:
                # After the line above: a scrape from now on includes the series.
                series.born = self._last_born = self._limiter.births.now()
            self._limiter.add(names, labels, series.size)
        if labels != clean:
            self._limiter.count_aggregated(self.metric.name)
        return series

    def _by_name(self, labels: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return names and values in prometheus_client's order."""
        return sorted(zip(self.metric.labels, labels, strict=True))

    @abstractmethod
    def _make(self, labels: tuple[str, ...]) -> S: ...

    @abstractmethod
    def _add(self, series: S, saved: SeriesState) -> bool:
        """Add the value of a saved series; return whether it fits."""

    @abstractmethod
    def _copies(self, chunk: Iterable[S]) -> list[Copy[S]]: ...

    @abstractmethod
    def _encode(self, copies: Iterable[Copy[S]]) -> None: ...

    @abstractmethod
    def _zero_text(self, series: S) -> bytes: ...

    @abstractmethod
    def _samples(
        self, series: S, labels: dict[str, str], value: float, counts: Sequence[int]
    ) -> Iterator[Sample]: ...


class ValueTable(_Table[ValueSeries]):
    """A counter or a gauge."""

    kinds = (Kind.COUNTER, Kind.GAUGE)

    def values(self) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield the labels and the value of each series; the caller holds `update_lock`."""
        return ((series.labels, series.value) for series in self._series.values())

    def _make(self, labels: tuple[str, ...]) -> ValueSeries:
        return ValueSeries(labels, series_prefix(self.metric.name, self._by_name(labels)))

    def _add(self, series: ValueSeries, saved: SeriesState) -> bool:
        if self.metric.kind is Kind.COUNTER:
            series.value += saved.value  # several may be aggregated as `_other`
        else:
            series.value = max(series.value, saved.value)
        return True

    def _copies(self, chunk: Iterable[ValueSeries]) -> list[Copy[ValueSeries]]:
        return [(series, series.value, ()) for series in chunk]

    def _encode(self, copies: Iterable[Copy[ValueSeries]]) -> None:
        for series, value, _ in copies:
            series.text = f"{series.prefix}{format_value(value)}\n".encode()
            series.encoded_value = value

    def _zero_text(self, series: ValueSeries) -> bytes:
        return f"{series.prefix}{format_value(0)}\n".encode()

    def _samples(
        self, series: ValueSeries, labels: dict[str, str], value: float, counts: Sequence[int]
    ) -> Iterator[Sample]:
        yield Sample(self.metric.name, labels, float(value))


class HistogramTable(_Table[HistogramSeries]):
    """A histogram.

    `buckets` returns the upper bounds, in seconds, for a label set: a task may have its own.
    """

    kinds = (Kind.HISTOGRAM,)

    def __init__(
        self,
        metric: MetricDefinition,
        limiter: CardinalityLimiter,
        buckets: Callable[[tuple[str, ...]], Sequence[float]],
    ) -> None:
        if "le" in metric.labels:
            raise ValueError(f"{metric.name} cannot have a label le: it is reserved for buckets")
        super().__init__(metric, limiter)
        self._bounds_of = buckets
        self._buckets: dict[tuple[float, ...], HistogramBuckets] = {}

    def _make(self, labels: tuple[str, ...]) -> HistogramSeries:
        bounds = tuple(self._bounds_of(labels))
        buckets = self._buckets.get(bounds)
        if buckets is None:
            buckets = self._buckets[bounds] = HistogramBuckets(bounds)
        return HistogramSeries(
            labels, buckets, HistogramLabels.of(self.metric.name, self._by_name(labels))
        )

    def _add(self, series: HistogramSeries, saved: SeriesState) -> bool:
        if tuple(series.bounds) != saved.bounds or len(series.counts) != len(saved.counts):
            return False  # its buckets are others now
        series.counts[:] = map(add, series.counts, saved.counts)
        series.value += saved.value
        return True

    def _copies(self, chunk: Iterable[HistogramSeries]) -> list[Copy[HistogramSeries]]:
        return [(series, series.value, series.counts[:]) for series in chunk]

    def _encode(self, copies: Iterable[Copy[HistogramSeries]]) -> None:
        for series, value, counts in copies:
            series.text = series.buckets.text(series.encoded_labels, counts, value).encode()
            series.encoded_value = value

    def _zero_text(self, series: HistogramSeries) -> bytes:
        return series.buckets.text(series.encoded_labels, [0] * len(series.counts), 0.0).encode()

    def _samples(
        self, series: HistogramSeries, labels: dict[str, str], value: float, counts: Sequence[int]
    ) -> Iterator[Sample]:
        name = self.metric.name
        cumulative = list(accumulate(counts))
        for bound, count in zip(series.buckets.bound_texts, cumulative, strict=True):
            yield Sample(f"{name}_bucket", {**labels, "le": bound}, float(count))
        yield Sample(f"{name}_count", labels, float(cumulative[-1]))
        yield Sample(f"{name}_sum", labels, float(value))


class TableCopy(Generic[S]):
    """The values of a table at one moment."""

    def __init__(self, metric: str, copies: list[Copy[S]]) -> None:
        self._metric = metric
        self._copies = copies

    def to_state(self, released: float) -> TableState:
        """Return the values as they are saved; series created until `released` are not new."""
        return TableState(
            self._metric,
            [
                SeriesState(
                    series.labels,
                    value,
                    series.born if series.born > released else None,
                    list(counts),
                    tuple(series.bounds) if isinstance(series, HistogramSeries) else (),
                )
                for series, value, counts in self._copies
            ],
        )


class TableFamily(TextFamily):
    """The contents of a table as a metric family of prometheus_client, read when encoded."""

    def __init__(self, table: _Table[Any]) -> None:
        super().__init__(table.metric)
        self._table = table

    def current_samples(self) -> Iterator[Sample]:
        """Yield the samples in the table now."""
        return self._table.samples(self.held_after)

    def parts(self, openmetrics: bool) -> list[bytes]:
        """Return the text as of now."""
        return self._table.parts(openmetrics, self.held_after)
