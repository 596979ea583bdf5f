"""Cases of lost and repeated executions, and the schema of the path that lists them."""

from __future__ import annotations

from typing import Any

from celery_vitals.events.cases import Case, CaseKind, CaseList
from tests.support.schemas import valid_json

DECIDED = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""


def case(number: int = 0, kind: CaseKind = CaseKind.LOST, **parts: Any) -> Case:
    """Build a case that was decided `number` seconds before DECIDED."""
    given = {
        "uuid": f"id-{number}",
        "task": "shop.pay",
        "queue": "mail",
        "worker": "w@one",
        "started_at": DECIDED - number - 60,
        "decided_at": DECIDED - number,
        "reason": "worker_gone" if kind is CaseKind.LOST else "",
        "evidence": "The worker sent its offline event while the task ran.",
    }
    return Case(kind, **{**given, **parts})


def case_list(*cases: Case, **parts: Any) -> CaseList:
    """Build the list of an exporter that has received events for an hour."""
    given = {
        "stream_up": True,
        "watched_since": DECIDED - 3600,
        "connected_since": DECIDED - 3600,
    }
    return CaseList(cases, **{**given, **parts})


def valid(body: bytes | str, schema_name: str = "lost") -> dict[str, Any]:
    """Return the content of a response, which must be strict JSON and follow the schema."""
    return valid_json(body, schema_name)
