"""Events of tasks whose queue is not known yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from celery_vitals.events.decode import Event
from celery_vitals.events.executions import is_due
from celery_vitals.events.worker_tracker import WorkerTracker

Handler = Callable[[Event, WorkerTracker, float, float], None]
"""Handles an event: the event, the tracker of its worker, its time corrected to the exporter's
clock, and the exporter's time."""
DeferredEvent = tuple[Event, WorkerTracker, float]
"""The arguments of its handler but the last."""

_TIMEOUT = 2.0
"""Seconds for which the events of a task are deferred until its queue is known: from its task-sent
event, where producers are known to send one (it may arrive last), or from a new worker, which is
asked at once which queues it consumes."""


class SavedDeferrals(msgspec.Struct):
    """The deferred events as they are saved: each with the name of its worker and its time."""

    deadlines: list[tuple[float, str]] = []
    events: list[tuple[Event, str, float]] = []


class DeferredEvents(dict[str, list[DeferredEvent]]):
    """The deferred events of each task by its uuid, in the order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self._deadlines: deque[tuple[float, str]] = deque()

    def start(self, uuid: str, first: DeferredEvent, now: float) -> None:
        """Defer the events of a task, the first of which is given."""
        self[uuid] = [first]
        self._deadlines.append((now + _TIMEOUT, uuid))

    def append(self, event: Event, worker: WorkerTracker, at: float) -> bool:
        """Defer an event, if those of its task are deferred; return whether they are."""
        events = self.get(event.uuid)
        if events is None:
            return False
        events.append((event, worker, at))
        return True

    def pop_due(self, now: float) -> str | None:
        """Return the uuid of the next task whose deferral has timed out; None without any."""
        if self._deadlines and is_due(self._deadlines[0][0], now, _TIMEOUT):
            return self._deadlines.popleft()[1]
        return None

    def to_state(self) -> SavedDeferrals:
        """Return its state as it is saved."""
        return SavedDeferrals(
            list(self._deadlines),
            [(event, worker.name, at) for one in self.values() for event, worker, at in one],
        )

    def restore(self, state: SavedDeferrals, worker: Callable[[str], WorkerTracker]) -> None:
        """Continue from a saved state."""
        self._deadlines.extend(state.deadlines)
        for event, name, at in state.events:
            self.setdefault(event.uuid, []).append((event, worker(name), at))
