"""Runs the probe of one collector: single-flight, within a deadline, with reuse of its result."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from celery_vitals.deadline import Deadline
from celery_vitals.errors import Reason
from celery_vitals.reasons import reason_of
from celery_vitals.secrets import redact_urls

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_MARGIN = 0.1
"""The part of a run's time that the probe does not get, so that it can end by itself and return
what it has."""


@dataclass(frozen=True)
class Outcome(Generic[_T]):
    """The result of one run."""

    value: _T | None
    reason: Reason | None
    """None for success."""
    detail: str
    """The error as text; empty after a success."""
    seconds: float
    finished_at: float
    """Unix time."""


class Run(Generic[_T]):
    """One run of a probe, in a daemon thread: a library may hang without a timeout."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.started = time.monotonic()
        self.thread_ended = False
        self.ended = threading.Event()
        self.outcome: Outcome[_T] | None = None

    def finish(self, value: _T | None, reason: Reason | None = None, detail: str = "") -> None:
        """Record the outcome."""
        self.outcome = Outcome(value, reason, detail, time.monotonic() - self.started, time.time())
        self.ended.set()

    @property
    def age(self) -> float:
        """Seconds since the run ended."""
        return time.monotonic() - self.started - (self.outcome.seconds if self.outcome else 0.0)


class ProbeRunner(Generic[_T]):
    """The runner of one probe, which runs at most once at a time.

    Concurrent callers share a run, and so do later callers that accept its age.  A run that exceeds
    its deadline is abandoned, and no other starts until its thread has ended: hanging probes do not
    accumulate.
    """

    def __init__(self, name: str, limit: float, measure: Callable[[Deadline], _T]) -> None:
        self.name = name
        self._limit = limit
        self._measure = measure
        self._lock = threading.Lock()
        self._run: Run[_T] | None = None
        self._abandoned: Run[_T] | None = None
        self._last_outcome: Outcome[_T] | None = None
        self._last_success: float | None = None
        self._failures: Counter[Reason] = Counter()
        self._pending_logs: deque[tuple[int, str]] = deque()
        self._logging = threading.Lock()

    def start_or_join(self, deadline: Deadline, max_age: float) -> Run[_T]:
        """Start a run, or return the current one, or one that ended `max_age` seconds ago at most.

        Does not block.
        """
        with self._lock:
            run = self._run
            if run is not None:
                self._abandon_if_overdue(run)
                if run.outcome is None or run.age < max_age:
                    return run
            run = self._run = Run(deadline.within(self._limit))
            if self._abandoned is not None and not self._abandoned.thread_ended:
                run.thread_ended = True
                self._finish(run, None, Reason.STUCK, "the previous attempt still hangs")
                return run
            thread = threading.Thread(
                target=self._work, args=(run,), name=f"celery-vitals-{self.name}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the operating system refuses another thread
                run.thread_ended = True
                self._finish(run, None, Reason.INTERNAL, str(error))
            return run

    def wait(self, run: Run[_T], deadline: Deadline) -> Outcome[_T] | None:
        """Return the outcome of a run; None when `deadline` passes before the run's own."""
        run.ended.wait(min(deadline, run.deadline).remaining)
        with self._lock:
            self._abandon_if_overdue(run)
        self._log_pending()
        return run.outcome

    @property
    def last_outcome(self) -> Outcome[_T] | None:
        """The outcome of the last finished run."""
        return self._last_outcome

    @property
    def last_success(self) -> float | None:
        """Unix time of the last success."""
        return self._last_success

    @property
    def failures(self) -> dict[Reason, int]:
        """Number of failed runs by reason."""
        with self._lock:
            return dict(self._failures)

    @property
    def idle(self) -> bool:
        """Whether no thread of this runner is running."""
        with self._lock:
            return all(run is None or run.thread_ended for run in (self._run, self._abandoned))

    def _abandon_if_overdue(self, run: Run[_T]) -> None:
        if run.outcome is None and run.deadline.passed:
            self._abandoned = run
            self._finish(run, None, Reason.TIMEOUT, "no response within the deadline")

    def _work(self, run: Run[_T]) -> None:
        value, reason, detail = None, None, ""
        try:
            value = self._measure(run.deadline.within(run.deadline.remaining * (1 - _MARGIN)))
        except BaseException as error:
            reason, detail = reason_of(error), redact_urls(f"{type(error).__name__}: {error}")
            log.debug("collector %s failed", self.name, exc_info=True)
        with self._lock:
            run.thread_ended = True
            if run.outcome is None:
                self._finish(run, value, reason, detail)
        self._log_pending()

    def _finish(self, run: Run[_T], value: _T | None, reason: Reason | None, detail: str) -> None:
        run.finish(value, reason, detail)
        before, self._last_outcome = self._last_outcome, run.outcome
        known = None if before is None else before.reason
        if reason is None:
            self._last_success = time.time()
            if known is not None:
                self._pending_logs.append((logging.INFO, f"collector {self.name} works again"))
            return
        self._failures[reason] += 1
        # A hanging probe alternates between TIMEOUT and STUCK: that is one state.
        if known is None or (known is not reason and Reason.STUCK not in (known, reason)):
            self._pending_logs.append(
                (logging.WARNING, f"collector {self.name} fails ({reason.value}): {detail}")
            )

    def _log_pending(self) -> None:
        """Log state changes in their order; without the runner's lock: a log handler may be slow.

        A thread that finds another one logging leaves its lines to that one.
        """
        while self._pending_logs and self._logging.acquire(blocking=False):
            try:
                while self._pending_logs:
                    level, text = self._pending_logs.popleft()
                    log.log(level, "%s", text)
            finally:
                self._logging.release()
