"""The tasks that a worker runs or holds for later, from its replies to `active` and `scheduled`."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from celery_vitals.metrics.base import label_text

_MAX_TEXT = 255
"""Characters of a name, an id or a queue; no real one is longer."""
_MAX_ARGUMENTS = 200
MAX_ROWS = 1000
"""Tasks that are kept of one reply; all of them are counted."""
_shortener = reprlib.Repr()
_shortener.maxstring = _shortener.maxother = _MAX_ARGUMENTS


class TaskState(str, Enum):
    """What a worker does with a task."""

    RUNNING = "running"
    SCHEDULED = "scheduled"


@dataclass(frozen=True)
class ListedTask:
    """One task of a worker; empty text is unknown."""

    state: TaskState
    worker: str
    task: str
    uuid: str
    queue: str
    at: float | str | None
    """When it started, in Unix seconds; or its ETA, as text."""
    by_events: bool = False
    """Whether events report it, instead of the worker."""
    arguments: tuple[str, str] | None = None
    """Positional and keyword arguments as text; None unless they are asked for."""


@dataclass(frozen=True)
class TaskReply:
    """The tasks in one reply of a worker."""

    count: int
    tasks: tuple[Mapping[str, Any], ...]
    """The first of them, as the worker has sent them."""

    def __add__(self, other: TaskReply | None) -> TaskReply:
        """Add that of another process with the same name."""
        if other is None:
            return self
        return TaskReply(self.count + other.count, (*other.tasks, *self.tasks)[:MAX_ROWS])


def task_reply(body: Any) -> TaskReply | None:
    """Return the bounded content of a reply; None for an error in its place."""
    if not isinstance(body, list):
        return None
    tasks = [one for one in body if isinstance(one, dict)]
    return TaskReply(len(tasks), tuple(tasks[:MAX_ROWS]))


def listed_tasks(
    worker: str, state: TaskState, reply: TaskReply, queues: Iterable[str] | None, arguments: bool
) -> Iterator[ListedTask]:
    """Yield the tasks of a reply; `queues` are those that the worker consumes, if known."""
    consumed = frozenset(queues or ())
    for one in reply.tasks:
        scheduled = state is TaskState.SCHEDULED
        request = one.get("request") if scheduled else one
        if not isinstance(request, dict):
            continue
        yield ListedTask(
            state,
            worker,
            _text(request.get("name")),
            _text(request.get("id")),
            _queue(request.get("delivery_info"), consumed),
            _text(one.get("eta")) if scheduled else _seconds(request.get("time_start")),
            arguments=(_shown(request.get("args")), _shown(request.get("kwargs")))
            if arguments
            else None,
        )


def _text(value: object) -> str:
    return label_text(value)[:_MAX_TEXT] if isinstance(value, str) else ""


def _seconds(value: object) -> float | None:
    known = isinstance(value, (int, float)) and 0 < value < 1e11
    return float(value) if known else None  # type: ignore[arg-type]


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else _shortener.repr(value)
    return label_text(text[:_MAX_ARGUMENTS])


def _queue(delivery: object, consumed: frozenset[str]) -> str:
    """Return the queue of a task: the worker reports its routing key only."""
    key = _text(delivery.get("routing_key")) if isinstance(delivery, dict) else ""
    if key in consumed:
        return key
    return next(iter(consumed)) if len(consumed) == 1 else ""
