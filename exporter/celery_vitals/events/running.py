"""The executions that run now, by their events."""

from __future__ import annotations

from typing import NamedTuple


class RunningExecution(NamedTuple):
    """An execution that has started and not ended."""

    worker: str
    task: str
    uuid: str
    queue: str
    """`unknown` where it is."""
    started_at: float
    """Unix time, by the clock of the exporter."""
