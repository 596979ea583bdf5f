"""The part of a checker that belongs to one process: its thread and its last result."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress

from celery_vitals.deadline import Deadline
from celery_vitals.integrations.results import HealthResult
from celery_vitals.integrations.rounds import Counts, Rounds
from celery_vitals.probe_runner import ProbeRunner, Run

log = logging.getLogger(__name__)

_RETRY = 1.0
"""Seconds between two rounds in the background when the first one fails."""
_POLL = 0.25
"""Seconds between two looks at a round that runs."""


class CheckerProcess:
    """Runs the rounds of one process, one at a time, in a thread that can be abandoned."""

    def __init__(self, rounds: Rounds, interval: float, result: HealthResult | None) -> None:
        self.result = result
        self.counts = Counts()
        self.runner = ProbeRunner("HealthChecker", rounds.limit, self._round)
        self._rounds = rounds
        self._interval = interval
        self._wanted = -math.inf
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._monitor: threading.Thread | None = None

    @property
    def monitored(self) -> bool:
        """Whether the thread in the background runs."""
        return self._monitor is not None and self._monitor.is_alive()

    @property
    def due_in(self) -> float:
        """Seconds until the last result is older than the interval."""
        return 0.0 if self.result is None else self._interval - self.result.age

    def start_round(self, wanted: float, background: bool = False) -> Run[None]:
        """Start a round, or join the one that runs.

        The next one begins with the latest `wanted`; in the background, not soon after a failure.
        """
        with self._lock:
            self._wanted = max(self._wanted, wanted)
        max_age = _RETRY if background else 0.0
        return self.runner.start_or_join(Deadline.after(self._rounds.limit), max_age)

    def _round(self, _: Deadline) -> None:
        with self._lock:
            wanted = self._wanted
        self.result = self._rounds.run(wanted, self.counts)

    def monitor(self) -> None:
        """Start the thread in the background unless it runs."""
        if self.monitored:
            return
        with self._lock:
            if self.monitored:
                return
            self._stopping = threading.Event()
            self._monitor = threading.Thread(
                target=self._watch, args=(self._stopping,), name="celery-vitals-health", daemon=True
            )
            with suppress(RuntimeError):  # no further thread; each read tries again
                self._monitor.start()

    def _watch(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            pause = self.due_in
            if pause <= 0:
                run = self.start_round(time.monotonic() - self._interval, background=True)
                done = self.runner.wait(run, Deadline.after(_POLL))
                pause = 0.0 if done is None else max(self.due_in, _POLL)
            stopping.wait(pause)

    def stop(self, deadline: Deadline) -> bool:
        """Stop the thread in the background; return whether it and the last round have ended."""
        with self._lock:
            thread, self._monitor = self._monitor, None
            self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(deadline.remaining)
        while not self.runner.idle and not deadline.passed:
            time.sleep(_POLL / 10)
        return self.runner.idle
