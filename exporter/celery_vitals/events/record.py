"""What is kept of one task while it is followed."""

from __future__ import annotations

from typing import Any

import msgspec


class Record(msgspec.Struct, gc=False):
    """One task.  Not tracked by the garbage collector: a million of them would make it stop the world for long."""

    row: Any
    """Its counters (`TaskRow`), once its queue is known; None before."""
    name: Any
    """Its `TaskName`; None while no event has told it."""
    sent: float = 0.0
    """Corrected Unix time at which the present attempt was sent, or its ETA where that is later; 0 when that is not
    known, or the wait has been observed."""
    next_sent: float = 0.0
    """The same of the attempt that comes next: a task that retries is sent again while it still runs."""
    started: float = 0.0
    """Corrected Unix time at which the present attempt began; 0 before."""
    attempt: int = 0
    """The highest number of retries seen."""
    born: float = 0.0
    """When the exporter first heard of it, by its own clock."""
    announced: bool = False
    """Whether its producer has told of sending it."""
    ended: bool = False
    """Whether its end has been counted: what is told of it twice is not counted twice."""
