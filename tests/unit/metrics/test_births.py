"""Zero first: every scraper gets 0 for a new series, then its value, and never 0 again."""

from __future__ import annotations

import math
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_vitals.metrics.births import LONGEST_INTERVAL, Births


class Clock:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def at(self, now: float) -> None:
        self.now = now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_held_before_the_first_scrape(clock: Clock) -> None:
    assert Births(clock).held_after == math.inf


def test_a_scraper_gets_each_series_as_zero_once(clock: Clock) -> None:
    births = Births(clock)
    born = clock.now
    clock.at(1001)
    assert births.scrape("a") < born
    clock.at(1016)
    assert births.scrape("a") == 1001
    assert births.held_after > born


def test_a_series_is_held_until_every_scraper_has_had_it(clock: Clock) -> None:
    births = Births(clock)
    for now, scraper in [(1000, "a"), (1005, "b"), (1015, "a"), (1020, "b")]:
        clock.at(now)
        births.scrape(scraper)
    born = 1022
    held = []
    for now, scraper in [(1030, "a"), (1035, "b"), (1045, "a"), (1050, "b")]:
        clock.at(now)
        held.append(births.scrape(scraper) < born)
    assert held == [True, True, False, False]


def test_a_new_scraper_gets_the_values_that_others_have(clock: Clock) -> None:
    births = Births(clock)
    born = clock.now
    for now in (1001, 1016, 1031):
        clock.at(now)
        births.scrape("a")
    clock.at(1032)
    assert births.scrape("b") > born


def test_a_scraper_that_is_gone_delays_others_for_three_of_its_intervals(clock: Clock) -> None:
    births = Births(clock)
    for now in (1000, 1010):
        clock.at(now)
        births.scrape("gone")
        births.scrape("a")
    born = 1011
    clock.at(1039)
    assert births.scrape("a") < born
    clock.at(1041)
    assert births.scrape("a") > born


def test_nothing_is_held_for_longer_than_the_longest_interval(clock: Clock) -> None:
    births = Births(clock)
    born = clock.now
    births.scrape("once")
    clock.at(1000 + LONGEST_INTERVAL - 1)
    assert births.scrape("another") < born
    clock.at(1000 + LONGEST_INTERVAL + 1)
    assert births.held_after > born


@pytest.mark.parametrize("keeps_connections", [True, False])
@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.sampled_from([1.0, 5.0, 15.0, 30.0, 60.0]), min_size=1, max_size=3),
    st.integers(0, 10**6),
)
def test_each_scraper_gets_zero_then_the_value(
    keeps_connections: bool, intervals: list[float], seed: int
) -> None:
    chance = random.Random(seed)
    clock = Clock()
    births = Births(clock)
    phases = [chance.uniform(0, interval) for interval in intervals]
    scrapes = sorted(
        (1000 + phases[scraper] + number * interval, scraper)
        for scraper, interval in enumerate(intervals)
        for number in range(int(900 / interval))
    )
    # When all scrapers have scraped: one that is new has no zero of what others have released.
    born = [chance.uniform(1130, 1400) for _ in range(5)]
    seen: dict[tuple[int, float], list[bool]] = defaultdict(list)
    for number, (now, scraper) in enumerate(scrapes):
        clock.at(now)
        held_after = births.scrape(scraper if keeps_connections else number)
        for one in born:
            if one <= now:
                seen[scraper, one].append(one > held_after)
    for (scraper, _), held in seen.items():
        zeros = held.index(False)
        assert zeros >= 1
        assert not any(held[zeros:])
        if keeps_connections and len(set(intervals)) == 1:
            assert zeros <= 2, (scraper, held)
