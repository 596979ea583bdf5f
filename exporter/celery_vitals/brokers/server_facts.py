"""What a broker reports about its own configuration: for the audit, not for scrapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DeclaredQueue:
    """A queue as it exists on the broker."""

    name: str
    kind: str
    """classic, quorum or stream."""
    durable: bool
    arguments: Mapping[str, Any]
    policy: Mapping[str, Any]
    """What the policies of the broker add."""
    messages: int | None = None
    consumers: int | None = None

    def argument(self, name: str) -> Any:
        """Return an argument, without its `x-`, or what a policy sets instead."""
        return self.arguments.get(f"x-{name}", self.policy.get(name))


@dataclass(frozen=True)
class HeldTask:
    """A task that waits for its ETA inside a worker, its message unacknowledged."""

    task: str
    eta: str
    """ISO 8601."""


@dataclass(frozen=True)
class ServerFacts:
    """What is known; None for an unknown value."""

    version: str = ""
    info: Mapping[str, str | int | float] | None = None
    """Redis: the used part of INFO."""
    config: Mapping[str, str] | None = None
    """Redis: the used part of CONFIG GET."""
    held: tuple[HeldTask, ...] | None = None
    """Redis: a sample of the tasks with an ETA."""
    queues: Mapping[str, DeclaredQueue] | None = None
    """RabbitMQ: the queues of the virtual host."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why `info`, `config`, `held` or `queues` is unknown."""
