"""Quantiles of what histograms have counted, with the bounds within which each is certain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter


@dataclass(frozen=True)
class Quantile:
    """A quantile: an estimate, between bounds that are certain."""

    estimate: float
    """As `histogram_quantile` of Prometheus: linear within a bucket; where `upper` is infinite,
    the highest bound of the histogram, which is too low."""
    lower: float
    upper: float


class Distribution:
    """The observations of histograms, whose buckets may differ."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self._buckets: Counter[tuple[float, float]] = Counter()
        """Observations by the lower and upper bound of their bucket."""

    def add(self, bounds: Sequence[float], counts: Sequence[int], total: float) -> None:
        """Add a histogram: the upper bounds, the count of each bucket alone, and the sum.

        The last bucket is above all bounds.
        """
        edges = zip((0.0, *bounds), (*bounds, math.inf), counts, strict=True)
        for lower, upper, count in edges:
            if count:
                self._buckets[lower, upper] += count
                self.count += count
        self.sum += total

    def merge(self, other: Distribution) -> None:
        """Add the observations of another one."""
        self._buckets.update(other._buckets)
        self.count += other.count
        self.sum += other.sum

    def quantile(self, part: float) -> Quantile | None:
        """Return the quantile, from 0 to 1; None without observations."""
        if not self.count:
            return None
        rank = part * self.count
        # If each observation were at the lower bound of its bucket, and if at the upper one.
        lower = self._reached(rank, itemgetter(0))
        upper = self._reached(rank, itemgetter(1))
        return Quantile(min(max(self._interpolated(rank), lower), upper), lower, upper)

    def _reached(self, rank: float, edge: Callable[[tuple[float, float]], float]) -> float:
        ordered = sorted(self._buckets.items(), key=lambda item: edge(item[0]))
        counts = accumulate(count for _, count in ordered)
        for (bucket, _), reached in zip(ordered, counts, strict=True):
            if reached >= rank:
                return edge(bucket)
        return edge(ordered[-1][0])

    def _interpolated(self, rank: float) -> float:
        """Return where the rank is reached if observations are even within each bucket."""
        reached = rate = position = 0.0
        for edge, change in self._rate_changes():
            if rate > 0 and reached + rate * (edge - position) >= rank:
                return position + (rank - reached) / rate
            reached += rate * (edge - position)
            rate, position = rate + change, edge
        return position

    def _rate_changes(self) -> Iterable[tuple[float, float]]:
        """Return by how much the observations per second change at each bound."""
        changes: dict[float, float] = {}
        for (lower, upper), count in self._buckets.items():
            rate = count / (upper - lower)  # 0 above all bounds
            changes[lower] = changes.get(lower, 0.0) + rate
            if upper < math.inf:
                changes[upper] = changes.get(upper, 0.0) - rate
        return sorted(changes.items())
