"""The path /stats: what has been counted of each task, as JSON.

docs/schemas/stats.json describes the response, docs/tasks.md its use.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from celery_vitals.events.task_totals import COUNTERS, HISTOGRAMS, TIMES, TaskTotals, TotalsList
from celery_vitals.metrics.distribution import Distribution, Quantile
from celery_vitals.web.documents import (
    ValidRequest,
    blind_spots,
    check_parameters,
    encoded,
    json_response,
    time_or_null,
    watching,
)

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.responses import Response

MAX_ROWS = 1000
"""Tasks in a response; the others are counted."""
_MAX_AGE = 1.0
"""Seconds for which the numbers are reused: a busy cluster has 200,000 series."""
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_PARAMETERS = ("task",)


@dataclass(frozen=True)
class _Numbers:
    """The encoded numbers of all tasks at one moment."""

    head: bytes
    """The document, without its end and its tasks."""
    rows: dict[str, bytes]
    """By task, those with the largest numbers of executions first."""


class Stats:
    """Responds with the numbers of tasks.  Thread-safe."""

    def __init__(self, totals: Callable[[], TotalsList]) -> None:
        self._totals = totals
        self._lock = threading.Lock()
        self._numbers = _Numbers(b"", {})
        self._taken_at = -math.inf

    def __call__(self, query: QueryParams) -> ValidRequest:
        """Interpret a query; HTTPException when it is invalid."""
        check_parameters(query, _PARAMETERS)
        return ValidRequest(partial(self._respond, query.getlist("task")), self._refresh)

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._taken_at >= _MAX_AGE:
                self._numbers = _numbers(self._totals(), time.time())
                self._taken_at = time.monotonic()

    def _respond(self, tasks: Sequence[str]) -> Response:
        numbers = self._numbers
        rows = numbers.rows
        chosen = [rows[task] for task in dict.fromkeys(tasks) if task in rows] or (
            [] if tasks else list(rows.values())
        )
        omitted = max(0, len(chosen) - MAX_ROWS)
        return json_response(
            b'%s, "omitted": %d, "tasks": [%s]}'
            % (numbers.head[:-1], omitted, b", ".join(chosen[:MAX_ROWS]))
        )


def _numbers(counted: TotalsList, now: float) -> _Numbers:
    total = TaskTotals("")
    for one in counted.tasks.values():
        total.merge(one)
    # Before the first event nothing is known: 0 would state that no task has run.
    observed = counted.counted_since is not None or bool(counted.tasks)
    head = {
        "time": time_or_null(now),
        "since": time_or_null(counted.counted_since),
        "watching": watching(counted.stream_up, counted.watched_since, counted.connected_since),
        "blind_spots": blind_spots(counted.blind_spots),
        "count": len(counted.tasks),
        "total": _values(total) if observed else None,
    }
    ordered = sorted(
        counted.tasks.values(),
        key=lambda one: (-one.counts["started"], -one.counts["received"], one.task),
    )
    return _Numbers(
        encoded(head), {one.task: encoded({"task": one.task, **_values(one)}) for one in ordered}
    )


def _values(totals: TaskTotals) -> dict[str, Any]:
    counts: dict[str, int | None] = {name: totals.counts[name] for name in COUNTERS}
    if not totals.sent_known:
        counts["sent"] = None
    return {
        **counts,
        "running": totals.running,
        "waiting": totals.waiting if totals.sent_known else None,
        "held": totals.held,
        "orphaned": totals.orphaned,
        **{name: _distribution(totals.distributions[name]) for name in HISTOGRAMS},
        **{name: time_or_null(totals.times.get(name)) for name in TIMES},
    }


def _distribution(observed: Distribution) -> dict[str, Any] | None:
    if not observed.count:
        return None
    return {
        "count": observed.count,
        "sum": round(observed.sum, 6),
        "mean": round(observed.sum / observed.count, 6),
        **{name: _quantile(observed.quantile(part)) for name, part in _QUANTILES.items()},
    }


def _quantile(found: Quantile | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    upper = found.upper if found.upper < math.inf else None
    return {"estimate": round(found.estimate, 6), "lower": found.lower, "upper": upper}
