"""Each scenario on one broker: runs it, prints its table, returns what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.servers import Broker

from .compare import books, check_counters, undecided
from .farm import Kind
from .quiet import (
    DEPLOY_KINDS,
    DRAIN_TIMEOUT,
    RETRY_KINDS,
    deploys,
    killed_while_draining,
    retries_and_etas,
)
from .torture import Scene, healthy, scene, torture
from .visibility import KINDS, TIMEOUT, visibility_timeout

HOUR = 3600.0


@dataclass(frozen=True)
class Size:
    """How much is run."""

    tasks: int
    kills: int
    restarts: int
    minutes: float
    """Of the healthy phase after the kills."""
    retries: int
    visibility_runs: int


SHORT = Size(600, 6, 0, 0.1, 500, 1)
LONG = Size(100_000, 180, 20, 2.0, 50_000, 20)


def run_torture(broker: Broker, size: Size, seed: int) -> list[str]:
    """Kills and restarts, then a healthy phase."""
    with scene(broker, seed) as one:
        torture(one, size.tasks, size.kills, size.restarts)
        wrong = _report(one)
        one.wrong.clear()
        new = healthy(one, size.minutes * 60.0)
        wrong += one.wrong
        print(f"healthy for {size.minutes:g} minutes: {dict(new) or 'no case'}", flush=True)
        return wrong + [f"{count} new cases {kind} while healthy" for kind, count in new.items()]


def run_retries(broker: Broker, size: Size, seed: int) -> list[str]:
    """Retries and ETAs."""
    with scene(broker, seed, kinds=RETRY_KINDS, visibility_timeout=HOUR) as one:
        retries_and_etas(one, size.retries)
        return _report(one, quiet=True)


def run_deploys(broker: Broker, size: Size, seed: int) -> list[str]:
    """Warm shutdowns, replaced pool processes, autoscaling, terminated tasks."""
    arguments = ("--worker-drain-timeout", f"{DRAIN_TIMEOUT:g}")
    with scene(broker, seed, *arguments, kinds=DEPLOY_KINDS, visibility_timeout=HOUR) as one:
        deploys(one)
        return _report(one, quiet=True)


def run_draining(broker: Broker, size: Size, seed: int) -> list[str]:
    """A warm shutdown that ends with SIGKILL."""
    arguments = ("--worker-drain-timeout", f"{DRAIN_TIMEOUT:g}")
    with scene(broker, seed, *arguments, kinds=(Kind("prefork", 2),)) as one:
        killed_while_draining(one, one.farm.members[0])
        return []


def run_visibility(broker: Broker, size: Size, seed: int) -> list[str]:
    """Tasks that take longer than the visibility timeout, which only Redis has."""
    wrong: list[str] = []
    if broker.kind != "redis":
        return wrong
    for number in range(size.visibility_runs):
        with scene(broker, seed + number, kinds=KINDS, visibility_timeout=TIMEOUT) as one:
            wrong += visibility_timeout(one)
            print(one.compared().table(), flush=True)
    return wrong


SCENARIOS: dict[str, Callable[[Broker, Size, int], list[str]]] = {
    "torture": run_torture,
    "retries": run_retries,
    "deploys": run_deploys,
    "draining": run_draining,
    "visibility": run_visibility,
}


def _report(one: Scene, quiet: bool = False) -> list[str]:
    """Print the table; return what is wrong."""
    comparison = one.compared()
    print(dict(one.done))
    print(comparison.table())
    print(" ".join(f"{name} {value:g}" for name, value in books(one.observer).items()), flush=True)
    wrong = [*one.wrong, *comparison.wrong, *check_counters(one.observer)]
    if one.wrong:
        wrong += undecided(one.truths(), one.observer.cases)
    if quiet:
        wrong += [f"{case.kind}: {case.uuid}, {case.evidence}" for case in one.observer.cases]
    return wrong
