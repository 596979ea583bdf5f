"""New counters in the exposition: 0 in a scrape of Prometheus, the value for everything else."""

from __future__ import annotations

import math
import threading

from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from celery_vitals.metrics.base import MetricGroup
from celery_vitals.metrics.births import Births
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.encoder import TextFamily, generate
from celery_vitals.metrics.samples import SampleEncoder
from celery_vitals.metrics.tables import HistogramTable, ValueTable
from tests.support.scene import NOW, Scene

GROUP = MetricGroup("group")
FAILED = GROUP.counter("celery_failed_total", "task", help="Failed.")
PROCESSED = GROUP.counter("celery_processed_total", "worker", help="Processed.", counted=False)
RUNNING = GROUP.gauge("celery_running", "task", help="Running.")
RUNTIME = GROUP.histogram("celery_runtime_seconds", "task", help="Runtime.")
BEFORE, BORN, AFTER = 5.0, 10.0, 15.0


class Clock:
    """A clock set by hand, and the births that it times."""

    def __init__(self) -> None:
        self.now = BORN
        self.births = Births(lambda: self.now)
        self.limiter = CardinalityLimiter({}, 100, threading.Lock(), self.births)


def lines(family: TextFamily, held_after: float = math.inf) -> list[str]:
    """Return the lines of the series; the samples must agree with them."""
    family.held_after = held_after
    text = b"".join(generate([family], generate_latest)).decode()
    assert family.text(False) == text
    found = [line for line in text.splitlines() if not line.startswith("#")]
    assert [float(line.rpartition(" ")[2]) for line in found] == [
        sample.value for sample in family.samples
    ]
    assert b"".join(generate([family], generate_openmetrics)).decode().count("\n") == len(found) + 3
    return found


def test_a_new_counter_of_a_table_is_zero_and_the_others_keep_their_values() -> None:
    clock = Clock()
    table = ValueTable(FAILED, clock.limiter)
    table.series("old").value += 2
    clock.now = AFTER + 1
    table.series("new").value += 200
    assert lines(table.family()) == [
        'celery_failed_total{task="old"} 2.0',
        'celery_failed_total{task="new"} 200.0',
    ]
    assert lines(table.family(), AFTER) == [
        'celery_failed_total{task="old"} 2.0',
        'celery_failed_total{task="new"} 0.0',
    ]
    assert lines(table.family(), AFTER + 1)[1] == 'celery_failed_total{task="new"} 200.0'


def test_a_new_histogram_is_empty() -> None:
    clock = Clock()
    table = HistogramTable(RUNTIME, clock.limiter, lambda _: (1.0,))
    table.series("a").observe(0.5)
    assert [line.rpartition(" ")[2] for line in lines(table.family(), BEFORE)] == ["0.0"] * 4
    assert [line.rpartition(" ")[2] for line in lines(table.family(), BORN)] == [
        "1.0",
        "1.0",
        "1.0",
        "0.5",
    ]


def test_a_gauge_is_never_held() -> None:
    clock = Clock()
    table = ValueTable(RUNNING, clock.limiter)
    table.series("a").value = 7
    assert lines(table.family(), BEFORE) == ['celery_running{task="a"} 7.0']


def test_a_series_that_was_removed_is_new_again() -> None:
    clock = Clock()
    table = ValueTable(FAILED, clock.limiter)
    series = table.series("a")
    series.value = 1
    table.remove(series)
    clock.now = AFTER + 1
    table.series("a").value += 1
    assert lines(table.family(), AFTER) == ['celery_failed_total{task="a"} 0.0']


def test_a_new_counter_among_samples_is_zero_and_one_that_returns_is_not() -> None:
    clock = Clock()
    encoder = SampleEncoder(GROUP.definitions, clock.births)

    def scrape(*values: tuple[float, str], held_after: float) -> list[str]:
        families = encoder.families([FAILED(value, task) for value, task in values])
        return [line for family in families for line in lines(family, held_after)]

    assert scrape((3, "a"), held_after=BEFORE) == ['celery_failed_total{task="a"} 0.0']
    assert scrape(held_after=BORN) == []  # the collector failed
    clock.now = AFTER
    assert scrape((4, "a"), (200, "b"), held_after=BORN) == [
        'celery_failed_total{task="a"} 4.0',
        'celery_failed_total{task="b"} 0.0',
    ]
    assert scrape((201, "b"), held_after=AFTER) == ['celery_failed_total{task="b"} 201.0']


def test_a_counter_that_a_worker_counts_is_never_held() -> None:
    encoder = SampleEncoder(GROUP.definitions, Clock().births)
    (family,) = encoder.families([PROCESSED(10_000, "w")])
    assert lines(family, BEFORE) == ['celery_processed_total{worker="w"} 10000.0']


def test_a_held_series_outlives_its_expiry() -> None:
    scene = Scene(idle_after=60.0)
    births = scene.limiter.births
    births.scrape("prometheus")
    scene.sent("a")
    scene.received("a")
    scene.send("task-failed", "a", exception="ValueError('x')")
    series = 'celery_task_failed_total{exception="ValueError",queue="q",task="add"}'
    scene.index.expire(NOW, 60.0)
    scene.index.expire(NOW + 100, 60.0)
    assert series in scene.text()
    births.scrape("prometheus")
    births.scrape("prometheus")
    scene.index.expire(NOW + 100, 60.0)
    assert series not in scene.text()
