"""The scenarios; each prints a table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from benchmarks.events import watch
from benchmarks.events.bench import Bench, Outcome
from benchmarks.events.load import Published
from benchmarks.support.exporters import OURS, PEER, Exporter
from benchmarks.support.servers import TITLES

EVENTS_PER_TASK = 4
DEADLINE = 5.0
"""Scrape timeout in seconds, as in the header that Prometheus sends."""


def table(title: str, columns: Sequence[str]) -> None:
    """Print the head of a table."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)


def line(*cells: object) -> None:
    """Print a line of a table."""
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def _median(outcomes: Sequence[Outcome], what: Callable[[Outcome], float]) -> float:
    return statistics.median(map(what, outcomes))


def cpu(benches: Sequence[Bench], rounds: int, events: int, rate: float) -> None:
    """Measure CPU time at a rate that both exporters can process."""
    table(
        f"CPU: {events:,} events at {rate:,.0f} per second",
        (
            "broker",
            "exporter",
            "CPU s per 100,000 events",
            "ratio",
            "events per second and core",
            "lost",
            "mislabelled",
            "peak memory",
        ),
    )
    for bench in benches:

        def work(_: Exporter, bench: Bench = bench) -> Published:
            return bench.publish(tasks=events // EVENTS_PER_TASK, rate=rate)

        found: dict[str, list[Outcome]] = {OURS: [], PEER: []}
        for _ in range(rounds):
            for which, outcomes in found.items():
                outcomes.append(bench.round(which, work))
        peers = _median(found[PEER], lambda one: one.cpu_per_100k)
        for which, outcomes in found.items():
            seconds = _median(outcomes, lambda one: one.cpu_per_100k)
            line(
                TITLES[bench.kind],
                which,
                f"{seconds:.2f}",
                "1" if which == PEER else f"1/{peers / seconds:.1f}",
                f"{100_000 / seconds:,.0f}",
                *_counts(outcomes),
            )


def _counts(outcomes: Sequence[Outcome]) -> tuple[str, str, str]:
    lost, mislabelled = (
        int(_median(outcomes, what)) for what in (lambda one: one.lost, lambda one: one.mislabelled)
    )
    return f"{lost:,}", f"{mislabelled:,}", f"{max(one.peak for one in outcomes):.0f} MB"


def rate(
    benches: Sequence[Bench], rounds: int, rates: dict[str, float], seconds: float, peer: bool
) -> None:
    """Measure a rate above the capacity of the peer, with concurrent scrapes."""
    table(
        f"Rate: for {seconds:g} s, with a scrape every second",
        (
            "broker",
            "exporter",
            "published per second",
            "lost",
            "mislabelled",
            "disconnected",
            "scrapes: p50, longest",
            "not answered",
            "CPU s per 100,000 events",
            "peak memory",
        ),
    )
    for bench in benches:
        for which in (OURS, PEER) if peer else (OURS,):
            scrapers: list[watch.Scraper] = []

            def work(
                exporter: Exporter,
                bench: Bench = bench,
                scrapers: list[watch.Scraper] = scrapers,
            ) -> Published:
                events = rates[bench.kind] * seconds
                with watch.Scraper(exporter, DEADLINE) as scraper:
                    scrapers.append(scraper)
                    return bench.publish(
                        tasks=int(events / EVENTS_PER_TASK), rate=rates[bench.kind]
                    )

            outcomes = [bench.round(which, work) for _ in range(rounds)]
            times = [one for scraper in scrapers for one in scraper.seconds]
            reached = min(one.published.events / one.published.seconds for one in outcomes)
            lost, mislabelled, peak = _counts(outcomes)
            line(
                TITLES[bench.kind],
                which,
                f"{reached:,.0f}",
                lost,
                mislabelled,
                sum(one.reconnects for one in outcomes),
                f"{statistics.median(times) * 1000:.0f} ms, {max(times) * 1000:.0f} ms",
                sum(scraper.failed for scraper in scrapers),
                f"{_median(outcomes, lambda one: one.cpu_per_100k):.2f}",
                peak,
            )


def flood(bench: Bench, events: int) -> None:
    """Publish at the maximum rate; Redis disconnects a subscriber that falls behind."""
    table(
        f"Flood: {events:,} events at the maximum rate, on Redis",
        (
            "exporter",
            "published per second",
            "counted",
            "starts without an event",
            "counted as missed",
            "recovered after",
            "disconnected",
            "memory before",
            "peak memory",
        ),
    )
    for which in (OURS, PEER):
        missed: list[str] = []
        recovered: list[float] = []

        def work(exporter: Exporter, recovered: list[float] = recovered) -> Published:
            published = bench.publish(tasks=events // EVENTS_PER_TASK)
            ended = time.monotonic()
            while "probe." not in exporter.scrape(DEADLINE).text:
                bench.publish(probe=f"probe.{len(recovered)}", processed=published.processed)
                time.sleep(0.2)
                if time.monotonic() - ended > 120:
                    raise RuntimeError(f"{exporter.address} does not recover")
            recovered.append(time.monotonic() - ended)
            for _ in range(4):
                bench.publish(processed=published.processed)
                time.sleep(0.3)
            return published

        def also(exporter: Exporter, missed: list[str] = missed) -> None:
            page = exporter.scrape()
            starts = sum(n for (kind, _, _), n in watch.counted(page).items() if kind == "started")
            values = [
                value
                for labels, value in page.series("celery_exporter_events_missed_total").items()
                if ("event", "start") in labels
            ]
            missed += [
                f"{events // EVENTS_PER_TASK - starts:,}",
                f"{sum(values):,.0f}" if values else "never",
            ]

        one = bench.round(which, work, also)
        line(
            which,
            f"{one.published.events / one.published.seconds:,.0f}",
            f"{max(0, one.published.events - one.lost) / one.published.events:.1%}",
            *missed,
            f"{recovered[0]:.1f} s",
            one.reconnects,
            f"{one.idle:.0f} MB",
            f"{one.peak:.0f} MB",
        )


def flight(bench: Bench, tasks: int, rate: float) -> None:
    """Publish all task-sent events before the first task is received."""
    table(
        f"Flight: {tasks:,} tasks sent, then run; {rate:,.0f} events per second, on Redis",
        ("exporter", "memory before", "with all in flight", "growth", "lost", "mislabelled"),
    )
    for which in (OURS, PEER):
        grown: list[float] = []

        def work(exporter: Exporter, grown: list[float] = grown) -> Published:
            sent = bench.publish(tasks=tasks, rate=rate, ran=False)
            watch.wait_quiet(exporter.pid)
            grown.append(watch.memory(exporter.pid))
            ran = bench.publish(tasks=tasks, rate=rate, sent=False)
            return Published(sent.counts + ran.counts, ran.processed, sent.seconds + ran.seconds)

        one = bench.round(which, work)
        line(
            which,
            f"{one.idle:.0f} MB",
            f"{grown[0]:.0f} MB",
            f"{grown[0] - one.idle:.0f} MB",
            f"{one.lost:,}",
            f"{one.mislabelled:,}",
        )


def churn(bench: Bench, events: int, rate: float) -> None:
    """Replace the names of tasks, workers and exceptions continuously."""
    table(
        f"Churn: {events:,} events at {rate:,.0f} per second with new names, on Redis",
        ("events", "memory", "series", "lost so far"),
    )
    tasks, pieces = events // EVENTS_PER_TASK, 10
    with bench.exporter(OURS) as exporter:
        seen = Published()
        for piece in range(pieces):
            some = bench.publish(
                first=tasks * piece // pieces,
                tasks=tasks // pieces,
                rate=rate,
                mix="churning",
                processed=seen.processed,
            )
            seen = Published(seen.counts + some.counts, some.processed)
            watch.wait_quiet(exporter.pid)
            page = exporter.scrape()
            series = page.text.count("\n") - page.text.count("\n#")
            found = watch.counted(page).total()
            line(
                f"{seen.events:,}",
                f"{watch.memory(exporter.pid):.0f} MB",
                f"{series:,}",
                f"{seen.events - found:,}",
            )
