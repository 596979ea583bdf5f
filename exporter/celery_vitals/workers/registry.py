"""The registry of all workers: which should reply, which are up, what each reported last."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from celery_vitals.metrics.base import label_text
from celery_vitals.workers.consumed_queues import consumed_queues
from celery_vitals.workers.consumers import count_consumers
from celery_vitals.workers.processes import QUIET_AFTER
from celery_vitals.workers.rate_limits import longest_start_interval
from celery_vitals.workers.registered_tasks import RegisteredTask
from celery_vitals.workers.stall_detection import QueueCounts, QueueObservation, needs_rate_limits
from celery_vitals.workers.state import State, state_of
from celery_vitals.workers.stats import Stats, whole
from celery_vitals.workers.worker import Worker

_NEVER = float("-inf")


class WorkerRegistry:
    """All known workers.  Thread-safe; its lock is never held during I/O."""

    def __init__(self, worker_timeout: float, forget_after: float, max_workers: int = 5000) -> None:
        self.forget_after = forget_after
        """Seconds without a sign of life after which a worker is removed."""
        self.timeout = worker_timeout
        """Seconds without a sign of life after which a worker is down."""
        self._kept_when_down = forget_after - worker_timeout
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}
        self._max_workers = max_workers
        self._limit_reached = False
        self._observed_until = self._requested = _NEVER
        self._queues_observed = _NEVER, _NEVER
        self._tasks_started: dict[str, int | None] = {}
        self._other_mailboxes = 0
        self._broker_consumers: dict[str, int | None] = {}
        self.answers_commands = False
        """Whether a worker has ever answered a command."""
        self._transport_options: tuple[Mapping[str, Any], ...] = ()
        self.first_round = threading.Event()
        """Set after the first round of remote control, even a failed one."""

    # Requests of the next round

    def expected(self) -> frozenset[str]:
        """Return the workers whose reply a round waits for."""
        with self._lock:
            return frozenset(
                name
                for name, worker in self._workers.items()
                if worker.silent_rounds < QUIET_AFTER and not worker.offline
            )

    def with_stale_queues(self) -> frozenset[str]:
        """Return the workers whose reply to `active_queues` is missing or old, or must be confirmed
        because of a suspicion."""
        now = time.monotonic()
        with self._lock:
            return frozenset(
                name for name, worker in self._workers.items() if worker.has_stale_queues(now)
            )

    def with_missing_rate_limits(self) -> frozenset[str]:
        """Return the workers whose unknown rate limits decide whether they have stalled."""
        with self._lock:
            return frozenset(
                name
                for name, worker in self._workers.items()
                if worker.suspicion is not None and needs_rate_limits(worker.suspicion)
            )

    # Replies, events and observations

    def begin_round(self, requested: float) -> None:
        """Start the round that was requested at this monotonic time; `replied` refers to it.

        Removes the workers that have been down for long.
        """
        now = time.monotonic()
        with self._lock:
            self._observed_until = now
            self._requested = requested
            self._workers = {
                name: replace(
                    worker.before_round(),
                    down_since=None if self.is_up(worker) else worker.down_since or now,
                )
                for name, worker in self._workers.items()
                if worker.down_since is None or now - worker.down_since < self._kept_when_down
            }

    def forget_silent(self) -> None:
        """Remove the workers without a sign of life for `forget_after`, where no round does."""
        with self._lock:
            self._workers = {
                name: worker
                for name, worker in self._workers.items()
                if self._observed_until - worker.seen <= self.forget_after
            }

    def stats_replied(self, name: str, body: Any, seconds: float, late: bool) -> None:
        """Record a reply to `stats`.  An error in its place is a sign of life of a known worker."""
        name, stats, now, unix = label_text(name), Stats.parse(body), time.monotonic(), time.time()
        with self._lock:
            worker = self._get_or_create(name, now, unix) if stats else self._workers.get(name)
            if worker is None:
                return
            # A reply that was in transit at the offline event does not bring the worker back.
            offline = worker.offline and (late or self._requested <= worker.offline_seen)
            self._workers[name] = worker.with_reply(stats, seconds, late, offline, now, unix)

    def queues_replied(self, name: str, body: Any) -> None:
        """Record a reply to `active_queues`."""
        if not isinstance(body, list):
            return
        names, broadcasts = consumed_queues(body)
        name = label_text(name)
        with self._lock:
            worker = self._get_or_create(name, time.monotonic(), time.time())
            if worker is None:
                return
            self._workers[name] = worker.with_queues(names, broadcasts, time.monotonic())

    def rate_limits_replied(self, name: str, tasks: Iterable[RegisteredTask]) -> None:
        """Record the rate limits of a worker's tasks, from its reply to `registered`."""
        name = label_text(name)
        interval = longest_start_interval(task.rate_limit for task in tasks)
        with self._lock:
            worker = self._workers.get(name)
            if worker is not None and worker.suspicion is not None:
                suspicion = replace(worker.suspicion, start_interval=interval)
                self._workers[name] = replace(worker, suspicion=suspicion)

    def end_round(self, silent_mailboxes: int | None) -> None:
        """End the round after all replies.

        `silent_mailboxes` is the number of mailboxes that are subscribed and have not replied; None
        where the broker does not report it.  Mailboxes that are silent while all workers reply
        belong to other programs (beat has one).
        """
        with self._lock:
            missing = sum(
                1 for worker in self._workers.values() if self.is_up(worker) and not worker.replied
            )
            if silent_mailboxes is not None and not missing:
                self._other_mailboxes = silent_mailboxes
            for name, worker in self._workers.items():
                if not worker.replied and silent_mailboxes is not None:
                    connected = silent_mailboxes - self._other_mailboxes >= missing
                    counted = connected if self.is_up(worker) else None
                    worker = worker.with_connection(connected, counted, time.monotonic())
                self._workers[name] = worker.after_round()

    def heartbeat(
        self,
        name: str,
        version: str | None,
        active: int | None,
        processed: int | None = None,
        pid: int | None = None,
        online: bool = False,
    ) -> bool:
        """Record a heartbeat at its time of arrival, since the worker's clock may be wrong.

        Returns whether the worker is new.
        """
        now, unix = time.monotonic(), time.time()
        active, processed = whole(active), whole(processed)
        with self._lock:
            self._observed_until = now
            new = name not in self._workers
            worker = self._get_or_create(name, now, unix)
            if worker is None:
                return False
            self._workers[name] = replace(
                worker.with_heartbeat_from(whole(pid)).with_heartbeat(active, processed, now, unix),
                online_seen=now if online else worker.online_seen,
                version=version or worker.version,
            )
        return new

    def offline(self, name: str, active: int | None = None) -> None:
        """Record an offline event, sent while `active` tasks were running."""
        now, unix = time.monotonic(), time.time()
        with self._lock:
            self._observed_until = now
            worker = self._workers.get(name)
            if worker is not None:
                self._workers[name] = worker.with_offline(active, now, unix)

    def drained(self, name: str) -> None:
        """Record that a worker has completed its tasks after its offline event."""
        with self._lock:
            if name in self._workers:
                self._workers[name] = replace(self._workers[name], draining=False)

    def observe_queues(self, queues: Mapping[str, QueueCounts]) -> None:
        """Compare the workers with the broker's queue statistics of this moment."""
        now = time.monotonic()
        with self._lock:
            self._broker_consumers = {name: counts.consumers for name, counts in queues.items()}
            up = [worker for worker in self._workers.values() if self.is_up(worker)]
            observation = QueueObservation(
                queues, up, self._tasks_started, self._queues_observed[0], now
            )
            for name, worker in self._workers.items():
                if not self.is_up(worker):  # observations count only while the worker is up
                    self._workers[name] = replace(worker, suspicion=None)
                    continue
                counted = observation.counts_as_consumer(worker)
                connected = worker.broker_connected if counted is None else counted
                self._workers[name] = replace(
                    worker.with_connection(connected, counted, now),
                    suspicion=observation.suspicion(worker),
                )
            self._queues_observed = self._queues_observed[1], now
            self._tasks_started = {worker.name: worker.tasks_started for worker in up}

    def _get_or_create(self, name: str, now: float, unix: float) -> Worker | None:
        """Return the worker of this name, created if necessary; None at the limit of workers."""
        worker = self._workers.get(name)
        if worker is None:
            self._limit_reached = len(self._workers) >= self._max_workers
            worker = None if self._limit_reached else Worker(name, now, unix)
        return worker

    # Queries

    @property
    def limit_reached(self) -> bool:
        """Whether there are workers beyond the limit, which are not exported."""
        return self._limit_reached

    def names(self) -> frozenset[str]:
        """Return the names of all known workers."""
        with self._lock:
            return frozenset(self._workers)

    def queues_of(self, name: str) -> frozenset[str] | None:
        """Return the queues that a worker consumes; None while unknown."""
        worker = self._workers.get(name)
        return worker.queues if worker is not None else None

    def workers(self) -> tuple[Worker, ...]:
        """Return all known workers, sorted by name."""
        with self._lock:
            return tuple(self._workers[name] for name in sorted(self._workers))

    def is_up(self, worker: Worker) -> bool:
        """Return whether a worker's latest sign of life is recent enough.

        Silence counts up to the latest time at which signs of life could be received: while the
        broker is unreachable, each worker keeps its state.
        """
        return not worker.offline and self._observed_until - worker.seen <= self.timeout

    def state(self, worker: Worker) -> State:
        """Return the state of a worker."""
        return state_of(worker, self._observed_until, self.timeout)

    def all_online_since(self, at: float) -> bool:
        """Return whether every worker that is up has started since this monotonic time."""
        up = [worker for worker in self.workers() if self.is_up(worker)]
        return bool(up) and all(worker.online_seen > at for worker in up)

    def gone_workers(self) -> dict[str, bool]:
        """Return the workers that run no tasks any more, as far as observed, and whether that is
        certain.

        It is not where they had running tasks at their offline event, or where the broker counted
        them as connected in their silence: a process may complete its tasks without a word.
        """
        return {
            worker.name: not (
                worker.draining or worker.connected_seen > worker.seen + self.timeout / 2
            )
            for worker in self.workers()
            if self.state(worker) is State.GONE
        }

    def silence_of(self, queues: Iterable[str]) -> dict[str, float]:
        """Return, for each queue, the seconds since the last sign of life of each of its consumers
        that may be alive: those of the most silent one.

        A solo worker is silent while a task runs, of which it has not even reported the message.
        """
        now, gone = time.monotonic(), self.gone_workers()
        alive = [worker for worker in self.workers() if not gone.get(worker.name)]
        return {
            queue: max(
                (now - one.seen for one in alive if one.queues is None or queue in one.queues),
                default=0.0,
            )
            for queue in queues
        }

    def shared_names(self) -> frozenset[str]:
        """Return the node names under which several processes reply."""
        return frozenset(worker.name for worker in self.workers() if worker.instances > 1)

    def queues(self) -> frozenset[str]:
        """Return the queues that any known worker consumes."""
        return frozenset(queue for worker in self.workers() for queue in worker.queues or ())

    def read_queues(self) -> frozenset[str]:
        """Return those of them whose lengths are read: not the own ones of each process."""
        return frozenset(queue for worker in self.workers() for queue in worker.read_queues)

    def transport_options(self) -> tuple[Mapping[str, Any], ...]:
        """Return the transport options that workers report, each once.

        While no worker is known, those of the last ones.
        """
        reported: list[Mapping[str, Any]] = []
        for worker in self.workers():
            options = worker.stats.transport_options if worker.stats else None
            if options is not None and options not in reported:
                reported.append(options)
        if reported:
            self._transport_options = tuple(reported)
        return self._transport_options

    def broadcasts(self) -> frozenset[str]:
        """Return the exchanges that known workers consume by a queue of each."""
        return frozenset(name for worker in self.workers() for name in worker.broadcasts)

    def consumers_of(self, queues: Iterable[str]) -> dict[str, tuple[int, int | None]]:
        """Return, for each queue, how many workers that are up consume it, and their slots."""
        workers = self.workers()
        up = [worker for worker in workers if self.is_up(worker)]
        complete = not self._limit_reached
        return count_consumers(queues, workers, up, self._broker_consumers, complete)

    def without_replies(self) -> tuple[str, ...]:
        """Return the workers that are up, by their heartbeats, and have never replied."""
        return tuple(
            worker.name
            for worker in self.workers()
            if self.is_up(worker)
            and worker.replied_at is None
            and worker.silent_rounds >= QUIET_AFTER
        )
