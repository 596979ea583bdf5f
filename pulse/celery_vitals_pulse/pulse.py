"""The heartbeat of one process: a thread that touches its file while everything moves."""

from __future__ import annotations

import atexit
import logging
import os
from typing import Protocol

from celery_vitals_pulse.heartbeat_file import HeartbeatFile
from celery_vitals_pulse.native import original

log = logging.getLogger("celery_vitals_pulse")


class Source(Protocol):
    """A part of a process that must move: a worker, or beat."""

    def moves(self) -> bool:
        """Return whether it has moved since the last heartbeat, or waits for a good reason."""

    def ended(self) -> None:
        """Clean up at the end of the process."""


class Pulse:
    """The thread of one process, and its file."""

    def __init__(self, file: HeartbeatFile, interval: float) -> None:
        self.sources: list[Source] = []
        self.pid = os.getpid()
        self._file = file
        self._interval = interval
        self._stopped = False
        self._lock = original("_thread", "allocate_lock")()
        self._failed = False

    def start(self) -> None:
        """Create the file and start the thread, which ends with the process."""
        self._file.replace()
        atexit.register(self.stop)
        original("_thread", "start_new_thread")(self._run, ())

    def stop(self) -> None:
        """End the thread and remove the file; a copy in a forked process does nothing."""
        if os.getpid() != self.pid:
            return
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._file.remove()
                for source in self.sources:
                    source.ended()
        atexit.unregister(self.stop)

    def _run(self) -> None:
        sleep = original("time", "sleep")
        while True:
            sleep(self._interval)
            with self._lock:
                if self._stopped:
                    return
                self._beat()

    def _beat(self) -> None:
        try:
            if all(source.moves() for source in self.sources):
                self._file.touch()
        except Exception:
            if not self._failed:
                self._failed = True
                log.warning("heartbeat failed", exc_info=True)
