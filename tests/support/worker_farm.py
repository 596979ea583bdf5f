"""Workers that only exist as what they say, a broker that only exists as its numbers, and a clock that a test moves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from celery_vitals.workers import State, Worker, WorkerRegistry
from celery_vitals.workers.stall_detection import IDLE_FOR, OBSERVATIONS, UNCONSUMED_FOR

PREFORK: dict[str, Any] = {
    "total": {"project.add": 3, "project.fail": 2},
    "pid": 100,
    "uptime": 60,
    "prefetch_count": 8,
    "pool": {
        "implementation": "celery.concurrency.prefork:TaskPool",
        "max-concurrency": 2,
        "processes": [101, 102],
    },
    "rusage": {"utime": 0.5, "stime": 0.25, "maxrss": 1000},
}
SOLO = {
    **PREFORK,
    "pool": {"implementation": "celery.concurrency.solo:TaskPool", "max-concurrency": 1},
}
TIMEOUT = 120.0
STEP = 15.0
"""Seconds between two scrapes."""
W = "w@host"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "time", lambda: self.now + 1e9)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Numbers:
    """What a broker says of a queue."""

    ready: int | None = 0
    unacked: int | None = 0
    consumers: int | None = None


class Farm:
    """A fleet, and what happens to it between two scrapes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.registry = WorkerRegistry(TIMEOUT, 3600.0)

    def joins(
        self, name: str = W, *queues: str, body: Any = PREFORK, active: int | None = 0
    ) -> None:
        """A worker that answers, beats its heart and consumes these queues (`q` when none is given)."""
        self.round(name, body=body)
        self.registry.queues_replied(name, [{"name": queue} for queue in queues or ("q",)])
        if active is not None:
            self.beats(name, active)

    def round(self, *names: str, body: Any = PREFORK, silent: int | None = None) -> None:
        """They are asked, and these answer `stats`, and what else is asked of them."""
        queues = {
            name: self.registry.queues_of(name)
            for name in self.registry.queues_wanted() & set(names)
        }
        limits = self.registry.limits_wanted() & set(names)
        self.registry.begin_round(self.clock.now)
        for name in names:
            self.registry.stats_replied(name, body, 0.01, False)
        for name, consumed in queues.items():
            self.registry.queues_replied(name, [{"name": queue} for queue in consumed or ()])
        for name in limits:
            self.registry.limits_replied(name, ["project.add"])
        self.registry.end_round(silent)

    def beats(
        self,
        name: str = W,
        active: int | None = 0,
        processed: int | None = 5,
        pid: int | None = 100,
    ) -> None:
        """A heartbeat."""
        self.registry.heartbeat(name, "5.7.0", active, processed, pid)

    def looks(self, **queues: Numbers) -> None:
        """The broker tells of its queues."""
        self.registry.saw_queues(queues)

    def worker(self, name: str = W) -> Worker:
        return next(worker for worker in self.registry.workers() if worker.name == name)

    def state(self, name: str = W) -> State:
        return self.registry.state(self.worker(name))

    def goes_on(
        self,
        *queues: Numbers,
        rounds: int = 1,
        name: str = W,
        active: int | None = 0,
        body: Any = PREFORK,
    ) -> list[State]:
        """Scrapes of a worker that answers and beats its heart, while its queue `q` has these numbers, one after the
        other; the state after each."""
        states = []
        for numbers in queues * rounds:
            self.clock.pass_by(STEP)
            self.round(name, body=body)
            if active is not None:
                self.beats(name, active, sum(body["total"].values()), body["pid"])
            self.looks(q=numbers)
            states.append(self.state(name))
        return states


PATIENCE = int(max(IDLE_FOR, UNCONSUMED_FOR) // STEP + OBSERVATIONS)
"""Scrapes after which any doubt has lasted long enough."""
