"""Zero first: a new counter is exported to Prometheus as 0 before its value.

`increase()` and `rate()` compare samples.  A counter whose first sample is 200 has not increased:
the first failures of a task, or those after a start of the exporter, would be in no alert and in no
graph.  Therefore each Prometheus server gets 0 for a series that was created since its last scrape,
and the value in its next scrape.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

LONGEST_INTERVAL = 150.0
"""Seconds between scrapes up to which a scraper gets a zero.  No series is held for longer."""

# A scraper that misses so many of its intervals is gone, and delays the others no longer; but a
# pause of a few seconds is none.
_MISSED_INTERVALS = 3
_SHORTEST_SILENCE = 10.0
_MAX_SCRAPERS = 256


def _ignore(until: float) -> None:
    """Do nothing: nothing keeps what scrapers have seen."""


@dataclass(frozen=True)
class _Scraper:
    last: float
    """When the last scrape read the series."""
    expires: float
    """When it counts as gone, unless it scrapes again."""


class Births:
    """Decides which series are new for the scrapers.  Safe for several threads.

    A series is released for all scrapers at once, when each of them has had its zero.  It is never
    held again afterwards, even for a scraper that is new: a value that returned to 0 would count as
    a reset.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._lock = threading.Lock()
        self._released = math.inf
        self._scrapers: dict[Hashable, _Scraper] = {}
        self.seen: set[tuple[str, tuple[str, ...]]] = set()
        """Metric and labels of probed counters that the scrapers know from an earlier process."""
        self.on_release: Callable[[float], None] = _ignore
        """Called before a scrape shows the values of the series created until a time."""

    @property
    def held_after(self) -> float:
        """The time after which a series was created if it is held; infinity before any scrape."""
        return max(self._released, self.now() - LONGEST_INTERVAL)

    @property
    def released(self) -> float:
        """The time until which the series were created whose values all scrapers get."""
        return self._released if self._released < math.inf else -math.inf

    def restore(self, released: float) -> None:
        """Continue from an earlier process, whose series were released until this time."""
        with self._lock:
            self._released = released

    def scrape(self, scraper: Hashable) -> float:
        """Record that a scraper reads the series now; return `held_after` for this scrape."""
        held_after = self._scrape(scraper)
        self.on_release(held_after)
        return held_after

    def _scrape(self, scraper: Hashable) -> float:
        with self._lock:
            now = self.now()
            alive = {key: one for key, one in self._scrapers.items() if now < one.expires}
            previous = alive.get(scraper)
            if self._released == math.inf:
                self._released = -math.inf
            silence = LONGEST_INTERVAL
            if previous is not None:
                self._released = max(self._released, min(one.last for one in alive.values()))
                missed = _MISSED_INTERVALS * (now - previous.last)
                silence = min(silence, max(_SHORTEST_SILENCE, missed))
            alive[scraper] = _Scraper(now, now + silence)
            self._scrapers = dict(list(alive.items())[-_MAX_SCRAPERS:])
            return self.held_after
