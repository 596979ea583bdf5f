"""The difference between the clock of a worker or producer and the exporter's."""

from __future__ import annotations

_SKEW = 5.0
"""Seconds by which a clock must be off before it is corrected: a smaller difference cannot be
distinguished from the transit time of an event."""
_WINDOW = 300.0
"""Seconds over which the fastest event is searched: it shows the clock difference best."""


class Clock:
    """The offset of the clock of a worker's host, by which it is behind the exporter's.

    Estimated as the least transit time of any event of the last minutes.
    """

    __slots__ = ("_before", "_now", "_since", "correction")

    def __init__(self) -> None:
        self._before = self._now = float("inf")
        self._since = 0.0
        self.correction = 0.0
        """Seconds to add to a time of this host; 0 while transit time may be the difference."""

    @property
    def behind(self) -> float:
        """Seconds, including the transit time of the fastest event; infinite before the first."""
        return min(self._before, self._now)

    def observe(self, timestamp: float, arrived: float) -> None:
        """Record that an event with this timestamp arrived at that time."""
        difference = arrived - timestamp
        if arrived - self._since > _WINDOW:
            self._since, self._before, self._now = arrived, self._now, difference
        elif difference < self._now:
            self._now = difference
        else:
            return
        behind = self.behind
        self.correction = behind if abs(behind) > _SKEW else 0.0

    def to_state(self) -> tuple[float, float, float, float]:
        """Return its state as it is saved."""
        return self._before, self._now, self._since, self.correction

    def restore(self, state: tuple[float, float, float, float]) -> None:
        """Continue from a saved state."""
        self._before, self._now, self._since, self.correction = state
