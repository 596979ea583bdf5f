"""Measure and print tables: `python -m benchmarks.scrape`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import click
from tests.support.exporter import Exporter
from tests.support.servers import Publisher, RabbitMQServer, RedisServer

from benchmarks.events.peer import Peer, install
from benchmarks.events.watch import Exporter as Watched
from benchmarks.events.watch import cpu_seconds
from benchmarks.scrape.crowd import Crowd, crowd
from benchmarks.scrape.keys import fill, memory
from benchmarks.scrape.rounds import (
    OURS,
    PEERS,
    SCRAPERS,
    WARM_UP,
    Times,
    broadcasts,
    by_turns,
    scraped,
    timed,
)

SERVERS: dict[str, type[RedisServer | RabbitMQServer]] = {
    "Redis": RedisServer,
    "RabbitMQ": RabbitMQServer,
}
SCENARIOS = ("cluster", "servers", "large", "keys")
CLUSTER, LARGE = (50, 200), (500, 1000)
BURSTS = 10
KEYS = (0, 1_000_000, 10_000_000)


@contextmanager
def on(name: str, size: tuple[int, int]) -> Iterator[Crowd]:
    """Start a crowd on a new broker."""
    with SERVERS[name]() as server, server.namespace() as broker, crowd(broker, *size) as found:
        yield found


def inspected_by_celery(found: Crowd) -> Times:
    """Measure `inspect stats` and `inspect active_queues`."""
    with Publisher(found.broker) as publisher:
        inspect = publisher.app.control.inspect()

        def inspect_all() -> None:
            if (
                len(inspect.stats() or {}) != found.workers
                or len(inspect.active_queues() or {}) != found.workers
            ):
                raise click.ClickException("a worker did not reply to Celery's inspect")

        return timed(inspect_all, 5)


def scrapes(found: Crowd, name: str, rounds: int) -> None:
    """Measure celery-vitals."""
    with Exporter.of(found.broker) as exporter:
        _row(found, name, "celery-vitals", rounds, *_with_cpu(exporter, rounds, found, OURS))


def peers(found: Crowd, name: str, rounds: int) -> None:
    """Measure the same scrape of the peer, and the same two commands sent by Celery."""
    with Peer(found.broker) as peer:
        _row(
            found,
            name,
            "prometheus-exporter-celery",
            rounds,
            *_with_cpu(peer, rounds, found, PEERS),
        )
    _row(found, name, "Celery's inspect", 5, inspected_by_celery(found), "")


def _with_cpu(
    exporter: Watched, rounds: int, found: Crowd, marks: tuple[str, str]
) -> tuple[Times, str]:
    """Return scrape durations, and the CPU time of the exporter's process per scrape."""
    before = cpu_seconds(exporter.pid)
    times = scraped(exporter.address, rounds, found, marks)
    return times, f"{(cpu_seconds(exporter.pid) - before) / (WARM_UP + rounds) * 1000:.0f} ms"


def _row(found: Crowd, name: str, who: str, rounds: int, times: Times, cpu: str) -> None:
    print(
        f"| {name} | {found.workers} | {found.queues} | {who} | {rounds} | {times} | {cpu} |",
        flush=True,
    )


def servers(names: Sequence[str]) -> None:
    """Measure the control messages of Prometheus servers that scrape at the same moment."""
    print("\n| broker | Prometheus servers | rounds | scrapes | control messages |")
    print("|---|---|---|---|---|")
    for name in names:
        with on(name, CLUSTER) as found:
            count = broadcasts(found, BURSTS)
            print(f"| {name} | {SCRAPERS} | {BURSTS} | {BURSTS * SCRAPERS} | {count} |", flush=True)


def keys(rounds: int, counts: Sequence[int]) -> None:
    """Compare two clusters on one Redis, one of them in a database with many unrelated keys."""
    print(
        "\n| other keys | memory of Redis | first scrape | scrapes until all queues were found"
        " | p50 without them | p50 | difference |"
    )
    print("|---|---|---|---|---|---|---|")
    with RedisServer() as server, ExitStack() as stack:
        full, bare = (
            stack.enter_context(crowd(stack.enter_context(server.namespace()), *CLUSTER))
            for _ in range(2)
        )
        client = stack.enter_context(server.client(int(full.broker.namespace)))
        present = 0
        for wanted in counts:
            fill(client, present, wanted)
            present = wanted
            with Exporter.of(full.broker) as exporter, Exporter.of(bare.broker) as other:
                first, looked = first_look(exporter, rounds)
                with_them, without = by_turns((exporter.address, other.address), rounds, full)
            p50, added = without.p50, with_them.p50 - without.p50
            scan = f"{first * 1000:.0f} ms | {looked}"
            times = f"{scan} | {p50:.1f} ms | {with_them.p50:.1f} ms | {added:.1f} ms"
            print(f"| {wanted:,} | {memory(client):.2f} GB | {times} |", flush=True)


def first_look(exporter: Exporter, most: int) -> tuple[float, str]:
    """Return the duration of the first scrape, and the number of scrapes for a complete scan."""
    scrape = first = exporter.scrape(timeout=10)
    for number in range(1, most + 1):
        if scrape.value("celery_exporter_blind_spot", subject="queue_discovery") is None:
            return first.seconds, str(number)
        scrape = exporter.scrape(timeout=10)
    return first.seconds, f"more than {most}"


@click.command()
@click.option(
    "--broker", type=click.Choice(["redis", "rabbitmq", "both"]), default="both", show_default=True
)
@click.option(
    "--scenario", type=click.Choice(SCENARIOS), multiple=True, default=SCENARIOS, show_default=True
)
@click.option("--rounds", default=200, show_default=True, help="Number of scrapes.")
@click.option(
    "--peer-rounds",
    default=20,
    show_default=True,
    help="Number of scrapes of the peer, each of which takes two seconds.",
)
@click.option(
    "--keys",
    "counts",
    type=int,
    multiple=True,
    default=KEYS,
    show_default=True,
    help="Number of unrelated keys.",
)
def main(
    broker: str, scenario: tuple[str, ...], rounds: int, peer_rounds: int, counts: tuple[int, ...]
) -> None:
    """Measure and print a table for each scenario."""
    names = [name for name in SERVERS if broker in (name.lower(), "both")]
    if "cluster" in scenario:
        install()
    if {"cluster", "large"} & set(scenario):
        print(
            "| broker | workers | queues | client | scrapes | p50 | p95 | max | CPU of a scrape |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        if "cluster" in scenario:
            with on(name, CLUSTER) as found:
                scrapes(found, name, rounds)
                peers(found, name, peer_rounds)
        if "large" in scenario:
            with on(name, LARGE) as found:
                scrapes(found, name, rounds)
    if "servers" in scenario:
        servers(names)
    if "keys" in scenario and "Redis" in names:
        keys(rounds, counts)


if __name__ == "__main__":
    main()
