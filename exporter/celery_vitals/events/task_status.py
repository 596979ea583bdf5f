"""What the task events show at one moment, for the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PoisonStatus:
    """The messages of a task and queue that start again and again without an end."""

    task: str
    queue: str
    messages: int
    starts: int
    """The largest number of starts of one message."""


@dataclass(frozen=True)
class TasksStatus:
    """The state of the event stream, and what the task events show."""

    stream_up: bool = False
    stream_reason: str = ""
    """The description of the stream's last failure; empty before the first."""
    connected_since: float | None = None
    """Unix time from which on task events are received without interruption; None during one."""
    watched_since: float | None = None
    """Unix time of the first connection; None before."""
    oldest_waiting: Mapping[str, float] = field(default_factory=dict)
    """Unix time at which the oldest waiting task of a queue was sent."""
    oldest_running: Mapping[str, float] = field(default_factory=dict)
    """Unix time at which the oldest running execution of a task started."""
    last_succeeded: Mapping[str, float] = field(default_factory=dict)
    """Unix time of the last success of a task."""
    names_aggregated: bool = False
    """Whether some tasks have no values of their own: the limit of names is reached."""
    poison: tuple[PoisonStatus, ...] = ()
