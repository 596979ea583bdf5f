"""Rounds of scrapes: their durations, and a check that each is complete."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click
import urllib3

from benchmarks.events.watch import cpu_seconds
from benchmarks.scrape.crowd import Crowd
from benchmarks.support.exporters import OURS, PEER, Exporter, Ours
from benchmarks.support.servers import broadcasts_on

# The headers of Prometheus.
_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
WARM_UP = 3
"""Number of scrapes before the measured ones."""
SCRAPERS = 5
_INTERVAL = 0.3
"""Seconds for which the results of a round are reused, with several scrapers."""
_MARKS = {
    OURS: ('celery_worker_replied{worker="worker_', 'celery_queue_length{queue="queue_'),
    PEER: ("", 'celery_queue_length{queue_name="queue_'),
}
"""Beginnings of the lines that appear once per worker, and once per queue."""


@dataclass(frozen=True)
class Times:
    """Durations in milliseconds."""

    p50: float
    p95: float
    longest: float

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        """Summarize durations in seconds."""
        p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
        return cls(statistics.median(seconds) * 1000, p95 * 1000, max(seconds) * 1000)

    def __str__(self) -> str:
        return f"{self.p50:.0f} ms | {self.p95:.0f} ms | {self.longest:.0f} ms"


def timed(work: Callable[[], object], rounds: int) -> Times:
    """Measure repeated calls."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return Times.of(seconds)


def scraped(address: str, rounds: int, crowd: Crowd, name: str = OURS) -> Times:
    """Scrape sequentially over one connection; raise an error if a scrape is incomplete."""
    return by_turns((address,), rounds, crowd, name)[0]


def by_turns(addresses: Sequence[str], rounds: int, crowd: Crowd, name: str = OURS) -> list[Times]:
    """Scrape several exporters in turn, so that other load affects all of them alike."""
    seconds: list[list[float]] = [[] for _ in addresses]
    with urllib3.PoolManager(timeout=30.0, retries=False) as pool:
        for number in range(WARM_UP + rounds):
            for address, taken in zip(addresses, seconds, strict=True):
                started = time.perf_counter()
                text = pool.request("GET", f"{address}/metrics", headers=_HEADERS).data.decode()
                if number >= WARM_UP:
                    taken.append(time.perf_counter() - started)
                    _check(text, crowd, name)
    return [Times.of(taken) for taken in seconds]


def cpu_by_turns(
    exporters: Mapping[str, Exporter], crowd: Crowd, turns: int, scrapes: Mapping[str, int]
) -> dict[str, list[float]]:
    """Return the CPU milliseconds per scrape of each exporter's processes, in each of its turns."""
    found: dict[str, list[float]] = {name: [] for name in exporters}
    for name, exporter in exporters.items():
        scraped(exporter.address, 2, crowd, name)
    with urllib3.PoolManager(timeout=30.0, retries=False) as pool:
        for _ in range(turns):
            for name, exporter in exporters.items():
                before = cpu_seconds(exporter.pid)
                for _ in range(scrapes[name]):
                    url = f"{exporter.address}/metrics"
                    text = pool.request("GET", url, headers=_HEADERS).data.decode()
                spent = cpu_seconds(exporter.pid) - before
                _check(text, crowd, name)
                found[name].append(spent / scrapes[name] * 1000)
    return found


def _check(text: str, crowd: Crowd, name: str = OURS) -> None:
    """Check that every worker has replied and every queue has its message."""
    lines = text.splitlines()
    for mark, wanted in zip(_MARKS[name], (crowd.workers, crowd.queues), strict=True):
        found = (
            sum(line.startswith(mark) and line.endswith(" 1.0") for line in lines)
            if mark
            else wanted
        )
        if found != wanted:
            raise click.ClickException(f"{found} of {wanted} in a scrape: {mark}")


def broadcasts(crowd: Crowd, rounds: int) -> int:
    """Return the number of control messages in rounds of SCRAPERS concurrent scrapes.

    The event stream is disabled, because it sends canaries.
    """
    arguments = ("--min-interval", str(_INTERVAL), "--no-collector.tasks")
    with Ours(crowd.broker, *arguments) as exporter, broadcasts_on(crowd.broker) as count:

        def scrape(_: int) -> str:
            return exporter.scrape(timeout=10).text

        for _ in range(WARM_UP):  # then workers and their queues are known, the latter for 30 s
            scrape(0)
            time.sleep(2 * _INTERVAL)
        before = count()
        with ThreadPoolExecutor(SCRAPERS) as pool:
            for _ in range(rounds):
                for text in pool.map(scrape, range(SCRAPERS)):
                    _check(text, crowd)
                time.sleep(2 * _INTERVAL)
        return count() - before
