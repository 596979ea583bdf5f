"""Cardinality limits: how many label values and series the tables of one exporter may hold."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType

from celery_vitals.metrics.births import Births

OTHER = "_other"
"""The label value under which everything over a limit is aggregated."""


class FairLock:
    """A lock that the next waiting thread gets, even when its holder acquires it again at once.

    With a plain lock, a thread that counts without a pause would block scrapes for seconds.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._next = threading.Lock()

    def __enter__(self) -> None:
        with self._next:
            self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def locked(self) -> bool:
        """Return whether a thread holds it."""
        return self._lock.locked()


class CardinalityLimiter:
    """The cardinality limits that the tables of one exporter share, and the locks of these tables.

    `label_limits` is the maximum number of values per label name, over all tables; other labels
    have no limit.  `max_series` is the maximum number of all series.  Over a limit, the values of
    limited labels become `_other`.  Label sets whose limited labels are all `_other` are accepted
    even over `max_series`, so that totals stay right.

    Lock order: `encode_lock` before `update_lock`, never the other way round.
    """

    def __init__(
        self,
        label_limits: Mapping[str, int],
        max_series: int,
        lock: threading.Lock,
        births: Births | None = None,
    ) -> None:
        self.births = births or Births()
        self.update_lock = FairLock(lock)
        """Held while values change, and for moments while they are copied."""
        self.encode_lock = threading.Lock()
        """Held by the one scrape that renews cached text."""
        self.series_count = 0
        self._max_series = max_series
        self._limits = dict(label_limits)
        self._uses: dict[str, Counter[str]] = {name: Counter() for name in label_limits}
        self._aggregated: Counter[str] = Counter()

    @property
    def aggregated(self) -> Mapping[str, int]:
        """Number of times that labels became `_other`, by metric name.  A copy, for any thread."""
        return dict(self._aggregated)

    def limit_values(self, names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels, with `_other` for each value that is over its label's limit."""
        return tuple(
            value if self._accepts(name, value) else OTHER
            for name, value in zip(names, labels, strict=True)
        )

    def _accepts(self, name: str, value: str) -> bool:
        uses = self._uses.get(name)
        return uses is None or value in uses or len(uses) < self._limits[name]

    def aggregate_values(self, names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels, with `_other` for the value of each limited label."""
        return tuple(
            OTHER if name in self._limits else value
            for name, value in zip(names, labels, strict=True)
        )

    def can_add(self, count: int) -> bool:
        """Return whether `count` more series are within `max_series`."""
        return self.series_count + count <= self._max_series

    def add(self, names: tuple[str, ...], labels: tuple[str, ...], count: int) -> None:
        """Count a new label set, which is exported as `count` series."""
        self.series_count += count
        for name, value in self._limited(names, labels):
            self._uses[name][value] += 1

    def remove(self, names: tuple[str, ...], labels: tuple[str, ...], count: int) -> None:
        """Stop counting a label set, and free the label values that no other one uses."""
        self.series_count -= count
        for name, value in self._limited(names, labels):
            self._uses[name][value] -= 1
            if not self._uses[name][value]:
                del self._uses[name][value]

    def _limited(self, names: tuple[str, ...], labels: tuple[str, ...]) -> list[tuple[str, str]]:
        return [
            pair
            for pair in zip(names, labels, strict=True)
            if pair[0] in self._limits and pair[1] != OTHER
        ]

    def count_aggregated(self, metric: str) -> None:
        """Count that labels of this metric were aggregated as `_other`."""
        self._aggregated[metric] += 1

    def restore_aggregated(self, counts: Mapping[str, int]) -> None:
        """Continue the counts of an earlier process."""
        self._aggregated = Counter(counts)
