"""One broker with workers that answer, and rounds on it: an exporter is started, fed, and looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from tests.support.exporter import Exporter as Ours
from tests.support.servers import Broker, RabbitMQServer, RedisServer, Worker, wait_for

from benchmarks.events import watch
from benchmarks.events.capture import Samples, capture
from benchmarks.events.load import HOSTS, Order, Published, publish
from benchmarks.events.peer import Peer

SERVERS: dict[str, type[RedisServer | RabbitMQServer]] = {
    "redis": RedisServer,
    "rabbitmq": RabbitMQServer,
}
TITLES = {"redis": "Redis", "rabbitmq": "RabbitMQ"}
OURS, PEER = "celery-vitals", "prometheus-exporter-celery"


@dataclass
class Outcome:
    """What one round showed."""

    cpu: float = 0.0
    """CPU seconds, from the first event to the last."""
    published: Published = field(default_factory=Published)
    lost: int = 0
    mislabelled: int = 0
    idle: float = 0.0
    """MB of memory before the first event."""
    peak: float = 0.0
    reconnects: int = 0

    @property
    def cpu_per_100k(self) -> float:
        """CPU seconds for 100,000 task events."""
        return self.cpu / self.published.events * 100_000


class Bench:
    """A broker, its stand-by workers, and the process that publishes."""

    def __init__(self, broker: Broker, pool: ProcessPoolExecutor, samples: Samples) -> None:
        self.kind = broker.kind
        self.samples = samples
        self._broker = broker
        self._pool = pool

    @classmethod
    @contextmanager
    def on(cls, kind: str) -> Iterator[Bench]:
        """Start it all.  The workers have no tasks, no events and no heartbeats: they answer control commands, under
        the names that the load has."""
        with ExitStack() as stack:
            broker = stack.enter_context(stack.enter_context(SERVERS[kind]()).namespace())
            samples = capture(broker)
            names = [f"w{number}@bench" for number in range(HOSTS)]
            queues = tuple(f"queue_{number}" for number in range(5))
            workers = [
                Worker(broker, "solo", name, queues=queues, heartbeat=False) for name in names
            ]
            for worker in workers:
                stack.callback(worker.close)
                worker.launch()
            for worker in workers:
                worker.wait_ready()
            pool = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            yield cls(broker, pool, samples)

    @contextmanager
    def exporter(self, which: str) -> Iterator[watch.Exporter]:
        """A new exporter that hears."""
        with Ours.of(self._broker) if which == OURS else Peer(self._broker) as exporter:

            def hears() -> bool:
                self.publish()
                page = watch.scrape(exporter, 5.0)
                return (
                    'type="worker-heartbeat"} ' in page.text
                    or 'celery_worker_up{hostname="bench"}' in page.text
                )

            wait_for(hears, 60.0, what="events heard")
            yield exporter

    def order(self, **what: Any) -> Order:
        """Something to publish."""
        return Order(self.kind, self._broker.url, self.samples, **what)

    def begin(self, order: Order) -> Future[Published]:
        """Begin to publish."""
        return self._pool.submit(publish, order)

    def publish(self, **what: Any) -> Published:
        """Publish and wait; without arguments, the heartbeats alone."""
        return self.begin(self.order(**what)).result()

    def round(
        self,
        which: str,
        work: Callable[[watch.Exporter], Published],
        also: Callable[[watch.Exporter], None] | None = None,
    ) -> Outcome:
        """A new exporter, to which `work` publishes; `also` is a last look at it."""
        with self.exporter(which) as exporter:
            pid = exporter.pid
            watch.wait_quiet(pid)
            idle, before, breaks = watch.memory(pid), watch.cpu_seconds(pid), _breaks(exporter)
            published = work(exporter)
            watch.wait_quiet(pid)
            cpu, peak = watch.cpu_seconds(pid) - before, watch.peak_memory(pid)
            found = watch.counted(watch.scrape(exporter))
            outcome = Outcome(
                cpu, published, idle=idle, peak=peak, reconnects=_breaks(exporter) - breaks
            )
            outcome.lost = published.events - found.total()
            outcome.mislabelled = wrong(published.counts, found)
            if also is not None:
                also(exporter)
            return outcome


def wrong(published: Counter[tuple[str, str, str]], found: Counter[tuple[str, str, str]]) -> int:
    """How many events were counted under labels that they did not have."""
    return (found - published).total()


def _breaks(exporter: watch.Exporter) -> int:
    """How often it lost its connection, by what it wrote."""
    return exporter.log.count("event stream failed") + exporter.log.count(
        "celery-exporter exception"
    )
