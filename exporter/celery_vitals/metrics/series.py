"""The series of tables: the value of one label set, and its text in the exposition."""

from __future__ import annotations

import math
from bisect import bisect_left

from celery_vitals.metrics.encoder import HistogramBuckets, HistogramLabels


class Series:
    """One label set of a table.

    `value` is the value of a counter or gauge, and the sum of a histogram.  `size` is the number
    of series in the exposition: more than one for a histogram.
    """

    # `text` is the encoding of `encoded_value`, which is compared by identity: exact for NaN and
    # -0.0 too, and no other object takes the place of one that is referenced.
    __slots__ = ("born", "encoded_value", "labels", "size", "text", "value")

    def __init__(self, labels: tuple[str, ...], size: int) -> None:
        self.born = -math.inf
        self.labels = labels
        self.size = size
        self.value = 0.0
        self.encoded_value: float | None = None
        self.text = b""


class ValueSeries(Series):
    """A counter or a gauge: `series.value += 1`."""

    __slots__ = ("prefix",)

    def __init__(self, labels: tuple[str, ...], prefix: str) -> None:
        super().__init__(labels, 1)
        self.prefix = prefix


class HistogramSeries(Series):
    """A histogram: `series.observe(seconds)`.

    `counts` has the observations of each bucket alone; the last bucket is above all bounds.
    """

    __slots__ = ("bounds", "buckets", "counts", "encoded_labels")

    def __init__(
        self, labels: tuple[str, ...], buckets: HistogramBuckets, encoded_labels: HistogramLabels
    ) -> None:
        super().__init__(labels, len(buckets.bounds) + 3)
        self.bounds = buckets.bounds
        self.counts = [0] * (len(buckets.bounds) + 1)
        self.buckets = buckets
        self.encoded_labels = encoded_labels

    def observe(self, seconds: float) -> None:
        """Count one observation.  `seconds` must be finite: a NaN would stay in the sum forever."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.value += seconds
