"""One execution: one delivery of a message, from its sending to its end."""

from __future__ import annotations

from typing import Any, Optional

import msgspec

from celery_vitals.events.account import ENDED, WAITING, Account

OBSERVED = -1.0
"""`Execution.sent_at` once its wait has been observed."""
UNKNOWN_ATTEMPT = -1
"""`Execution.attempt` before an event has contained it."""


class Execution(msgspec.Struct, gc=False, eq=False):
    """One message from its sending to the end of its execution.

    Excluded from garbage collection: a million tracked objects would cause long pauses.
    """

    uuid: str
    name: Any
    """Its `TaskName`; that of unknown tasks until an event contains the name."""
    series: Any
    """Its `TaskSeries`."""
    attempt: int = UNKNOWN_ATTEMPT
    """Number of retries before it."""
    sent_at: float = 0.0
    """Corrected Unix time at which it was sent, or its ETA where that is later; 0 while unknown,
    `OBSERVED` once its wait has been observed."""
    seen_at: float = 0.0
    """When its first event arrived, or its task-received event, by the exporter's clock."""
    sent_event_seen: bool = False
    """Whether its task-sent event has arrived."""
    worker: Any = None
    """The `WorkerTracker` that received it; None while the broker has it."""
    started_at: float = 0.0
    """Corrected Unix time at which it started; 0 before."""
    state: int = WAITING
    """One of `events/account.py`."""
    starts: int = 0
    """Starts of its message that had no end, and its own."""
    following: Optional[Execution] = None  # noqa: UP045 - resolved at runtime, on Python 3.9 too
    """The next execution with the same uuid."""

    @property
    def ended(self) -> bool:
        """Whether its end has been counted."""
        return self.state >= ENDED

    def enter(self, state: int = WAITING) -> None:
        """Enter the account of its series, without a task-sent event so far."""
        account: Account = self.series.account
        self.state = state
        account.counts[state] += 1
        account.without_sent_event += 1

    def move(self, state: int) -> None:
        """Change its state; one that has ended stays so."""
        if self.state < ENDED:
            counts = self.series.account.counts
            counts[self.state] -= 1
            counts[state] += 1
            self.state = state

    def assign(self, series: Any) -> None:
        """Count it on this series from now on."""
        before, account = self.series.account, series.account
        self.series = series
        if account is not before:
            if self.state < ENDED:
                before.counts[self.state] -= 1
                account.counts[self.state] += 1
            before.without_sent_event -= 1
            account.without_sent_event += 1

    def release(self, state: int = WAITING) -> None:
        """Treat it as not known to run: the broker, or else a worker, has its message."""
        self.move(state)
        self.worker, self.started_at = None, 0.0

    def delivers_again(self, other: Execution) -> bool:
        """Return whether it is another execution of the same message, or of an equal one."""
        return other is not self and other.name is self.name and other.attempt == self.attempt
