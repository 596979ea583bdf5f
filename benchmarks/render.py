"""Measure the encoding of many series, and how long it blocks the thread that counts task events.

For comparison, in the same run and in turn: prometheus_client's `generate_latest` on its own
counters and histograms, as most exporters use it, and on families with existing samples, which
measures its encoder alone.
"""

from __future__ import annotations

import gzip
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

import click
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from celery_vitals.metrics.base import MetricDefinition, MetricGroup
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.encoder import generate
from celery_vitals.metrics.series import HistogramSeries, ValueSeries
from celery_vitals.metrics.tables import HistogramTable, ValueTable

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LABELS = ("task", "queue")
QUEUES = 10
EVENTS = MetricGroup("events")
COUNTERS = [
    EVENTS.counter(f"celery_task_{name}_total", *LABELS, help=f"Tasks {name}, from task events.")
    for name in ("sent", "received", "started", "succeeded", "failed", "retried", "rejected")
]
HISTOGRAMS = [
    EVENTS.histogram(
        f"celery_task_{name}_seconds", *LABELS, help=f"The {name} of tasks, from task events."
    )
    for name in ("runtime", "failed_runtime", "queue_wait")
]
SERIES_PER_PAIR = len(COUNTERS) + len(HISTOGRAMS) * (len(BUCKETS) + 3)
BATCH = 1000
BODY = json.dumps(
    {
        "type": "task-succeeded",
        "uuid": "07f5c1de-8a0b-4b35-9a5e-0d7f2f1b3c11",
        "result": "4",
        "runtime": 0.009,
        "clock": 11,
    }
    | {"hostname": "worker@example", "timestamp": 1795166519.8862114, "pid": 5744, "utcoffset": 0}
)


