"""What moves in beat: the ticks of its scheduler, of any class."""

from __future__ import annotations

import time
from typing import Any

from celery_vitals_pulse.main_thread import BrokerWait


class BeatSource:
    """Beat, observed from the thread of its pulse."""

    def __init__(self, service: Any, interval: float) -> None:
        self._interval = interval
        self._broker_wait = BrokerWait()
        self._in_tick = False
        self._changed_at = time.monotonic()
        self._wait = 0.0
        """Seconds that the scheduler sleeps after its last tick."""
        scheduler = service.scheduler
        self._tick = scheduler.tick
        scheduler.tick = self._observed_tick  # of this object: any class may have its own

    def ended(self) -> None:
        """Do nothing: beat has one process."""

    def moves(self) -> bool:
        """Return whether the scheduler ticks, sleeps until it is due, or waits for the broker."""
        now = time.monotonic()
        allowed = max(self._interval, 1.0) + (0.0 if self._in_tick else self._wait)
        return now - self._changed_at <= allowed or self._broker_wait.waits(now)

    def _observed_tick(self, *args: Any, **kwargs: Any) -> Any:
        self._in_tick, self._changed_at = True, time.monotonic()
        wait: Any = None
        try:
            wait = self._tick(*args, **kwargs)
            return wait
        finally:
            self._wait = float(wait) if isinstance(wait, (int, float)) else 0.0
            self._in_tick, self._changed_at = False, time.monotonic()
