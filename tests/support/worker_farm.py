"""Simulated workers and queues for unit tests of the registry, and a clock that a test advances."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from celery_vitals.workers.registered_tasks import RegisteredTask
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.stall_detection import IDLE_FOR, OBSERVATIONS, UNCONSUMED_FOR
from celery_vitals.workers.state import State
from celery_vitals.workers.worker import Worker

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
    """The clocks of `time`, advanced by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "time", lambda: self.now + 1e9)

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Counts:
    """The broker's statistics of a queue."""

    ready: int | None = 0
    unacked: int | None = 0
    consumers: int | None = None


class Farm:
    """A registry of workers, and the replies, heartbeats and observations of each scrape."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.registry = WorkerRegistry(TIMEOUT, 3600.0)

    def add(self, name: str = W, *queues: str, body: Any = PREFORK, active: int | None = 0) -> None:
        """Add a worker that replies, sends a heartbeat and consumes these queues (default: `q`)."""
        self.round(name, body=body)
        self.registry.queues_replied(name, [{"name": queue} for queue in queues or ("q",)])
        if active is not None:
            self.heartbeat(name, active)

    def round(self, *names: str, body: Any = PREFORK, silent: int | None = None) -> None:
        """Run a round to which these workers reply and `silent` mailboxes do not."""
        queues = {
            name: self.registry.queues_of(name)
            for name in self.registry.with_stale_queues() & set(names)
        }
        limits = self.registry.with_missing_rate_limits() & set(names)
        self.registry.begin_round(self.clock.now)
        for name in names:
            self.registry.stats_replied(name, body, 0.01, False)
        for name, consumed in queues.items():
            self.registry.queues_replied(name, [{"name": queue} for queue in consumed or ()])
        for name in limits:
            self.registry.rate_limits_replied(name, [RegisteredTask(False, 3)])
        self.registry.end_round(silent)

    def heartbeat(
        self,
        name: str = W,
        active: int | None = 0,
        processed: int | None = 5,
        pid: int | None = 100,
    ) -> None:
        """Send a heartbeat."""
        self.registry.heartbeat(name, "5.7.0", active, processed, pid)

    def observe(self, **queues: Counts) -> None:
        """Observe the queues with these statistics."""
        self.registry.observe_queues(queues)

    def worker(self, name: str = W) -> Worker:
        return next(worker for worker in self.registry.workers() if worker.name == name)

    def state(self, name: str = W) -> State:
        return self.registry.state(self.worker(name))

    def scrape(
        self,
        *queues: Counts,
        rounds: int = 1,
        name: str = W,
        active: int | None = 0,
        body: Any = PREFORK,
    ) -> list[State]:
        """Scrape a worker that replies and sends heartbeats, once for each of the statistics of
        its queue `q`; return the state after each scrape."""
        states = []
        for counts in queues * rounds:
            self.clock.advance(STEP)
            self.round(name, body=body)
            if active is not None:
                self.heartbeat(name, active, sum(body["total"].values()), body["pid"])
            self.observe(q=counts)
            states.append(self.state(name))
        return states


CONFIRMED_AFTER = int(max(IDLE_FOR, UNCONSUMED_FOR) // STEP + OBSERVATIONS)
"""Scrapes after which any suspicion is confirmed."""
