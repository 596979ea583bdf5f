"""The path /lost: the executions that were lost, ran twice, or do not end, as JSON.

docs/schemas/lost.json describes the response, docs/lost.md its use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from celery_vitals.events.cases import CaseKind
from celery_vitals.metrics.base import label_text
from celery_vitals.web.documents import blind_spots, encoded, time_or_null, watching
from celery_vitals.web.pages import utc

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

    from celery_vitals.events.cases import Case, CaseList

_KINDS = [kind.value for kind in CaseKind]
_PARAMETERS = ("kind", "task")


def lost_executions(listed: CaseList, query: QueryParams) -> bytes:
    """Return the response for a query; HTTPException when the query is invalid."""
    cases = list(_selected(listed, query))
    counts = Counter(case.kind.value for case in cases)
    content = {
        "watching": watching(listed.stream_up, listed.watched_since, listed.connected_since),
        "blind_spots": blind_spots(listed.blind_spots),
        "counts": {kind: counts[kind] for kind in _KINDS},
        "dropped": listed.dropped,
        "cases": list(map(_case, cases)),
    }
    return encoded(content)


def _selected(listed: CaseList, query: QueryParams) -> Iterator[Case]:
    """Return the cases of the kinds and tasks in the query."""
    if not set(query) <= set(_PARAMETERS):
        raise HTTPException(400, f"unknown parameter (expected one of: {', '.join(_PARAMETERS)})")
    kinds, tasks = set(query.getlist("kind")), set(query.getlist("task"))
    if not kinds <= set(_KINDS):
        raise HTTPException(400, f"kind: unknown kind (expected one of: {', '.join(_KINDS)})")
    if "" in tasks:
        raise HTTPException(400, "task: must be the name of a task")
    return (
        case
        for case in listed.cases
        if (not kinds or case.kind.value in kinds) and (not tasks or label_text(case.task) in tasks)
    )


def _case(case: Case) -> dict[str, Any]:
    return {
        "kind": case.kind.value,
        "id": case.uuid,
        "task": case.task or None,
        "queue": case.queue or None,
        "worker": case.worker or None,
        "started": time_or_null(case.started_at),
        "decided": utc(case.decided_at),
        "reason": case.reason or None,
        "evidence": case.evidence,
        "found": case.found,
    }