class Sources(Collector):
    """Existing families as a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


class TaskTables:
    """The tables of an exporter with many tasks."""

    def __init__(self, series: int) -> None:
        self.limiter = CardinalityLimiter(
            {"task": series, "queue": QUEUES}, series * 2, threading.Lock()
        )
        self.values = [ValueTable(metric, self.limiter) for metric in COUNTERS]
        self.histograms = [
            HistogramTable(metric, self.limiter, lambda _: BUCKETS) for metric in HISTOGRAMS
        ]
        self.pairs = [
            (f"shop.orders.tasks.task_{n}", f"queue_{n % QUEUES}")
            for n in range(series // SERIES_PER_PAIR)
        ]
        self.counters: list[ValueSeries] = [
            table.series(*pair) for pair in self.pairs for table in self.values
        ]
        self.timers: list[HistogramSeries] = [
            table.series(*pair) for pair in self.pairs for table in self.histograms
        ]

    def change(self, every: int) -> None:
        """Update every series, or one in `every`."""
        with self.limiter.update_lock:
            for counter in self.counters[::every]:
                counter.value += 1
            for timer in self.timers[::every]:
                timer.observe(random.expovariate(1))

    def families(self) -> list[Metric]:
        """Return the families of a scrape."""
        return [
            *(table.family() for table in self.values),
            *(table.family() for table in self.histograms),
        ]


def peer(tables: TaskTables) -> CollectorRegistry:
    """Return the same series as metrics of prometheus_client."""
    registry = CollectorRegistry()

    def names(metric: MetricDefinition) -> tuple[str, str, tuple[str, ...]]:
        return metric.name, metric.help, metric.labels

    for counter in [Counter(*names(metric), registry=registry) for metric in COUNTERS]:
        for pair in tables.pairs:
            counter.labels(*pair).inc(random.randrange(1000))
    for histogram in [
        Histogram(*names(metric), buckets=BUCKETS, registry=registry) for metric in HISTOGRAMS
    ]:
        for pair in tables.pairs:
            histogram.labels(*pair).observe(random.expovariate(1))
    return registry


def whole(tables: TaskTables) -> bytes:
    """Return the text of celery-vitals."""
    return b"".join(generate(tables.families(), generate_latest))


def timed(work: Callable[[], bytes], into: list[float]) -> bytes:
    """Return the result, and append the milliseconds to a list."""
    started = time.perf_counter()
    result = work()
    into.append((time.perf_counter() - started) * 1000)
    return result


@dataclass
class Times:
    """Durations of all rounds in milliseconds."""

    ours: list[float]
    metrics: list[float]
    ready: list[float]

    def row(self, what: str) -> str:
        """Return a line of the table."""
        ours, metrics, ready = (
            statistics.median(times) for times in (self.ours, self.metrics, self.ready)
        )
        ratios = f"1/{metrics / ours:.0f} | 1/{ready / ours:.0f}"
        return f"| {what} | {ours:.1f} ms | {metrics:.0f} ms | {ready:.0f} ms | {ratios} |"


def measure(tables: TaskTables, registry: CollectorRegistry, every: int, rounds: int) -> Times:
    """Measure both encoders in turn, after updating one in `every` series."""
    times = Times([], [], [])
    whole(tables)
    for _ in range(rounds):
        tables.change(every)
        ours = timed(lambda: whole(tables), times.ours)
        timed(lambda: generate_latest(registry), times.metrics)
        families = tables.families()
        for family in families:
            assert family.samples
        ready = Sources(families)
        if timed(partial(generate_latest, ready), times.ready) != ours:
            raise click.ClickException("the texts differ")
    return times


class EventProcessor(threading.Thread):
    """Counts events in batches without a pause; records lock waits and batches, in milliseconds."""

    def __init__(self, tables: TaskTables) -> None:
        super().__init__(daemon=True)
        self._tables = tables
        self._stopping = threading.Event()
        self.waits: list[float] = []
        self.batches: list[float] = []

    def run(self) -> None:
        """Count until stopped."""
        counters, timers = self._tables.counters, self._tables.timers
        events = count()
        while not self._stopping.is_set():
            started = time.perf_counter()
            with self._tables.limiter.update_lock:
                held = time.perf_counter()
                for number in islice(events, BATCH):
                    seconds = json.loads(BODY)["runtime"]
                    counters[number % len(counters)].value += 1
                    timers[number % len(timers)].observe(seconds)
            self.waits.append((held - started) * 1000)
            self.batches.append((time.perf_counter() - started) * 1000)

    def stop(self) -> None:
        """Stop, and wait for the end of the thread."""
        self._stopping.set()
        self.join()

    def row(self, what: str, scrape: str) -> str:
        """Return a line of the table."""
        usual = statistics.median(self.batches)
        batches = f"{usual:.1f} ms | {max(self.batches):.1f} ms"
        return f"| {what} | {scrape} | {max(self.waits):.1f} ms | {batches} |"


def pauses(tables: TaskTables, rounds: int) -> None:
    """Print the durations of counting, alone and while a thread encodes continuously."""
    for what, scrapes in (("alone", 0), ("while encoding", rounds)):
        processor = EventProcessor(tables)
        processor.start()
        times: list[float] = []
        if not scrapes:
            time.sleep(1)
        for _ in range(scrapes):
            body = timed(lambda: whole(tables), times)
            gzip.compress(body, 1)
        processor.stop()
        encoding = f"{statistics.median(times):.0f} ms | {max(times):.0f} ms" if times else " | "
        print(processor.row(what, encoding), flush=True)


@click.command()
@click.option(
    "--rounds",
    default=5,
    show_default=True,
    help="Number of measurements; the table shows the median.",
)
@click.option(
    "--series",
    default=(10_000, 100_000),
    multiple=True,
    show_default=True,
    help="Number of series.",
)
def main(rounds: int, series: tuple[int, ...]) -> None:
    """Measure and print two tables."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    print(
        "| series | celery-vitals | prometheus_client, its metrics | ... its encoder alone"
        " | ratio | ratio |"
    )
    print("|---|---|---|---|---|---|")
    for number in series:
        tables = TaskTables(number)
        registry = peer(tables)
        for what, every in (("all series changed", 1), ("10 % changed", 10)):
            print(measure(tables, registry, every, rounds).row(f"{number:,}, {what}"), flush=True)
    print()
    print(
        f"| counting, {series[-1]:,} series | encoding | longest | longest wait for the lock"
        " | batch | longest |"
    )
    print("|---|---|---|---|---|---|")
    pauses(tables, rounds * 10)


if __name__ == "__main__":
    main()
