"""Measure and print tables: `python -m benchmarks.events`."""

from __future__ import annotations

from contextlib import ExitStack

import click

from benchmarks.events import scenarios
from benchmarks.events.bench import Bench
from benchmarks.support.exporters import install_peer

SCENARIOS = ("cpu", "rate", "flood", "flight", "churn")
MODERATE = 6000.0
RATES = {"redis": 50_000.0, "rabbitmq": 40_000.0}
CHURN_RATE = 30_000.0


@click.command()
@click.option(
    "--broker", type=click.Choice(["redis", "rabbitmq", "both"]), default="both", show_default=True
)
@click.option(
    "--scenario", type=click.Choice(SCENARIOS), multiple=True, default=SCENARIOS, show_default=True
)
@click.option(
    "--rounds",
    default=3,
    show_default=True,
    help="Rounds of cpu and rate, of which the median is shown.",
)
@click.option("--events", default=100_000, show_default=True, help="Events per round of cpu.")
@click.option("--seconds", default=10.0, show_default=True, help="Duration of a round of rate.")
@click.option(
    "--peer/--no-peer",
    "with_peer",
    default=True,
    show_default=True,
    help="Whether rate also measures the peer.",
)
@click.option(
    "--flood-events", default=1_000_000, show_default=True, help="Number of events of flood."
)
@click.option(
    "--flight-tasks", default=100_000, show_default=True, help="Number of tasks of flight."
)
@click.option(
    "--churn-events", default=10_000_000, show_default=True, help="Number of events of churn."
)
def main(
    broker: str,
    scenario: tuple[str, ...],
    rounds: int,
    events: int,
    seconds: float,
    with_peer: bool,
    flood_events: int,
    flight_tasks: int,
    churn_events: int,
) -> None:
    """Measure and print a table for each scenario; flood, flight and churn run on Redis only."""
    install_peer()
    with ExitStack() as stack:
        benches = {
            kind: stack.enter_context(Bench.on(kind))
            for kind in ("redis", "rabbitmq")
            if broker in (kind, "both")
        }
        everywhere, redis = list(benches.values()), benches.get("redis")
        if "cpu" in scenario:
            scenarios.cpu(everywhere, rounds, events, MODERATE)
        if "rate" in scenario:
            scenarios.rate(everywhere, rounds, RATES, seconds, with_peer)
        if redis and "flood" in scenario:
            scenarios.flood(redis, flood_events)
        if redis and "flight" in scenario:
            scenarios.flight(redis, flight_tasks, MODERATE)
        if redis and "churn" in scenario:
            scenarios.churn(redis, churn_events, CHURN_RATE)


if __name__ == "__main__":
    main()
