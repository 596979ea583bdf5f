"""A broker with idle workers, and rounds on it: start an exporter, publish, and observe it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from benchmarks.events import watch
from benchmarks.events.capture import Samples, capture
from benchmarks.events.load import HOSTS, Order, Published, publish
from benchmarks.support.exporters import Exporter, exporter
from benchmarks.support.processes import wait_for
from benchmarks.support.servers import SERVERS, Broker
from benchmarks.support.workers import Worker


@dataclass
class Outcome:
    """The measurements of one round."""

    cpu: float = 0.0
    """CPU seconds from the first event to the last."""
    published: Published = field(default_factory=Published)
    lost: int = 0
    mislabelled: int = 0
    idle: float = 0.0
    """Memory before the first event, in MB."""
    peak: float = 0.0
    reconnects: int = 0

    @property
    def cpu_per_100k(self) -> float:
        """CPU seconds per 100,000 task events."""
        return self.cpu / self.published.events * 100_000


class Bench:
    """A broker, its idle workers, and the publishing process."""

    def __init__(self, broker: Broker, pool: ProcessPoolExecutor, samples: Samples) -> None:
        self.kind = broker.kind
        self.samples = samples
        self._broker = broker
        self._pool = pool

    @classmethod
    @contextmanager
    def on(cls, kind: str) -> Iterator[Bench]:
        """Start all of them.

        The workers have no tasks, events or heartbeats: they reply to remote control, under the
        names in the load.
        """
        with ExitStack() as stack:
            broker = stack.enter_context(stack.enter_context(SERVERS[kind]()).namespace())
            samples = capture(broker)
            names = [f"w{number}@bench" for number in range(HOSTS)]
            queues = tuple(f"queue_{number}" for number in range(5))
            workers = [
                Worker(broker, "solo", name, queues=queues, heartbeat=False) for name in names
            ]
            for worker in workers:
                stack.enter_context(worker)
            for worker in workers:
                worker.wait_consuming()
            pool = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            yield cls(broker, pool, samples)

    @contextmanager
    def exporter(self, name: str) -> Iterator[Exporter]:
        """Start a new exporter and wait until it receives events."""
        with exporter(name, self._broker) as started:

            def receives() -> bool:
                self.publish()
                page = started.scrape(5.0)
                return (
                    'type="worker-heartbeat"} ' in page.text
                    or 'celery_worker_up{hostname="bench"}' in page.text
                )

            wait_for(receives, 60.0, what="events received")
            yield started

    def order(self, **what: Any) -> Order:
        """Return a description of events to publish."""
        return Order(self.kind, self._broker.url, self.samples, **what)

    def begin(self, order: Order) -> Future[Published]:
        """Start to publish."""
        return self._pool.submit(publish, order)

    def publish(self, **what: Any) -> Published:
        """Publish and wait; without arguments, only heartbeats."""
        return self.begin(self.order(**what)).result()

    def round(
        self,
        name: str,
        work: Callable[[Exporter], Published],
        also: Callable[[Exporter], None] | None = None,
    ) -> Outcome:
        """Start a new exporter, call `work` to publish, and `also` before the exporter ends."""
        with self.exporter(name) as started:
            pid = started.pid
            watch.wait_quiet(pid)
            idle, before, breaks = watch.memory(pid), watch.cpu_seconds(pid), _breaks(started)
            published = work(started)
            watch.wait_quiet(pid)
            cpu, peak = watch.cpu_seconds(pid) - before, watch.peak_memory(pid)
            found = watch.counted(started.scrape())
            outcome = Outcome(
                cpu, published, idle=idle, peak=peak, reconnects=_breaks(started) - breaks
            )
            outcome.lost = published.events - found.total()
            outcome.mislabelled = wrong(published.counts, found)
            if also is not None:
                also(started)
            return outcome


def wrong(published: Counter[tuple[str, str, str]], found: Counter[tuple[str, str, str]]) -> int:
    """Return the number of events counted under wrong labels."""
    return (found - published).total()


def _breaks(exporter: Exporter) -> int:
    """Return how often it lost its connection, according to its log."""
    return exporter.log.count("event stream failed") + exporter.log.count(
        "celery-exporter exception"
    )
