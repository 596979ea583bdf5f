"""How long a scrape of a healthy cluster takes: four real workers, one of each pool, on Redis and on RabbitMQ.

Beside it, in the same run, what Celery's own `inspect` takes for the same two questions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import click
import urllib3
from tests.exporter import Exporter
from tests.servers import Broker, Publisher, RabbitMQServer, RedisServer, Worker

POOLS = {"prefork": 2, "threads": 4, "gevent": 8, "solo": 1}
SERVERS: dict[str, type[RedisServer | RabbitMQServer]] = {"Redis": RedisServer, "RabbitMQ": RabbitMQServer}
INSPECT_ROUNDS = 5


def timed(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median and 95th percentile, in milliseconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times), statistics.quantiles(times, n=20)[-1]


def measure(broker: Broker, rounds: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """A scrape, and Celery's inspect."""
    with ExitStack() as stack:
        workers = [Worker(broker, pool, queues=("celery", pool), concurrency=n) for pool, n in POOLS.items()]
        for worker in workers:
            stack.callback(worker.close)
            worker.launch()
        for worker in workers:
            worker.wait_ready()
        exporter = stack.enter_context(Exporter.of(broker))
        pool = stack.enter_context(urllib3.PoolManager())
        publisher = stack.enter_context(Publisher(broker))
        inspect = publisher.app.control.inspect()

        def ask() -> None:
            if len(inspect.stats() or {}) != len(POOLS) or len(inspect.active_queues() or {}) != len(POOLS):
                raise click.ClickException("a worker did not answer Celery's inspect")

        def scrape() -> None:
            answer = pool.request("GET", f"{exporter.address}/metrics")
            if answer.data.count(b"celery_worker_replied{") != len(POOLS):
                raise click.ClickException("a worker is missing in a scrape")

        for _ in range(3):
            exporter.scrape()
        return timed(scrape, rounds), timed(ask, INSPECT_ROUNDS)


@click.command()
@click.option("--rounds", default=300, show_default=True, help="Number of scrapes.")
def main(rounds: int) -> None:
    """Measure and print a table."""
    print("| broker | scrape p50 | scrape p95 | Celery's inspect p50 |")
    print("|---|---|---|---|")
    for name, kind in SERVERS.items():
        with kind() as server, server.namespace() as broker:
            (p50, p95), (inspect, _) = measure(broker, rounds)
            print(f"| {name} | {p50:.1f} ms | {p95:.1f} ms | {inspect:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
