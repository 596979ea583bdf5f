"""One value object for "until when": every wait in the program is bounded by one of these."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Deadline:
    """A moment on the monotonic clock.  Deadlines compare: the sooner one is the smaller one."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() >= self.at

    def within(self, seconds: float) -> Deadline:
        """The sooner of this moment and `seconds` from now."""
        return min(self, Deadline.after(seconds))
