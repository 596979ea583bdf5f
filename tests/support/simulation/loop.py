"""The clock of a simulation, and what happens at which time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Action = Callable[[], object]


class Loop:
    """Runs actions in the order of their times; `now` is the time of the present one."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Action]] = []
        self._order = count()

    def at(self, when: float, action: Action) -> None:
        """Run an action at this time, or now if it has passed."""
        heappush(self._heap, (max(when, self.now), next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        """Run an action in so many seconds."""
        self.at(self.now + seconds, action)

    def every(self, seconds: float, action: Action) -> None:
        """Run an action at this interval."""

        def repeat() -> None:
            action()
            self.after(seconds, repeat)

        self.after(seconds, repeat)

    def run(self, until: float) -> None:
        """Run all actions up to this time."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heappop(self._heap)
            action()
        self.now = until
