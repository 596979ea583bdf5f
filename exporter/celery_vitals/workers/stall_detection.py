"""Detection of workers that do not consume, or do not start the tasks that wait for them.

An observation compares the queue statistics of the broker with the record of each worker.  It
raises a suspicion in two cases; consecutive observations over a minimum time confirm it:

- The broker counts no consumer on any of a worker's queues, though the worker is alive (RabbitMQ).
- Messages wait in a worker's queues, the worker has free slots and is alive, and it starts no task.
  A healthy worker takes a message within milliseconds.  The suspicion is dropped when the worker
  starts a task; or when its queues get shorter and no other consumer of them has started a task:
  the worker may then be the one that takes messages and discards them (expired, revoked or unknown
  tasks).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from celery_vitals.workers.worker import Suspicion, Worker

OBSERVATIONS = 4
"""Consecutive observations that must agree.  A worker that dies still counts as alive in up to
three of them."""
_RATE_LIMITS_AFTER = 2
"""Observations after which the rate limits of the worker's tasks are requested."""
_FOREVER = float("inf")
UNCONSUMED_FOR = 5.0
"""Minimum seconds without a consumer by the broker's count: a shorter gap may be a reconnect."""
IDLE_FOR = 30.0
"""Minimum seconds in which the worker starts none of the tasks that wait."""


class QueueCounts(Protocol):
    """The broker's statistics of one queue; None where the broker does not report a value."""

    @property
    def ready(self) -> int | None:
        """Messages that wait for a consumer."""

    @property
    def unacked(self) -> int | None:
        """Messages delivered to workers and not acknowledged."""

    @property
    def consumers(self) -> int | None:
        """Consumers, by the broker's count."""


def needs_rate_limits(suspicion: Suspicion) -> bool:
    """Return whether the decision depends on the worker's rate limits, which are unknown."""
    return (
        not suspicion.takes_none
        and suspicion.observations >= _RATE_LIMITS_AFTER
        and suspicion.start_interval is None
    )


def is_confirmed(suspicion: Suspicion, worker: Worker) -> bool:
    """Return whether the suspicion has lasted long enough, and nothing from the worker since
    contradicts it."""
    queues_known = worker.queues_asked > suspicion.since or worker.silent_rounds >= OBSERVATIONS
    if suspicion.observations < OBSERVATIONS or not queues_known or worker.instances > 1:
        return False
    lasted = suspicion.last - suspicion.since
    if suspicion.unconsumed:
        return lasted >= UNCONSUMED_FOR
    if worker.tasks_started != suspicion.tasks_started:
        return False
    if suspicion.takes_none:  # no rate limit applies to messages that were never taken
        return lasted >= IDLE_FOR
    interval = suspicion.start_interval
    return lasted >= IDLE_FOR + (interval if interval is not None else _FOREVER)


class QueueObservation:
    """One observation of all queues."""

    def __init__(
        self,
        queues: Mapping[str, QueueCounts],
        up: Iterable[Worker],
        tasks_started: Mapping[str, int | None],
        before: float,
        now: float,
    ) -> None:
        """Compare `queues` with the workers that are up.

        `tasks_started` has the count of each worker at the last observation; `before` is the
        monotonic time of the observation before that: remote control requests of the same scrape
        may be answered before or after the queues are read.
        """
        self._queues = queues
        self._before, self._now = before, now
        self._progressed: set[str] = set()
        self._consumers: dict[str, set[str]] = {}
        for worker in up:
            if worker.tasks_started != tasks_started.get(worker.name, worker.tasks_started):
                self._progressed.add(worker.name)
            for queue in worker.read_queues:
                self._consumers.setdefault(queue, set()).add(worker.name)

    def counts_as_consumer(self, worker: Worker) -> bool | None:
        """Return whether the broker counts this worker as a consumer of its queues; None while
        uncertain."""
        counts = [
            (self._consumer_count(queue), len(self._consumers.get(queue, ())))
            for queue in worker.read_queues
        ]
        if any(count == 0 for count, _ in counts):
            return False
        certain = bool(counts) and all(
            count is not None and count >= workers for count, workers in counts
        )
        return True if certain else None

    def suspicion(self, worker: Worker) -> Suspicion | None:
        """Return the suspicion against this worker; None without one, or without enough data."""
        if not worker.read_queues or worker.instances > 1 or worker.seen <= self._before:
            return None
        unconsumed = all(self._consumer_count(queue) == 0 for queue in worker.read_queues)
        waiting = self._waiting(worker)
        if not unconsumed and not (waiting > 0 and worker.free_slot_confirmed):
            return None
        takes_none = unconsumed or self._takes_none(worker)
        before = worker.suspicion
        if (
            before is None
            or before.unconsumed != unconsumed
            or (not unconsumed and self._refutes(worker, before))
        ):
            return Suspicion(
                unconsumed, takes_none, self._now, self._now, 1, worker.tasks_started, waiting
            )
        return replace(
            before,
            takes_none=takes_none,
            last=self._now,
            observations=before.observations + 1,
            waiting=waiting,
        )

    def _refutes(self, worker: Worker, before: Suspicion) -> bool:
        if worker.tasks_started != before.tasks_started:
            return True
        consumers = {
            name for queue in worker.read_queues for name in self._consumers.get(queue, ())
        }
        return self._waiting(worker) < before.waiting and not consumers & self._progressed

    def _takes_none(self, worker: Worker) -> bool:
        """Return whether the worker certainly could take a message and takes none.

        Either its queues have no unacknowledged messages, or it is their only consumer and holds
        fewer than its prefetch limit.  Never on RabbitMQ, where the count of consumers decides.
        """
        queues = self._of(worker)
        if any(queue.consumers is not None for queue in queues) or any(
            queue.unacked is None for queue in queues
        ):
            return False
        held = sum(queue.unacked or 0 for queue in queues)
        only_consumer = all(
            self._consumers.get(queue) == {worker.name} for queue in worker.read_queues
        )
        limit = worker.stats.prefetch if worker.stats is not None else None
        return not held or (only_consumer and limit is not None and (not limit or held < limit))

    def _waiting(self, worker: Worker) -> int:
        return sum(queue.ready or 0 for queue in self._of(worker))

    def _of(self, worker: Worker) -> list[QueueCounts]:
        return [self._queues[queue] for queue in worker.read_queues if queue in self._queues]

    def _consumer_count(self, queue: str) -> int | None:
        return self._queues[queue].consumers if queue in self._queues else None
