"""What is kept of one task while it is followed."""

from __future__ import annotations

from typing import Any

import msgspec

OBSERVED = -1.0
_OVERTAKEN, _OVER = 1, 2


class TaskState(msgspec.Struct, gc=False):
    """One task.  Not tracked by the garbage collector: a million of them would make it stop the world for long."""

    row: Any
    """Its counters (`TaskRow`), once its queue is known; None before."""
    name: Any
    """Its `TaskName`; None while no event has told it."""
    sent: float = 0.0
    """Corrected Unix time at which the present attempt was sent, or its ETA where that is later; 0 while that is not
    known, `OBSERVED` once its wait has been."""
    next_sent: float = 0.0
    """The same of the attempt that comes next: a task that retries is sent again while it still runs."""
    started: float = 0.0
    """Corrected Unix time at which the present attempt began; 0 before."""
    former: float = 0.0
    """When the attempt before this one began, while nobody has told when that one was sent; else 0."""
    attempt: int = 0
    """The number of the present attempt: 0, and one more with each retry."""
    retried: int = 0
    """How many attempts are over by what was told.  It may be told when the next one has begun, or ended, already."""
    host: Any = None
    """The worker (`Host`) on which the present attempt began, or the last one that did."""
    born: float = 0.0
    """When the exporter first heard of it, by its own clock."""
    announced: bool = False
    """Whether its producer has told of sending it."""
    turn: int = 0
    """What was told before the start of the present attempt: that the next one was received (_OVERTAKEN), or that it
    has retried (_OVER)."""
    ended: bool = False
    """Whether its end has been counted: what is told of it twice is not counted twice."""

    def go_on(self, attempt: int) -> None:
        """A further attempt begins.  That may be told before the end of the one that has sent it, or after."""
        self.former = 0.0 if self.sent or attempt > self.attempt + 1 else self.started
        self.attempt, self.started, self.turn = attempt, 0.0, 0
        self.sent, self.next_sent = self.next_sent, 0.0

    def was_received(self, attempt: int) -> None:
        """An attempt was received.  A worker may tell so before it tells that the one before has begun: of the one it
        hears from the broker, of the other from its pool."""
        if attempt == self.attempt + 1 and not self.started and self.turn != _OVER:
            self.turn = _OVERTAKEN
        elif attempt > self.attempt:
            self.go_on(attempt)

    def begins(self, at: float, host: Any) -> None:
        """An attempt began: the present one, or the next where that was received and the present one has begun."""
        if self.started and self.turn == _OVERTAKEN:
            self.go_on(self.attempt + 1)
        self.started, self.host, self.ended = at, host, False

    def has_retried(self) -> None:
        """An attempt is over: the present one, or one before it."""
        self.retried += 1
        if self.retried <= self.attempt:
            return
        if self.started or self.turn == _OVERTAKEN:
            self.go_on(self.attempt + 1)
        else:
            self.turn = _OVER

    def was_sent(self, attempt: int, since: float) -> float:
        """An attempt was sent then.  When that one began, where its wait is over; else 0."""
        began = 0.0
        if attempt > self.attempt:
            self.next_sent = since
        elif attempt == self.attempt and not self.sent:
            self.sent, began = (OBSERVED if self.started else since), self.started
        elif attempt == self.attempt - 1:
            began, self.former = self.former, 0.0
        return began
