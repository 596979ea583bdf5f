"""The workers, as far as they have been heard of: who is expected to answer, who is up, what each one last said."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from celery_vitals.metric import label_text
from celery_vitals.space import OTHER

_QUIET_AFTER = 3
"""Rounds without an answer after which a worker no longer holds up the others."""
_QUEUES_FRESH = 30.0
"""Seconds for which a worker's answer to `active_queues` is good."""
_KILOBYTE = 1024
_HUGE = 2**63
_TASKS = 1000
"""Task names of one worker that are told apart: `shadow` names may be without end."""


@dataclass(frozen=True)
class Stats:
    """What is used of a worker's reply to `stats`; None where it says nothing or nonsense."""

    pool: str
    slots: int | None
    prefetch: int | None
    pid: int | None
    uptime: float | None
    accepted: Mapping[str, int]
    cpu_user: float | None
    cpu_system: float | None
    max_resident: float | None
    """Bytes."""

    @classmethod
    def parse(cls, body: Any) -> Stats | None:
        """From the reply's body; None when it is not a reply to `stats`."""
        if not isinstance(body, dict) or not isinstance(body.get("pool"), dict):
            return None
        pool = body["pool"]
        usage = body["rusage"] if isinstance(body.get("rusage"), dict) else {}
        resident = _number(usage.get("maxrss"))
        return cls(
            pool=_pool_name(pool.get("implementation")),
            slots=_slots(pool),
            prefetch=_whole(body.get("prefetch_count")),
            pid=_whole(body.get("pid")),
            uptime=_number(body.get("uptime")),
            accepted=_counts(body.get("total")),
            cpu_user=_number(usage.get("utime")),
            cpu_system=_number(usage.get("stime")),
            max_resident=resident * _KILOBYTE if resident is not None else None,
        )


@dataclass(frozen=True)
class Worker:
    """One worker, known by its full node name."""

    name: str
    seen: float
    """Monotonic time at which it was last heard of."""
    seen_at: float
    """The same in Unix time."""
    replied_at: float | None = None
    """Unix time of its last answer to remote control."""
    replied: bool = False
    """Whether it answered in the last round."""
    reply_seconds: float | None = None
    silent_rounds: int = 0
    stats: Stats | None = None
    started_at: float | None = None
    """Unix time, taken once per process: a worker tells its uptime in whole seconds only."""
    heartbeat_at: float | None = None
    """Unix time of its last heartbeat; None where it has sent none."""
    offline: bool = False
    """Whether it has said that it goes, and nothing since."""
    active: int | None = None
    """Tasks that it runs, by its last heartbeat."""
    version: str = ""
    """Of its Celery, by its heartbeats."""
    down_since: float | None = None
    """Monotonic time of the first round in which it was down: from then on it is shown as down, and then forgotten."""
    queues: frozenset[str] | None = None
    queues_asked: float = field(default=float("-inf"))
    """Monotonic time of the answer that `queues` comes from."""


