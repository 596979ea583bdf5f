"""Quantiles of histograms, compared with those of the observations themselves."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.metrics.distribution import Distribution, Quantile

BOUNDS = (0.1, 0.5, 1.0, 5.0)


def distribution(observations: Sequence[float], bounds: Sequence[float] = BOUNDS) -> Distribution:
    counts = [0] * (len(bounds) + 1)
    for one in observations:
        counts[bisect_left(bounds, one)] += 1
    found = Distribution()
    found.add(bounds, counts, math.fsum(observations))
    return found


def exact(observations: Sequence[float], part: float) -> float:
    """Return the smallest observation that at least this part of them does not exceed."""
    return sorted(observations)[max(0, math.ceil(part * len(observations)) - 1)]


def prometheus(bounds: Sequence[float], counts: Sequence[int], part: float) -> float:
    """Return what histogram_quantile returns."""
    rank, reached = part * sum(counts), 0
    for place, count in enumerate(counts):
        if reached + count >= rank and count:
            if place == len(bounds):
                return bounds[-1]
            lower = bounds[place - 1] if place else 0.0
            return lower + (bounds[place] - lower) * (rank - reached) / count
        reached += count
    raise AssertionError


def rounded(found: Quantile | None) -> Quantile:
    assert found is not None
    return replace(found, estimate=round(found.estimate, 9))


def test_without_observations() -> None:
    assert Distribution().quantile(0.5) is None
    assert distribution([]).quantile(0.99) is None


def test_one_observation() -> None:
    found = distribution([0.3])
    assert rounded(found.quantile(0.5)) == Quantile(0.3, 0.1, 0.5)
    assert (found.count, found.sum) == (1, 0.3)


def test_above_the_highest_bound() -> None:
    assert distribution([0.3, 7, 9]).quantile(0.95) == Quantile(5.0, 5.0, math.inf)
    assert distribution([9]).quantile(0.5) == Quantile(5.0, 5.0, math.inf)


def test_a_gap_between_the_buckets_is_not_entered() -> None:
    assert rounded(distribution([0.05, 4]).quantile(0.5)) == Quantile(0.1, 0.0, 0.1)


def test_a_bound_belongs_to_the_bucket_below() -> None:
    assert rounded(distribution([0.5] * 4).quantile(0.99)) == Quantile(0.496, 0.1, 0.5)


durations = st.lists(st.floats(0, 8), min_size=1, max_size=60)
parts = st.sampled_from([0.5, 0.95, 0.99])


@given(durations, parts)
def test_equals_the_estimate_of_prometheus(observations: list[float], part: float) -> None:
    counts = [0] * (len(BOUNDS) + 1)
    for one in observations:
        counts[bisect_left(BOUNDS, one)] += 1
    found = distribution(observations).quantile(part)
    assert found is not None
    assert found.estimate == pytest.approx(prometheus(BOUNDS, counts, part))


@given(durations, durations, parts)
def test_the_quantile_is_between_its_bounds(
    first: list[float], second: list[float], part: float
) -> None:
    found = distribution(first)
    found.merge(distribution(second, (0.2, 3.0)))
    assert found.count == len(first) + len(second)
    quantile = found.quantile(part)
    assert quantile is not None
    assert quantile.lower <= exact(first + second, part) <= quantile.upper
    assert quantile.lower <= quantile.estimate <= quantile.upper


def test_many_observations_of_two_kinds_of_buckets() -> None:
    draw = random.Random(1)
    first = [draw.uniform(0, 5) for _ in range(20_000)]
    second = [draw.uniform(0, 5) for _ in range(20_000)]
    found = distribution(first)
    found.merge(distribution(second, (0.2, 3.0, 6.0)))
    quantile = found.quantile(0.5)
    assert quantile is not None
    assert quantile.estimate == pytest.approx(exact(first + second, 0.5), rel=0.05)
