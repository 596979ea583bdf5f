"""Messages that a worker discards because it has no task of their name, by name and producer.

The worker reports a failure with `NotRegistered('project.add')`, and nothing else.  The producer is
in the task-sent event, which may arrive later.
"""

from __future__ import annotations

import ast
import re
from collections import OrderedDict

from celery_vitals.events.decode import Event
from celery_vitals.events.executions import is_due
from celery_vitals.events.task_name import TaskName

_REPR = re.compile(r"NotRegistered\((['\"].{1,1000}['\"])\)", re.DOTALL)
_WAIT = 5.0
"""Seconds for which the task-sent event of a discarded message is awaited."""
_MAX_KEPT = 10_000


def unregistered_name(event: Event) -> str | None:
    """Return the name in a worker's report that it has no task of this name; else None."""
    found = _REPR.fullmatch(event.exception or "")
    if found is None or event.traceback:
        return None
    try:
        name = ast.literal_eval(found[1])
    except (ValueError, SyntaxError):
        return None
    return name if isinstance(name, str) else None


class UnregisteredTasks:
    """The messages of tasks that may be unregistered, and those that are.  For one thread."""

    def __init__(self) -> None:
        self._producers = OrderedDict[str, str]()
        """The producer of each message whose task no worker has received so far, by uuid."""
        self._awaiting: dict[str, tuple[float, list[TaskName]]] = {}
        """Discarded messages whose task-sent event is awaited until that time, by uuid."""
        self._reported = OrderedDict[tuple[str, str, float], None]()

    def sent(self, uuid: str, producer: str) -> None:
        """Record the producer of a message that may be discarded."""
        _, names = self._awaiting.pop(uuid, (0.0, []))
        for name in names:
            name.count_unregistered(producer)
        if not names:
            self._producers[uuid] = producer
            _limit(self._producers)

    def discarded(self, event: Event, name: TaskName, now: float) -> bool:
        """Count a discarded message; return False for an event that is a duplicate."""
        key = event.uuid, event.hostname, event.timestamp
        if key in self._reported:
            return False
        self._reported[key] = None
        _limit(self._reported)
        name.unregistered = True
        producer = self._producers.pop(event.uuid, "") or name.only_producer or ""
        if producer or len(self._awaiting) >= _MAX_KEPT:
            name.count_unregistered(producer)
        else:
            self._awaiting.setdefault(event.uuid, (now + _WAIT, []))[1].append(name)
        return True

    def expire(self, now: float) -> None:
        """Count the discarded messages whose task-sent event has not arrived."""
        for uuid, (until, names) in list(self._awaiting.items()):
            if not is_due(until, now, _WAIT):
                break
            del self._awaiting[uuid]
            for name in names:
                name.count_unregistered("")


def _limit(entries: OrderedDict[str, str] | OrderedDict[tuple[str, str, float], None]) -> None:
    if len(entries) > _MAX_KEPT:
        entries.popitem(last=False)
