"""The rules of tasks."""

from __future__ import annotations

from typing import Any

import pytest

from celery_vitals.events.cases import Case, CaseKind, CaseList
from celery_vitals.events.task_status import PoisonStatus
from celery_vitals.health.codes import Code
from celery_vitals.status import ClusterStatus
from tests.support.health import NOW, codes, healthy, only, tasks

INTERVALS = {"task_intervals": {"t.report": 100.0}}


def with_case(kind: CaseKind, age: float, **parts: Any) -> ClusterStatus:
    known = {"reason": "worker_gone", "evidence": "Proved.", **parts}
    case = Case(kind, "id-1", "t.pay", "celery", "w@h", NOW - age - 1, NOW - age, **known)
    return healthy(cases=CaseList((case,)))


@pytest.mark.parametrize(("age", "found"), [(149, False), (151, True)])
def test_periodic_task_that_last_succeeded_too_long_ago(age: float, found: bool) -> None:
    status = healthy(tasks=tasks(last_succeeded={"t.report": NOW - age}))
    assert codes(status, **INTERVALS) == ["task_overdue"] * found


@pytest.mark.parametrize(("age", "found"), [(149, False), (151, True)])
def test_periodic_task_that_has_never_succeeded(age: float, found: bool) -> None:
    status = healthy(tasks=tasks(connected_since=NOW - age))
    assert codes(status, **INTERVALS) == ["task_overdue"] * found


def test_periodic_task_is_not_overdue_without_proof() -> None:
    silent = tasks(stream_up=False, connected_since=None, watched_since=None)
    assert codes(healthy(tasks=silent), **INTERVALS) == []
    assert codes(healthy(tasks=tasks(names_aggregated=True)), **INTERVALS) == []
    assert codes(healthy(tasks=None), **INTERVALS) == []


@pytest.mark.parametrize(
    ("age", "ages", "found"),
    [
        (7199, {}, False),
        (7201, {}, True),
        (7201, {"t.long": 9000.0}, False),
        (61, {"*": 60.0}, True),
    ],
)
def test_execution_that_does_not_end(age: float, ages: dict[str, float], found: bool) -> None:
    status = healthy(tasks=tasks(oldest_running={"t.long": NOW - age}))
    assert codes(status, task_ages=ages) == ["task_stuck"] * found


def test_lost_executions_of_the_last_six_hours() -> None:
    finding = only(with_case(CaseKind.LOST, 6 * 3600 - 1), Code.TASKS_LOST)
    assert (finding.subject, finding.evidence["count"]) == ("t.pay", 1)
    assert finding.evidence["reasons"] == "worker_gone"
    assert codes(with_case(CaseKind.LOST, 6 * 3600 + 1)) == []
    assert codes(with_case(CaseKind.LOST, 60, found=True)) == []


@pytest.mark.parametrize("kind", [CaseKind.OVERLAPPING, CaseKind.REPEATED])
def test_executions_that_ran_twice_in_the_last_hour(kind: CaseKind) -> None:
    status = with_case(kind, 3599, reason="visibility_timeout")
    assert "visibility_timeout" in only(status, Code.TASKS_RUN_TWICE).recommendation
    assert codes(with_case(kind, 3601)) == []


def test_redelivered_execution_is_no_finding() -> None:
    assert codes(with_case(CaseKind.REDELIVERED, 60)) == []


def test_poisonous_messages() -> None:
    poison = PoisonStatus("t.pay", "a", 2, 5), PoisonStatus("t.pay", "b", 1, 3)
    finding = only(healthy(tasks=tasks(poison=poison)), Code.TASKS_POISON)
    assert finding.evidence == {"messages": 3, "starts": 5, "queues": "a, b"}
    assert codes(healthy(tasks=None)) == []
