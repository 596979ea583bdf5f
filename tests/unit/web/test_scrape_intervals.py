"""How long results are reused, and how many rounds of probes a number of scrapers causes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from celery_vitals.settings import Settings
from celery_vitals.web.scrape_intervals import ScrapeIntervals
from tests.unit.web.conftest import Start

MINUTES_10 = 600.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def rounds(*scrapers: tuple[float, float], seconds: float = MINUTES_10) -> float:
    """Return the rounds per minute that scrapers cause, each with an interval and a phase."""
    clock = Clock()
    intervals = ScrapeIntervals(clock)
    times = sorted(
        (phase + number * interval, index)
        for index, (interval, phase) in enumerate(scrapers)
        for number in range(int(seconds / interval))
    )
    ended, count = -1e9, 0
    for at, index in times:
        clock.now = at
        if at - ended >= intervals.reuse_for(index):
            ended = at + 0.03
            count += 1
    return count / (seconds / 60)


@pytest.mark.parametrize("phase", [0.0, 0.5, 1.5, 5, 7.4, 7.5, 7.6, 9, 12, 14.5])
def test_two_servers_cause_as_many_rounds_as_one(phase: float) -> None:
    assert rounds((15, 0)) == pytest.approx(4, abs=0.2)
    assert rounds((15, 0), (15, phase)) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize(
    "phases", [(0, 5, 10), (0, 3, 6, 9, 12), tuple(range(15)), (0, 7, 8), (0.0, 7.5, 7.6, 14)]
)
def test_any_number_of_servers_causes_no_more_than_two_rounds(
    phases: Sequence[float],
) -> None:
    assert 4 <= rounds(*((15.0, phase) for phase in phases)) <= 8.3


def test_the_shortest_interval_decides() -> None:
    assert rounds((15, 0), (60, 5)) == pytest.approx(4, abs=0.3)
    assert rounds((15, 0), (60, 9)) <= 5.3  # one more for each scrape of the slow one
    assert rounds((30, 0), (30, 14)) == pytest.approx(2, abs=0.3)


def test_results_are_never_older_than_15_seconds() -> None:
    clock = Clock()
    intervals = ScrapeIntervals(clock)
    for _ in range(3):
        longest = intervals.reuse_for(1)
        clock.now += 70
    assert longest == 15


def test_results_are_reused_for_a_second_at_least() -> None:
    clock = Clock()
    intervals = ScrapeIntervals(clock)
    ages = set()
    for _ in range(5):
        ages.add(intervals.reuse_for(1))
        clock.now += 0.2
    assert ages == {1}


def test_clients_without_a_known_interval_do_not_count() -> None:
    clock = Clock()
    intervals = ScrapeIntervals(clock)
    for port in range(2000):
        assert intervals.reuse_for(port) == 1
        assert intervals.reuse_for(None) == 1
        clock.now += 0.1
    assert len(intervals._last) <= 256


def test_a_client_that_is_gone_no_longer_counts() -> None:
    clock = Clock()
    intervals = ScrapeIntervals(clock)
    for _ in range(3):
        assert intervals.reuse_for(1) in (1, 2)
        clock.now += 4
    clock.now += 100
    intervals.reuse_for(2)
    clock.now += 20
    assert intervals.reuse_for(2) == 10


def test_a_scrape_gets_the_age_that_its_interval_allows(start: Start) -> None:
    server = start()
    for _ in range(2):
        server.get("/metrics")
    assert server.collector.max_ages == [1, 1]
    other = start(min_interval=7)
    other.get("/metrics")
    assert other.collector.max_ages == [7]
    assert Settings().min_interval is None
