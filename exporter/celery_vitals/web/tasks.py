"""The path /tasks: the running and scheduled tasks of all workers, as JSON.

docs/schemas/tasks.json describes the response, docs/tasks.md its use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from celery_vitals.events.decode import parse_eta
from celery_vitals.metrics.base import label_text
from celery_vitals.web.documents import (
    ValidRequest,
    check_parameters,
    encoded,
    json_response,
    time_or_null,
)
from celery_vitals.workers.task_lists import ListedTask, TaskState

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.responses import Response

    from celery_vitals.collectors.task_list import TaskList, WorkerTasks

MAX_ROWS = 1000
"""Tasks, and workers, in a response; the others are counted."""
MAX_AGE = 3.0
"""Seconds for which the results of a round are reused."""
_MAX_QUERIES = 16
"""Queries whose response is kept until the next round."""
_PARAMETERS = ("worker", "task", "queue", "state")
_STATES = [state.value for state in TaskState]
Filters = Mapping[str, frozenset[str]]


class Tasks:
    """Responds with the tasks of the last round."""

    def __init__(self, task_list: Callable[[], TaskList], refresh: Callable[[float], None]) -> None:
        self._task_list = task_list
        self._refresh = partial(refresh, MAX_AGE)
        self._encoded: tuple[TaskList | None, dict[Any, bytes]] = None, {}

    def __call__(self, query: QueryParams) -> ValidRequest:
        """Interpret a query; HTTPException when it is invalid."""
        check_parameters(query, _PARAMETERS)
        if not set(query.getlist("state")) <= set(_STATES):
            raise HTTPException(
                400, f"state: unknown state (expected one of: {', '.join(_STATES)})"
            )
        filters = {name: frozenset(query.getlist(name)) for name in _PARAMETERS if name in query}
        return ValidRequest(partial(self._respond, filters), self._refresh)

    def _respond(self, filters: Filters) -> Response:
        listed = self._task_list()
        age = max(0.0, time.time() - listed.at) if listed.at is not None else None
        head = encoded({"time": time_or_null(listed.at), "age_seconds": age and round(age, 3)})
        return json_response(head[:-1] + b", " + self._content(listed, filters)[1:])

    def _content(self, listed: TaskList, filters: Filters) -> bytes:
        if self._encoded[0] is not listed:
            self._encoded = listed, {}
        key = tuple(sorted((name, tuple(sorted(values))) for name, values in filters.items()))
        known = self._encoded[1]
        if key not in known:
            if len(known) >= _MAX_QUERIES:
                known.clear()
            known[key] = encoded(_document(listed, filters))
        return known[key]


def _document(listed: TaskList, filters: Filters) -> dict[str, Any]:
    chosen = [one for one in listed.tasks if _matches(one, filters)]
    names = filters.get("worker")
    workers = [one for one in listed.workers if names is None or label_text(one.worker) in names]
    unanswered = any(not one.replied for one in listed.workers)
    return {
        "complete": not (
            listed.at is None or listed.reason or unanswered or listed.dropped or listed.discarded
        ),
        "reason": listed.reason or None,
        "counts": _counts(workers, None if set(filters) <= {"worker"} else chosen),
        "workers": [_worker(one) for one in workers[:MAX_ROWS]],
        "discarded_replies": listed.discarded,
        "dropped": listed.dropped,
        "omitted": max(0, len(chosen) - MAX_ROWS),
        "tasks": [_task(one) for one in chosen[:MAX_ROWS]],
    }


def _counts(
    workers: Sequence[WorkerTasks], chosen: Sequence[ListedTask] | None
) -> dict[str, int | None]:
    """Return the number of tasks in each state; None where no worker is known to have any."""
    counts: dict[str, int | None] = {}
    for state in TaskState:
        numbers = [one.running if state is TaskState.RUNNING else one.scheduled for one in workers]
        known = [number for number in numbers if number is not None]
        found = sum(known) if chosen is None else sum(one.state is state for one in chosen)
        counts[state.value] = found if known else None
    return counts


def _matches(one: ListedTask, filters: Filters) -> bool:
    values = {
        "worker": label_text(one.worker),
        "task": one.task,
        "queue": one.queue,
        "state": one.state.value,
    }
    return all(values[name] in chosen for name, chosen in filters.items())


def _worker(one: WorkerTasks) -> dict[str, Any]:
    return {
        "worker": one.worker,
        "replied": one.replied,
        "source": "events" if one.by_events else "worker" if one.replied else None,
        "running": one.running,
        "scheduled": one.scheduled,
    }


def _task(one: ListedTask) -> dict[str, Any]:
    running = one.state is TaskState.RUNNING
    eta = parse_eta(one.at, 0.0, 0.0) if isinstance(one.at, str) else None
    started = one.at if isinstance(one.at, float) else None
    row: dict[str, Any] = {
        "state": one.state.value,
        "worker": one.worker,
        "task": one.task or None,
        "id": one.uuid or None,
        "queue": one.queue or None,
        "started": time_or_null(started) if running else None,
        "eta": time_or_null(eta),
        "source": "events" if one.by_events else "worker",
    }
    if one.arguments is not None:
        row["args"], row["kwargs"] = one.arguments
    return row
