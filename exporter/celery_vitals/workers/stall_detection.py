"""Something looks wrong with a worker, from one look at the queues to the next; whether it lasts makes it certain.

A look is what the broker says of the queues, held against what is known of the workers.  Two things are doubtful:

- The broker counts no consumer on any of a worker's queues, though the worker is alive (RabbitMQ).
- Messages wait in a worker's queues, it has free slots, it is alive, and it begins nothing.  A healthy worker takes a
  message within milliseconds.  What speaks for it: it begins a task; or its queues get shorter, and no other worker of
  them has begun one, so it may be it who takes messages and drops them (expired, revoked or unknown tasks).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from celery_vitals.workers.worker import Worker

OBSERVATIONS = 4
"""Looks in a row that must agree.  One that dies passes for alive in up to three of them."""
_ASKS_AFTER = 2
_FOREVER = float("inf")
UNCONSUMED_FOR = 5.0
"""Seconds without a consumer by the broker's count: less, and it may be connecting again."""
IDLE_FOR = 30.0
"""Seconds in which it begins none of the tasks that wait."""


class QueueStats(Protocol):
    """What the broker says of a queue; None where it does not tell."""

    @property
    def ready(self) -> int | None:
        """Messages that wait."""

    @property
    def unacked(self) -> int | None:
        """Messages that workers hold."""

    @property
    def consumers(self) -> int | None:
        """By the broker's count."""


@dataclass(frozen=True)
class Suspicion:
    """What looks wrong, for how long."""

    unconsumed: bool
    """Whether the broker counts no consumer on its queues; else it begins nothing of what waits."""
    takes_none: bool
    """Whether it takes no message, as far as can be seen; else it may hold some that it does not begin."""
    since: float
    """Monotonic time of the first look of this kind."""
    last: float
    """The same of the last one."""
    observations: int
    begun: int | None
    """Tasks it had begun at the first look."""
    waiting: int
    """Messages in its queues at the last look."""
    between: float | None = None
    """Seconds between two starts that its tasks' rate limits may ask for; None until it has told."""

    @property
    def asks_for_limits(self) -> bool:
        """Whether it matters how seldom its tasks may start, and is not known."""
        return not self.takes_none and self.observations >= _ASKS_AFTER and self.between is None

    def holds(self, worker: Worker) -> bool:
        """Whether it has lasted long enough to be certain, by what the worker has said since."""
        told = worker.queues_asked > self.since or worker.silent_rounds >= OBSERVATIONS
        if self.observations < OBSERVATIONS or not told or worker.instances > 1:
            return False
        lasted = self.last - self.since
        if self.unconsumed:
            return lasted >= UNCONSUMED_FOR
        if worker.begun != self.begun:
            return False
        # One that takes no message has not come to any rate limit.
        patience = (
            IDLE_FOR
            if self.takes_none
            else IDLE_FOR + (self.between if self.between is not None else _FOREVER)
        )
        return lasted >= patience


class QueueObservation:
    """One look at the queues."""

    def __init__(
        self,
        depths: Mapping[str, QueueStats],
        up: Iterable[Worker],
        begun: Mapping[str, int | None],
        before: float,
        now: float,
    ) -> None:
        """`begun` has what each worker had begun at the last look; `before` is the monotonic time of the look before
        that: what is asked at the same time as the queues may be answered before or after them."""
        self._depths = depths
        self._before, self._now = before, now
        self._moved: set[str] = set()
        self._serving: dict[str, set[str]] = {}
        for worker in up:
            if worker.begun != begun.get(worker.name, worker.begun):
                self._moved.add(worker.name)
            for queue in worker.queues or ():
                self._serving.setdefault(queue, set()).add(worker.name)

    def connected(self, worker: Worker) -> bool | None:
        """Whether the broker counts this worker among the consumers of its queues; None where that is not certain."""
        counts = [
            (self._consumers(queue), len(self._serving.get(queue, ())))
            for queue in worker.queues or ()
        ]
        if any(count == 0 for count, _ in counts):
            return False
        certain = bool(counts) and all(
            count is not None and count >= workers for count, workers in counts
        )
        return True if certain else None

    def suspicion(self, worker: Worker) -> Suspicion | None:
        """What looks wrong with this worker now; None where nothing does, or nobody could tell."""
        if not worker.queues or worker.instances > 1 or worker.seen <= self._before:
            return None
        unconsumed = all(self._consumers(queue) == 0 for queue in worker.queues)
        waiting = sum(depth.ready or 0 for depth in self._of(worker))
        if not unconsumed and not (waiting > 0 and worker.has_free_slots):
            return None
        takes_none = unconsumed or self._takes_none(worker)
        before = worker.suspicion
        if (
            before is None
            or before.unconsumed != unconsumed
            or (not unconsumed and self._speaks_for(worker, before))
        ):
            return Suspicion(unconsumed, takes_none, self._now, self._now, 1, worker.begun, waiting)
        return replace(
            before,
            takes_none=takes_none,
            last=self._now,
            observations=before.observations + 1,
            waiting=waiting,
        )

    def _speaks_for(self, worker: Worker, before: Suspicion) -> bool:
        if worker.begun != before.begun:
            return True
        others = {name for queue in worker.queues or () for name in self._serving.get(queue, ())}
        return (
            sum(depth.ready or 0 for depth in self._of(worker)) < before.waiting
            and not others & self._moved
        )

    def _takes_none(self, worker: Worker) -> bool:
        """Whether it could take a message and does not, as far as is certain: nobody holds any of its queues' messages,
        or it is their only worker, and holds fewer than it asks for.  RabbitMQ tells by its count of consumers."""
        depths = self._of(worker)
        if any(depth.consumers is not None for depth in depths) or any(
            depth.unacked is None for depth in depths
        ):
            return False
        held = sum(depth.unacked or 0 for depth in depths)
        alone = all(self._serving.get(queue) == {worker.name} for queue in worker.queues or ())
        limit = worker.stats.prefetch if worker.stats is not None else None
        return not held or (alone and limit is not None and (not limit or held < limit))

    def _of(self, worker: Worker) -> list[QueueStats]:
        return [self._depths[queue] for queue in worker.queues or () if queue in self._depths]

    def _consumers(self, queue: str) -> int | None:
        return self._depths[queue].consumers if queue in self._depths else None
