"""Rounds of scrapes: how long each took, and that nothing was missing in it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click
import urllib3
from tests.support.broker_inventory import broadcasts_on
from tests.support.exporter import Exporter

from benchmarks.scrape.crowd import Crowd

# As Prometheus asks.
_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
WARM_UP = 3
"""Scrapes before those that count."""
SCRAPERS = 5
_INTERVAL = 0.3
"""Seconds for which one round is good, where several scrape."""
OURS = ('celery_worker_replied{worker="worker_', 'celery_queue_length{queue="queue_')
"""What stands once for each worker, and once for each queue."""
PEERS = ("", 'celery_queue_length{queue_name="queue_')


@dataclass(frozen=True)
class Times:
    """Milliseconds."""

    p50: float
    p95: float
    longest: float

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        """Of some runs."""
        p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
        return cls(statistics.median(seconds) * 1000, p95 * 1000, max(seconds) * 1000)

    def __str__(self) -> str:
        return f"{self.p50:.0f} ms | {self.p95:.0f} ms | {self.longest:.0f} ms"


def timed(work: Callable[[], object], rounds: int) -> Times:
    """How long something takes, time after time."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return Times.of(seconds)


def scraped(address: str, rounds: int, crowd: Crowd, marks: tuple[str, str] = OURS) -> Times:
    """Scrapes one after the other, over one connection; each is complete, or it is an error."""
    return by_turns((address,), rounds, crowd, marks)[0]


def by_turns(
    addresses: Sequence[str], rounds: int, crowd: Crowd, marks: tuple[str, str] = OURS
) -> list[Times]:
    """The same of several exporters by turns, so that what else the machine does hits all of them."""
    seconds: list[list[float]] = [[] for _ in addresses]
    with urllib3.PoolManager(timeout=30.0, retries=False) as pool:
        for number in range(WARM_UP + rounds):
            for address, taken in zip(addresses, seconds, strict=True):
                started = time.perf_counter()
                text = pool.request("GET", f"{address}/metrics", headers=_HEADERS).data.decode()
                if number >= WARM_UP:
                    taken.append(time.perf_counter() - started)
                    _check(text, crowd, marks)
    return [Times.of(taken) for taken in seconds]


def _check(text: str, crowd: Crowd, marks: tuple[str, str]) -> None:
    """Every worker has replied, and every queue has its message."""
    lines = text.splitlines()
    for mark, wanted in zip(marks, (crowd.workers, crowd.queues), strict=True):
        found = (
            sum(line.startswith(mark) and line.endswith(" 1.0") for line in lines)
            if mark
            else wanted
        )
        if found != wanted:
            raise click.ClickException(f"{found} of {wanted} in a scrape: {mark}")


def broadcasts(crowd: Crowd, rounds: int) -> int:
    """How many control messages the broker sees of so many rounds in which SCRAPERS scrape at once.

    Without the stream of events, which sends canaries of its own.
    """
    arguments = ("--min-interval", str(_INTERVAL), "--no-collector.tasks")
    with Exporter.of(crowd.broker, *arguments) as exporter, broadcasts_on(crowd.broker) as count:

        def scrape(_: int) -> str:
            return exporter.scrape(timeout=10).text

        for _ in range(WARM_UP):  # by then it knows the workers, and their queues for half a minute
            scrape(0)
            time.sleep(2 * _INTERVAL)
        before = count()
        with ThreadPoolExecutor(SCRAPERS) as pool:
            for _ in range(rounds):
                for text in pool.map(scrape, range(SCRAPERS)):
                    _check(text, crowd, OURS)
                time.sleep(2 * _INTERVAL)
        return count() - before
