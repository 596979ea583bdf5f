"""The scrape intervals of the clients, which decide how long results are reused.

With half of the shortest interval, two Prometheus servers cause one round of probes per interval,
whatever their phases, and any number of servers causes two at most.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_SHORTEST_REUSE = 1.0
_LONGEST_REUSE = 15.0
_MAX_CLIENTS = 256
# A client that has missed its next scrape no longer counts.
_MISSED = 2.0


class ScrapeIntervals:
    """The time between the scrapes of each client."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: OrderedDict[int, tuple[float, float | None]] = OrderedDict()
        """The time of the last scrape, and the interval before it, by client."""

    def reuse_for(self, client: int | None) -> float:
        """Record a scrape by `client`, and return the age up to which it may reuse results."""
        now = self._clock()
        with self._lock:
            if client is not None:
                self._record(client, now)
            intervals = [
                interval
                for last, interval in self._last.values()
                if interval is not None and now - last < _MISSED * interval
            ]
        return max(_SHORTEST_REUSE, min(_LONGEST_REUSE, min(intervals, default=0.0) / 2))

    def _record(self, client: int, now: float) -> None:
        before = self._last.pop(client, None)
        self._last[client] = (now, now - before[0] if before else None)
        while len(self._last) > _MAX_CLIENTS:
            self._last.popitem(last=False)
