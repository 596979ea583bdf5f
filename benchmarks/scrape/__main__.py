"""Measure and print tables: `python -m benchmarks.scrape`."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import click

from benchmarks.events.watch import cpu_seconds
from benchmarks.scrape.crowd import Crowd, crowd
from benchmarks.scrape.keys import fill, memory
from benchmarks.scrape.rounds import (
    SCRAPERS,
    WARM_UP,
    Times,
    broadcasts,
    by_turns,
    cpu_by_turns,
    scraped,
    timed,
)
from benchmarks.support.exporters import OURS, PEER, Exporter, Ours, exporter, install_peer
from benchmarks.support.servers import SERVERS, TITLES, RedisServer
from benchmarks.support.workers import publishing_app

SCENARIOS = ("cluster", "cpu", "servers", "large", "keys")
CLUSTER, LARGE = (50, 200), (500, 1000)
BURSTS = 10
CPU_TURNS = 5
KEYS = (0, 1_000_000, 10_000_000)


@contextmanager
def on(kind: str, size: tuple[int, int]) -> Iterator[Crowd]:
    """Start a crowd on a new broker."""
    with SERVERS[kind]() as server, server.namespace() as broker, crowd(broker, *size) as found:
        yield found


def inspected_by_celery(found: Crowd) -> Times:
    """Measure `inspect stats` and `inspect active_queues`."""
    with publishing_app(found.broker) as app:
        inspect = app.control.inspect()

        def inspect_all() -> None:
            if (
                len(inspect.stats() or {}) != found.workers
                or len(inspect.active_queues() or {}) != found.workers
            ):
                raise click.ClickException("a worker did not reply to Celery's inspect")

        return timed(inspect_all, 5)


def scrapes(found: Crowd, name: str, rounds: int) -> None:
    """Measure scrapes of one exporter."""
    with exporter(name, found.broker) as started:
        before = cpu_seconds(started.pid)
        times = scraped(started.address, rounds, found, name)
        spent = (cpu_seconds(started.pid) - before) / (WARM_UP + rounds)
    _row(found, name, rounds, times, f"{spent * 1000:.0f} ms")


def cpu(kinds: Sequence[str], turns: int, scrapes_of: Mapping[str, int]) -> None:
    """Compare the CPU time of a scrape; the exporters run side by side and take turns."""
    print("\n| broker | exporter | scrapes | CPU of a scrape, median | least | most | ratio |")
    print("|---|---|---|---|---|---|---|")
    for kind in kinds:
        with ExitStack() as stack:
            found = stack.enter_context(on(kind, CLUSTER))
            started = {
                name: stack.enter_context(exporter(name, found.broker)) for name in scrapes_of
            }
            times = cpu_by_turns(started, found, turns, scrapes_of)
        peer = statistics.median(times[PEER])
        for name, some in times.items():
            median = statistics.median(some)
            figures = f"{median:.1f} ms | {min(some):.1f} ms | {max(some):.1f} ms"
            count = f"{turns} x {scrapes_of[name]}"
            ratio = f"{median / peer:.2f}"
            print(f"| {TITLES[kind]} | {name} | {count} | {figures} | {ratio} |", flush=True)


def _row(found: Crowd, client: str, rounds: int, times: Times, spent: str) -> None:
    size = f"{TITLES[found.broker.kind]} | {found.workers} | {found.queues}"
    print(f"| {size} | {client} | {rounds} | {times} | {spent} |", flush=True)


def servers(kinds: Sequence[str]) -> None:
    """Measure the control messages of Prometheus servers that scrape at the same moment."""
    print("\n| broker | Prometheus servers | rounds | scrapes | control messages |")
    print("|---|---|---|---|---|")
    for kind in kinds:
        with on(kind, CLUSTER) as found:
            count = broadcasts(found, BURSTS)
            scale = f"{SCRAPERS} | {BURSTS} | {BURSTS * SCRAPERS}"
            print(f"| {TITLES[kind]} | {scale} | {count} |", flush=True)


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
        client = stack.enter_context(full.broker.client())
        present = 0
        for wanted in counts:
            fill(client, present, wanted)
            present = wanted
            with Ours(full.broker) as started, Ours(bare.broker) as other:
                first, looked = first_look(started, rounds)
                with_them, without = by_turns((started.address, other.address), rounds, full)
            p50, added = without.p50, with_them.p50 - without.p50
            scan = f"{first * 1000:.0f} ms | {looked}"
            times = f"{scan} | {p50:.1f} ms | {with_them.p50:.1f} ms | {added:.1f} ms"
            print(f"| {wanted:,} | {memory(client):.2f} GB | {times} |", flush=True)


def first_look(started: Exporter, limit: int) -> tuple[float, str]:
    """Return the duration of the first scrape, and the number of scrapes for a complete scan."""
    scrape = first = started.scrape(timeout=10)
    scanning = (("subject", "queue_discovery"),)
    for number in range(1, limit + 1):
        if scanning not in scrape.series("celery_exporter_blind_spot"):
            return first.seconds, str(number)
        scrape = started.scrape(timeout=10)
    return first.seconds, f"more than {limit}"


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
    kinds = [kind for kind in SERVERS if broker in (kind, "both")]
    if {"cluster", "cpu"} & set(scenario):
        install_peer()
    if {"cluster", "large"} & set(scenario):
        print(
            "| broker | workers | queues | client | scrapes | p50 | p95 | max | CPU of a scrape |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        if "cluster" in scenario:
            with on(kind, CLUSTER) as found:
                scrapes(found, OURS, rounds)
                scrapes(found, PEER, peer_rounds)
                _row(found, "Celery's inspect", 5, inspected_by_celery(found), "")
        if "large" in scenario:
            with on(kind, LARGE) as found:
                scrapes(found, OURS, rounds)
    if "cpu" in scenario:
        per_turn = {OURS: -(-rounds // CPU_TURNS), PEER: -(-peer_rounds // CPU_TURNS)}
        cpu(kinds, CPU_TURNS, per_turn)
    if "servers" in scenario:
        servers(kinds)
    if "keys" in scenario and "redis" in kinds:
        keys(rounds, counts)


if __name__ == "__main__":
    main()
