"""A lane runs one probe, at most one run at a time, and shares each run with everyone who asks meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from celery_vitals.deadline import Deadline
from celery_vitals.errors import Reason, reason_of
from celery_vitals.secrets import redact_urls

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_MARGIN = 0.1
"""The part of its time that a run is not told of, so that it can end by itself and give what it has."""


@dataclass(frozen=True)
class Outcome(Generic[_T]):
    """How one run ended."""

    value: _T | None
    reason: Reason | None
    """None when it succeeded."""
    detail: str
    """The error in words, for the log and the page."""
    seconds: float
    finished_at: float
    """Unix time."""


class _Run(Generic[_T]):
    """One run of a probe, in a daemon thread: whatever can hang without a timeout must not hold up anybody."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.started = time.monotonic()
        self.thread_ended = False
        self.ended = threading.Event()
        self.outcome: Outcome[_T] | None = None

    def finish(self, value: _T | None, reason: Reason | None = None, detail: str = "") -> None:
        self.outcome = Outcome(value, reason, detail, time.monotonic() - self.started, time.time())
        self.ended.set()

    @property
    def age(self) -> float:
        """Seconds since the run ended."""
        return time.monotonic() - self.started - (self.outcome.seconds if self.outcome else 0.0)


class ProbeRunner(Generic[_T]):
    """The runs of one probe.

    A run is shared by all who ask while it goes on and for `min_interval` seconds after its end.  One that overruns its
    deadline is given up, and no other begins until its thread has ended: hung probes never pile up.
    """

    def __init__(
        self, name: str, limit: float, min_interval: float, measure: Callable[[Deadline], _T]
    ) -> None:
        self.name = name
        self._limit = limit
        self._min_interval = min_interval
        self._measure = measure
        self._lock = threading.Lock()
        self._run: _Run[_T] | None = None
        self._hung: _Run[_T] | None = None
        self._last: Outcome[_T] | None = None
        self._last_success: float | None = None
        self._failures: Counter[Reason] = Counter()
        self._untold: deque[tuple[int, str]] = deque()

    def begin(self, deadline: Deadline) -> _Run[_T]:
        """Start a run, or join the one that goes on or has just ended.  Returns at once."""
        with self._lock:
            run = self._run
            if run is not None:
                self._give_up_if_due(run)
                if run.outcome is None or run.age < self._min_interval:
                    return run
            run = self._run = _Run(deadline.within(self._limit))
            if self._hung is not None and not self._hung.thread_ended:
                run.thread_ended = True
                self._settle(run, None, Reason.STUCK, "the attempt before this one still hangs")
                return run
            thread = threading.Thread(
                target=self._work, args=(run,), name=f"celery-vitals-{self.name}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more threads
                run.thread_ended = True
                self._settle(run, None, Reason.INTERNAL, str(error))
            return run

    def wait(self, run: _Run[_T], deadline: Deadline) -> Outcome[_T] | None:
        """The outcome of a run; None when `deadline` comes before the run's own."""
        run.ended.wait(min(deadline, run.deadline).remaining)
        with self._lock:
            self._give_up_if_due(run)
        self._tell()
        return run.outcome

    @property
    def last(self) -> Outcome[_T] | None:
        """How the last finished run ended."""
        return self._last

    @property
    def last_success(self) -> float | None:
        """When a run last succeeded, in Unix time."""
        return self._last_success

    @property
    def failures(self) -> dict[Reason, int]:
        """Failed runs so far, by reason."""
        with self._lock:
            return dict(self._failures)

    @property
    def idle(self) -> bool:
        """Whether no thread of this lane is at work."""
        with self._lock:
            return all(run is None or run.thread_ended for run in (self._run, self._hung))

    def _give_up_if_due(self, run: _Run[_T]) -> None:
        if run.outcome is None and run.deadline.passed:
            self._hung = run
            self._settle(run, None, Reason.TIMEOUT, "no answer in time")

    def _work(self, run: _Run[_T]) -> None:
        value, reason, detail = None, None, ""
        try:
            value = self._measure(run.deadline.within(run.deadline.remaining * (1 - _MARGIN)))
        except BaseException as error:
            reason, detail = reason_of(error), redact_urls(f"{type(error).__name__}: {error}")
            log.debug("collector %s failed", self.name, exc_info=True)
        with self._lock:
            run.thread_ended = True
            if run.outcome is None:
                self._settle(run, value, reason, detail)
        self._tell()

    def _settle(self, run: _Run[_T], value: _T | None, reason: Reason | None, detail: str) -> None:
        run.finish(value, reason, detail)
        before, self._last = self._last, run.outcome
        known = None if before is None else before.reason
        if reason is None:
            self._last_success = time.time()
            if known is not None:
                self._untold.append((logging.INFO, f"collector {self.name} works again"))
            return
        self._failures[reason] += 1
        # Time after time a hanging probe is given up, then stuck, then given up: that is one state.
        if known is None or (known is not reason and Reason.STUCK not in (known, reason)):
            self._untold.append(
                (logging.WARNING, f"collector {self.name} fails ({reason.value}): {detail}")
            )

    def _tell(self) -> None:
        """Log what has happened, never under the lock: whoever takes the line may be slow."""
        while self._untold:
            level, text = self._untold.popleft()
            log.log(level, "%s", text)