class Fleet:
    """All workers known.  Safe for several threads."""

    def __init__(self, worker_timeout: float, forget_after: float, most: int = 5000) -> None:
        self._timeout = worker_timeout
        self._down_shown = forget_after - worker_timeout
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}
        self._most = most
        self._heard_until = float("-inf")
        self.first_round = threading.Event()
        """Set when the workers have been asked for the first time, whatever came of it."""

    def expected(self) -> frozenset[str]:
        """Those whose answer is worth waiting for."""
        with self._lock:
            return frozenset(
                name
                for name, worker in self._workers.items()
                if worker.silent_rounds < _QUIET_AFTER and not worker.offline
            )

    def queues_wanted(self) -> frozenset[str]:
        """Those whose answer to `active_queues` is missing or old."""
        now = time.monotonic()
        with self._lock:
            return frozenset(n for n, w in self._workers.items() if now - w.queues_asked > _QUEUES_FRESH)

    def begin_round(self) -> None:
        """From here on, `replied` means this round.  Those that have been down for long are forgotten."""
        now = time.monotonic()
        with self._lock:
            self._heard_until = now
            self._workers = {
                name: replace(
                    worker,
                    replied=False,
                    silent_rounds=worker.silent_rounds + 1,
                    down_since=None if self.is_up(worker) else worker.down_since or now,
                )
                for name, worker in self._workers.items()
                if worker.down_since is None or now - worker.down_since < self._down_shown
            }

    def stats_replied(self, name: str, body: Any, seconds: float, late: bool) -> None:
        """Take a worker's reply to `stats`.  What is no such reply, but an error, still is a sign of life of a worker
        already known."""
        name, stats, now, unix = label_text(name), Stats.parse(body), time.monotonic(), time.time()
        with self._lock:
            worker = self._workers.get(name)
            if worker is None and (stats is None or len(self._workers) >= self._most):
                return
            worker = worker or Worker(name, now, unix)
            restarted = stats is not None and (worker.stats is None or _is_another(stats, worker.stats))
            self._workers[name] = replace(
                worker,
                seen=now,
                seen_at=unix,
                replied_at=unix,
                # An answer that was under way when it said that it goes does not bring it back.
                offline=worker.offline and not restarted,
                replied=worker.replied or not late,
                silent_rounds=0,
                reply_seconds=seconds,
                stats=stats or worker.stats,
                started_at=_started(stats, unix) if restarted and stats else worker.started_at,
                queues_asked=worker.queues_asked if not restarted else float("-inf"),
            )

    def queues_replied(self, name: str, body: Any) -> None:
        """Take a worker's reply to `active_queues`."""
        if not isinstance(body, list):
            return
        names = frozenset(label_text(queue["name"]) for queue in body if isinstance(queue, dict) and queue.get("name"))
        name = label_text(name)
        with self._lock:
            worker = self._workers.get(name) or Worker(name, time.monotonic(), time.time())
            self._workers[name] = replace(worker, queues=names, queues_asked=time.monotonic())

    def heartbeat(self, name: str, version: str | None, active: int | None) -> bool:
        """Take a worker's heartbeat; whether the worker is a new one.

        It counts from when it arrived: the worker's own clock may be wrong.
        """
        now, unix = time.monotonic(), time.time()
        with self._lock:
            self._heard_until = now
            worker = self._workers.get(name)
            if worker is None and len(self._workers) >= self._most:
                return False
            self._workers[name] = replace(
                worker or Worker(name, now, unix),
                seen=now,
                seen_at=unix,
                heartbeat_at=unix,
                offline=False,
                active=active if active is not None else (worker.active if worker else None),
                version=version or (worker.version if worker else ""),
            )
        return worker is None

    def offline(self, name: str) -> None:
        """Take a worker's word that it goes.  It may still finish what it is at."""
        with self._lock:
            if name in self._workers:
                self._workers[name] = replace(self._workers[name], offline=True)

    def queues_of(self, name: str) -> frozenset[str] | None:
        """The queues that a worker consumes; None while that is not known."""
        worker = self._workers.get(name)
        return worker.queues if worker is not None else None

    def names(self) -> frozenset[str]:
        """Who is known."""
        with self._lock:
            return frozenset(self._workers)

    def workers(self) -> tuple[Worker, ...]:
        """All that are known, by name."""
        with self._lock:
            return tuple(self._workers[name] for name in sorted(self._workers))

    def is_up(self, worker: Worker) -> bool:
        """Whether a worker was heard of lately enough.

        Silence counts up to the last time that anyone could have been heard: while the broker is away nobody can, and
        everyone stays what they were.
        """
        return not worker.offline and self._heard_until - worker.seen <= self._timeout

    def queues(self) -> frozenset[str]:
        """The queues that some known worker consumes."""
        return frozenset(queue for worker in self.workers() for queue in worker.queues or ())

    def consumers_of(self, queues: Iterable[str]) -> dict[str, tuple[int, int | None]]:
        """For each queue the number of workers that are up and consume it, and their slots; slots are None when one of
        them has not told its own."""
        found: dict[str, tuple[int, int | None]] = dict.fromkeys(queues, (0, 0))
        for worker in self.workers():
            if not self.is_up(worker):
                continue
            slots = worker.stats.slots if worker.stats else None
            for queue in worker.queues or ():
                if queue in found:
                    count, total = found[queue]
                    found[queue] = count + 1, None if total is None or slots is None else total + slots
        return found


def _is_another(stats: Stats, before: Stats) -> bool:
    """Whether it is another process; in containers every process has the same number."""
    went_back = stats.uptime is not None and before.uptime is not None and stats.uptime < before.uptime
    return stats.pid != before.pid or went_back


def _started(stats: Stats, now: float) -> float | None:
    return now - stats.uptime if stats.uptime is not None else None


def _pool_name(implementation: Any) -> str:
    """`celery.concurrency.prefork:TaskPool` is the pool `prefork`; a pool of one's own keeps its full name."""
    text = label_text(implementation or "unknown")
    name = text.partition(":")[0].removeprefix("celery.concurrency.")
    if not text.startswith("celery.concurrency."):
        return text
    return "threads" if name == "thread" else name  # as the worker's own option -P calls it


def _slots(pool: Mapping[str, Any]) -> int | None:
    """The processes of a prefork pool, since it may be autoscaled; the limit of every other one."""
    processes = pool.get("processes")
    if isinstance(processes, list) and processes:
        return len(processes)
    return _whole(pool.get("max-concurrency"))


def _number(value: Any) -> float | None:
    """A number as workers may rightly tell it: finite and not negative."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < _HUGE:
        return None
    return float(value)


def _whole(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == value and isinstance(value, int) else None


def _counts(total: Any) -> dict[str, int]:
    """Tasks by name; those beyond the cap together, so that their sum stays right."""
    counts: dict[str, int] = {}
    for task, n in total.items() if isinstance(total, dict) else ():
        count = _whole(n)
        if count is not None:
            name = label_text(task)
            name = name if name in counts or len(counts) < _TASKS else OTHER
            counts[name] = counts.get(name, 0) + count
    return counts
