"""What moves in a worker: the loop of its consumer, and its pool."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from celery.worker import state

from celery_vitals_pulse.children import child_pids, child_states
from celery_vitals_pulse.main_thread import BrokerWait
from celery_vitals_pulse.settings import Settings

_MIN_ALLOWED = 3.0
"""Seconds without a turn of the loop: without an event loop, one turn takes up to two."""


class WorkerSource:
    """A worker, observed from the thread of its pulse."""

    def __init__(self, worker: Any, conf: Settings) -> None:
        self._worker = worker
        self._conf = conf
        self._tick = min(1.0, conf.interval / 3)
        self._children: set[int] = set()
        self._timer_entry: Any = None
        self._turned_at = time.monotonic()
        self._broker_wait = BrokerWait()
        self._is_green = bool(getattr(worker.pool, "is_green", False))
        self.draining = False
        """Whether the loop has ended and the pool finishes its tasks."""

    def consumer_started(self, consumer: Any) -> None:
        """Observe the loop of a consumer that is connected."""
        self.turned()
        if consumer.hub is None and not self._is_green:
            _count_turns(consumer, self.turned)
        else:
            self._timer_entry = consumer.timer.call_repeatedly(self._tick, self.turned)

    def consumer_stopped(self) -> None:
        """End the observation of the loop: the consumer connects again, or ends."""
        if self._timer_entry is not None:
            self._timer_entry.cancel()
            self._timer_entry = None

    def turned(self) -> None:
        """Record a turn of the loop."""
        self._turned_at = time.monotonic()

    def moves(self) -> bool:
        """Return whether loop and pool move, or wait for a good reason."""
        self._remove_files_of_gone_children()
        return self._loop_moves() and self._pool_moves()

    def _loop_moves(self) -> bool:
        now = time.monotonic()
        if now - self._turned_at <= max(self._conf.interval, _MIN_ALLOWED) or self.draining:
            return True
        consumer = getattr(self._worker, "consumer", None)
        if getattr(consumer, "connection", None) is None:
            return True  # it connects
        return self._pool_blocks_loop() or (not self._is_green and self._broker_wait.waits(now))

    def _pool_blocks_loop(self) -> bool:
        """Return whether the loop waits for the pool, all of whose slots are in use.

        In a solo pool the loop itself runs the task; without an event loop, a full pool blocks it.
        """
        pool = self._worker.pool
        alone = type(pool).__module__ == "celery.concurrency.solo"
        waits = alone or (getattr(self._worker, "hub", None) is None and not self._is_green)
        return waits and len(state.active_requests) >= (getattr(pool, "num_processes", 0) or 1)

    def _remove_files_of_gone_children(self) -> None:
        """Remove the files of killed children, which could not do it."""
        if not self._conf.per_process:
            return
        children = set(child_pids(self._worker.pool))
        self._remove_files(self._children - children)
        self._children = children

    def ended(self) -> None:
        """Remove the files of all children: one that is terminated does not do it."""
        if self._conf.per_process:
            self._remove_files(self._children | set(child_pids(self._worker.pool)))

    def _remove_files(self, pids: set[int]) -> None:
        for pid in pids:
            with suppress(OSError):
                os.unlink(self._conf.path(self._worker.hostname, pid))

    def _pool_moves(self) -> bool:
        """Return False when all children are stopped, or gone."""
        states = child_states(self._worker.pool)
        return not states or any(one not in "TtXZ" for one in states.values())


def _count_turns(consumer: Any, turned: Any) -> None:
    """Call a function in each turn of a consumer's loop that has no event loop."""
    perform = consumer.perform_pending_operations

    def perform_and_count() -> None:
        turned()
        perform()

    consumer.perform_pending_operations = perform_and_count
