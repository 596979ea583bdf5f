"""Whether a thread waits for the broker: an outage of the broker must not restart workers."""

from __future__ import annotations

import sys
import time

from celery_vitals_pulse.native import original

_STANDARD = {"contextlib", "functools", "select", "selectors", "socket", "ssl", "threading", "time"}
_BROKER_CLIENTS = {"amqp", "boto3", "botocore", "kombu", "librabbitmq", "redis", "vine"}
_LOOPS = ("kombu.asynchronous", "kombu.utils.eventio")
"""Parts of kombu in which a thread waits for anything, not for an answer of the broker."""
WAIT_LIMIT = 600.0
"""Seconds without any CPU time of the thread after which it hangs rather than waits."""


class BrokerWait:
    """Inspects the thread that creates it, from another one."""

    def __init__(self) -> None:
        self._thread = original("_thread", "get_ident")()
        self._used = -1.0
        self._since = 0.0
        get_clock = getattr(time, "pthread_getcpuclockid", None)
        self._clock = None if get_clock is None else get_clock(self._thread)

    def waits(self, now: float) -> bool:
        """Return whether the thread waits in a client of the broker, and not for too long."""
        if not self._in_client():
            self._used = -1.0
            return False
        used = 0.0 if self._clock is None else time.clock_gettime(self._clock)
        if used != self._used:
            self._used, self._since = used, now
        return now - self._since < WAIT_LIMIT

    def _in_client(self) -> bool:
        frame = sys._current_frames().get(self._thread)
        while frame is not None:
            module = str(frame.f_globals.get("__name__", ""))
            root = module.partition(".")[0]
            if root not in _STANDARD:
                return root in _BROKER_CLIENTS and not module.startswith(_LOOPS)
            frame = frame.f_back
        return False
