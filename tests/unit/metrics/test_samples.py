"""Probed samples: their text is prometheus_client's, from the cache as well, which is bounded."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from celery_vitals.metrics.base import MetricDefinition, MetricGroup, Sample
from celery_vitals.metrics.births import Births
from celery_vitals.metrics.encoder import generate
from celery_vitals.metrics.samples import CounterBirths, LineCache, SampleEncoder

GROUP = MetricGroup("workers")
STATE = GROUP.gauge("celery_worker_state", "worker", "state", "Pool", help='A "state"\nor \\.')
CPU = GROUP.counter("celery_worker_cpu_seconds_total", "worker", help="CPU time.")
INFO = GROUP.info("celery_worker_info", "worker", "pool", help="Facts.")
UP = GROUP.gauge("celery_broker_up", help="Up.")

labels = st.text(max_size=3) | st.sampled_from(["", '"', "\\", "\n", "é", "a"])
numbers = (
    st.floats()
    | st.integers(-(2**70), 2**70)
    | st.booleans()
    | st.sampled_from([0.0, -0.0, math.nan, 1, 1.0, True])
)
scrape = st.lists(
    st.builds(lambda value, *given: STATE(value, *given), numbers, labels, labels, labels)
    | st.builds(lambda value, worker: CPU(value, worker), numbers, labels)
    | st.builds(lambda worker, pool: INFO(1, worker, pool), labels, labels)
    | st.builds(UP, numbers),
    max_size=8,
)


class Families:
    def __init__(self, families: Sequence[Metric]) -> None:
        self.families = families

    def collect(self) -> Sequence[Metric]:
        return self.families


def expected(samples: Iterable[Sample]) -> list[Metric]:
    """The families as prometheus_client's classes build them; of equal series the first."""
    first: dict[MetricDefinition, dict[tuple[str, ...], Sample]] = {}
    for sample in samples:
        first.setdefault(sample.metric, {}).setdefault(sample.labels, sample)
    return [
        metric.family(first[metric].values()) for metric in GROUP.definitions if metric in first
    ]


@given(st.lists(scrape, max_size=6))
def test_text_of_successive_scrapes_equals_prometheus_client(scrapes: list[list[Sample]]) -> None:
    encoder = SampleEncoder(GROUP.definitions)
    for samples in scrapes:
        families, source = list(encoder.families(samples)), Families(expected(samples))
        assert b"".join(generate(families, generate_latest)) == generate_latest(source)
        openmetrics: bytes = generate_openmetrics(source)  # type: ignore[no-untyped-call]
        assert b"".join(generate(families, generate_openmetrics)) == openmetrics
        assert repr([family.samples for family in families]) == repr(
            [family.samples for family in source.families]
        )


def test_cache_drops_series_missing_from_the_last_scrape() -> None:
    cache = LineCache(CPU)
    for number in range(100):
        cache.encode({(f"worker-{number}-{one}",): 1.0 for one in range(10)})
        assert len(cache) == 10


def test_unchanged_line_is_reused() -> None:
    cache = LineCache(CPU)
    cache.encode({("a",): 1.5, ("b",): 1.5})
    before = dict(cache._lines)
    cache.encode({("a",): 3.0 / 2, ("b",): 2.5})
    assert cache._lines[("a",)] is before[("a",)]
    assert cache._lines[("b",)].text == 'celery_worker_cpu_seconds_total{worker="b"} 2.5\n'


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(0.0, -0.0, "-0.0"), (-0.0, 0, "0.0"), (False, -0.0, "-0.0"), (1, math.nan, "NaN")],
)
def test_equal_numbers_of_different_text_are_renewed(
    before: float, after: float, text: str
) -> None:
    cache = LineCache(UP)
    cache.encode({(): before})
    assert cache.encode({(): after}) == f"celery_broker_up {text}\n".encode()


def test_concurrent_scrapes_get_their_own_values() -> None:
    encoder = SampleEncoder(GROUP.definitions)
    faults: list[str] = []

    def scrape(value: float) -> None:
        for _ in range(50):
            samples = [CPU(value, f"worker-{number}") for number in range(100)]
            text = b"".join(generate(encoder.families(samples), generate_latest)).decode()
            values = {line.split()[-1] for line in text.splitlines() if line[0] != "#"}
            if values != {str(value)}:
                faults.append(f"{value}: {values}")

    threads = [threading.Thread(target=scrape, args=(float(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_births_that_another_scrape_forgets_are_not_held() -> None:
    times = iter((1.0, 2.0, 3.0))
    births = CounterBirths("celery_total", Births(lambda: next(times)))
    gone: dict[tuple[str, ...], float] = {("gone",): 5.0}
    births.record(gone)
    many: dict[tuple[str, ...], float] = {(str(number),): 1.0 for number in range(10_001)}
    births.record(many)
    births.record({**many, ("new",): 1.0})
    assert births.visible(gone, 2.5) == gone
    assert births.visible({("new",): 1.0}, 2.5) == {("new",): 0.0}
