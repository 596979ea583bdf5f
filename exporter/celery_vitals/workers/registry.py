"""All workers together: who is expected to answer, who is up, what each one last said."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from celery_vitals.metrics.base import label_text
from celery_vitals.workers.processes import QUIET_AFTER, aged, heard
from celery_vitals.workers.rate_limits import longest_pause
from celery_vitals.workers.stall_detection import QueueObservation, QueueStats
from celery_vitals.workers.state import State, state_of
from celery_vitals.workers.stats import Stats, whole
from celery_vitals.workers.worker import Worker

_QUEUES_FRESH = 30.0
"""Seconds for which a worker's answer to `active_queues` is good."""
_NEVER = float("-inf")


class WorkerRegistry:
    """All workers known.  Safe for several threads."""

    def __init__(self, worker_timeout: float, forget_after: float, most: int = 5000) -> None:
        self._timeout = worker_timeout
        self._down_shown = forget_after - worker_timeout
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}
        self._most = most
        self._left_out = False
        self._heard_until = self._asked = _NEVER
        self._looked = _NEVER, _NEVER
        self._begun: dict[str, int | None] = {}
        self._strangers = 0
        self.first_round = threading.Event()
        """Set when the workers have been asked for the first time, whatever came of it."""

    # What to ask

    def expected(self) -> frozenset[str]:
        """Those whose answer is worth waiting for."""
        with self._lock:
            return frozenset(
                name
                for name, worker in self._workers.items()
                if worker.silent_rounds < QUIET_AFTER and not worker.offline
            )

    def queues_wanted(self) -> frozenset[str]:
        """Those whose answer to `active_queues` is missing or old, or says what must be certain."""
        now = time.monotonic()
        with self._lock:
            return frozenset(
                name
                for name, worker in self._workers.items()
                if now - worker.queues_asked > _QUEUES_FRESH
                or not worker.queues
                or (worker.suspicion is not None and worker.queues_asked <= worker.suspicion.since)
            )

    def limits_wanted(self) -> frozenset[str]:
        """Those of which it matters, before they are called stalled, how seldom their tasks may start."""
        with self._lock:
            return frozenset(
                name
                for name, worker in self._workers.items()
                if worker.suspicion is not None and worker.suspicion.asks_for_limits
            )

    # What they say

    def begin_round(self, asked: float) -> None:
        """From here on, `replied` means the round that was asked at this monotonic time.  Those that have been down for
        long are forgotten."""
        now = time.monotonic()
        with self._lock:
            self._heard_until = now
            self._asked = asked
            self._workers = {
                name: replace(
                    worker,
                    replied=False,
                    silent_rounds=worker.silent_rounds + 1,
                    processes=aged(worker.processes),
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
            worker = self._known(name, now, unix) if stats else self._workers.get(name)
            if worker is None:
                return
            self._workers[name] = replace(
                worker,
                seen=now,
                seen_at=unix,
                replied_at=unix,
                # An answer that was under way when it said that it goes does not bring it back.
                offline=worker.offline and (late or self._asked <= worker.offline_seen),
                replied=worker.replied or not late,
                silent_rounds=0,
                reply_seconds=seconds,
                processes=heard(worker.processes, stats, seconds, late, unix)
                if stats
                else worker.processes,
            )

    def queues_replied(self, name: str, body: Any) -> None:
        """Take a worker's reply to `active_queues`."""
        if not isinstance(body, list):
            return
        names = frozenset(
            label_text(queue["name"])
            for queue in body
            if isinstance(queue, dict) and queue.get("name")
        )
        name = label_text(name)
        with self._lock:
            worker = self._known(name, time.monotonic(), time.time())
            if worker is None:
                return
            if worker.instances > 1:  # each of them has its own
                names |= worker.queues or frozenset()
            self._workers[name] = replace(worker, queues=names, queues_asked=time.monotonic())

    def limits_replied(self, name: str, body: Any) -> None:
        """Take a worker's reply to `registered`, which names its tasks with their rate limits."""
        name, between = label_text(name), longest_pause(body)
        with self._lock:
            worker = self._workers.get(name)
            if between is not None and worker is not None and worker.suspicion is not None:
                self._workers[name] = replace(
                    worker, suspicion=replace(worker.suspicion, between=between)
                )

    def end_round(self, silent: int | None) -> None:
        """All answers are in; `silent` is how many mailboxes listen and have not answered, where the broker tells.

        Mailboxes that are silent while all workers answer are none of workers (beat has one).
        """
        with self._lock:
            missing = sum(
                1 for worker in self._workers.values() if self.is_up(worker) and not worker.replied
            )
            if silent is not None and not missing:
                self._strangers = silent
            for name, worker in self._workers.items():
                if not worker.replied and silent is not None:
                    worker = replace(worker, connected=silent - self._strangers >= missing)
                self._workers[name] = worker.settled()

    def heartbeat(
        self,
        name: str,
        version: str | None,
        active: int | None,
        processed: int | None = None,
        pid: int | None = None,
    ) -> bool:
        """Take a worker's heartbeat; whether the worker is a new one.

        It counts from when it arrived: the worker's own clock may be wrong.
        """
        now, unix = time.monotonic(), time.time()
        active, processed = whole(active), whole(processed)
        with self._lock:
            self._heard_until = now
            new = name not in self._workers
            worker = self._known(name, now, unix)
            if worker is None:
                return False
            worker = worker.told_by(whole(pid))
            begun = processed if worker.begun is None else max(worker.begun, processed or 0)
            self._workers[name] = replace(
                worker,
                seen=now,
                seen_at=unix,
                heartbeat_at=unix,
                heartbeat_seen=now,
                offline=False,
                active=active if active is not None else worker.active,
                begun=begun,
                begun_by_then=processed if active is not None else worker.begun_by_then,
                version=version or worker.version,
            )
        return new

    def offline(self, name: str, active: int | None = None) -> None:
        """Take a worker's word that it goes, with as many tasks to end."""
        now, unix = time.monotonic(), time.time()
        with self._lock:
            self._heard_until = now
            worker = self._workers.get(name)
            if worker is not None:
                finishing = bool(worker.active if active is None else active)
                # Whoever comes next under its name, with the same process number in a container, is not in doubt.
                self._workers[name] = replace(
                    worker,
                    offline=True,
                    offline_seen=now,
                    finishing=finishing,
                    seen=now,
                    seen_at=unix,
                    suspicion=None,
                )

    def finished(self, name: str) -> None:
        """A worker that has said that it goes has ended its tasks."""
        with self._lock:
            if name in self._workers:
                self._workers[name] = replace(self._workers[name], finishing=False)

    def saw_queues(self, depths: Mapping[str, QueueStats]) -> None:
        """Take what the broker says of the queues at this moment."""
        now = time.monotonic()
        with self._lock:
            up = [worker for worker in self._workers.values() if self.is_up(worker)]
            look = QueueObservation(depths, up, self._begun, self._looked[0], now)
            for name, worker in self._workers.items():
                if not self.is_up(worker):  # looks in a row are those at which it was there
                    self._workers[name] = replace(worker, suspicion=None)
                    continue
                counted = look.connected(worker)
                connected = worker.connected if counted is None else counted
                self._workers[name] = replace(
                    worker, suspicion=look.suspicion(worker), connected=connected
                )
            self._looked = self._looked[1], now
            self._begun = {worker.name: worker.begun for worker in up}

    def _known(self, name: str, now: float, unix: float) -> Worker | None:
        """The worker of this name, a new one where there was none; None where it would be one too many."""
        worker = self._workers.get(name)
        if worker is None:
            self._left_out = len(self._workers) >= self._most
            worker = None if self._left_out else Worker(name, now, unix)
        return worker

    # What is known

    @property
    def full(self) -> bool:
        """Whether workers are heard of that are not shown, since there are so many."""
        return self._left_out

    def queues_of(self, name: str) -> frozenset[str] | None:
        """The queues that a worker consumes; None while that is not known."""
        worker = self._workers.get(name)
        return worker.queues if worker is not None else None

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

    def state(self, worker: Worker) -> State:
        """What it is doing."""
        return state_of(worker, self._heard_until, self._timeout)

    def gone(self) -> frozenset[str]:
        """Those whose tasks run no more, as far as anybody knows."""
        return frozenset(
            worker.name for worker in self.workers() if self.state(worker) is State.GONE
        )

    def shared(self) -> frozenset[str]:
        """The names under which several processes answer."""
        return frozenset(worker.name for worker in self.workers() if worker.instances > 1)

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
                    found[queue] = (
                        count + 1,
                        None if total is None or slots is None else total + slots,
                    )
        return found
