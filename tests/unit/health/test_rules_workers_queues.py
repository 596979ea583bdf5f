"""The rules of workers and queues."""

from __future__ import annotations

from typing import Any

import pytest

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.health.codes import Area, Code, Status
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.verdict import assess
from celery_vitals.settings import Settings
from celery_vitals.workers.state import State
from tests.support.health import (
    NOW,
    codes,
    failed,
    healthy,
    only,
    queue,
    tasks,
    verdict_on,
    worker,
)

DOWN = worker("old@h", up=False, state=State.GONE, last_seen=NOW - 300)


# Workers


def test_fewer_workers_than_the_minimum() -> None:
    waiting = queue("mail", length=2, workers=None, consumers=None)
    finding = only(healthy(workers=(), queues=(waiting,)), Code.WORKERS_MISSING, app="proj")
    assert finding.evidence == {"up": 0, "minimum": 1}
    assert finding.recommendation == "celery -A proj worker -Q mail"
    assert codes(healthy(), min_workers=2) == ["workers_missing"]


@pytest.mark.parametrize("up", [2, 3])
def test_enough_workers(up: int) -> None:
    workers = tuple(worker(f"w{place}@h") for place in range(up))
    assert codes(healthy(workers=workers), min_workers=2) == []


def test_no_worker_is_needed_with_a_minimum_of_0() -> None:
    status = healthy(workers=(), queues=(queue(workers=0, consumers=0),))
    assert verdict_on(status, min_workers=0).status is Status.HEALTHY


def test_number_of_workers_is_unknown_where_the_broker_counts_consumers() -> None:
    status = healthy(workers=(), queues=(queue(workers=None, consumers=1),))
    verdict = verdict_on(status)
    assert (verdict.status, verdict.findings) == (Status.UNKNOWN, ())
    assert verdict.areas[Area.WORKERS] is Status.UNKNOWN


def test_number_of_workers_is_unknown_without_an_answer() -> None:
    status = healthy(workers=(), workers_known=False)
    assert codes(status) == []
    assert verdict_on(status).areas[Area.WORKERS] is Status.UNKNOWN


def test_worker_that_is_lost() -> None:
    finding = only(healthy(workers=(worker(), DOWN)), Code.WORKER_DOWN)
    assert (finding.subject, finding.since) == ("old@h", NOW - 300)
    assert "5 minutes" in finding.message


@pytest.mark.parametrize("stream", [None, tasks(stream_up=False, watched_since=None)])
def test_worker_is_not_known_to_be_lost_without_events(stream: object) -> None:
    assert codes(healthy(workers=(worker(), DOWN), tasks=stream)) == []


def test_worker_that_was_shut_down_is_no_finding() -> None:
    offline = worker("old@h", up=False, state=State.GONE, offline=True)
    draining = worker("old@h", up=False, state=State.DRAINING, offline=True)
    assert codes(healthy(workers=(worker(), offline))) == []
    assert codes(healthy(workers=(worker(), draining))) == []


@pytest.mark.parametrize(
    ("state", "code"),
    [(State.NOT_CONSUMING, Code.WORKER_NOT_CONSUMING), (State.STALLED, Code.WORKER_STALLED)],
)
def test_worker_that_is_up_and_does_no_work(state: State, code: Code) -> None:
    status = healthy(workers=(worker(state=state),))
    assert only(status, code).subject == "w@h"
    assert verdict_on(status).status is Status.DEGRADED
    assert codes(failed("broker", workers=(worker(state=state),))) == ["broker_down"]


@pytest.mark.parametrize("state", [State.UP, State.BUSY])
def test_worker_that_works_is_no_finding(state: State) -> None:
    assert codes(healthy(workers=(worker(state=state),))) == []


def test_worker_without_queues_should_consume_the_queue_without_consumers() -> None:
    idle = worker(state=State.NOT_CONSUMING, queues=())
    queues = queue("a", length=9), queue("b", length=1, workers=0, consumers=0)
    findings = verdict_on(healthy(workers=(idle,), queues=queues), app="proj").findings
    assert [one.recommendation for one in findings] == [
        "celery -A proj worker -Q b",
        "celery -A proj control -d w@h add_consumer b",
    ]


# Queues


def test_queue_with_work_and_no_consumer() -> None:
    status = healthy(queues=(queue("re ports", length=3, workers=0, consumers=0),))
    finding = only(status, Code.QUEUE_UNSERVED)
    assert finding.evidence == {"length": 3, "workers": 0, "consumers": 0}
    assert finding.recommendation == "celery -A \"$APP\" worker -Q 're ports'"
    assert verdict_on(status).status is Status.UNHEALTHY


@pytest.mark.parametrize(
    "unproved",
    [
        queue(length=3, workers=0, consumers=1),
        queue(length=3, workers=None, consumers=None),
        queue(length=0, workers=0, consumers=0),
        queue(length=None, workers=0, consumers=0),
        queue(length=3, workers=0, consumers=0, is_celery=False),
    ],
)
def test_queue_is_not_unserved_without_proof(unproved: object) -> None:
    assert codes(healthy(queues=(queue("other"), unproved))) == []


@pytest.mark.parametrize(
    ("length", "limits", "found"),
    [
        (1000, {}, False),
        (1001, {}, True),
        (1001, {"*": 2000}, False),
        (11, {"celery": 10}, True),
        (10, {"celery": 10, "*": 5}, False),
        (None, {}, False),
    ],
)
def test_queue_over_its_limit(length: int | None, limits: dict[str, int], found: bool) -> None:
    status = healthy(queues=(queue("b"), queue(length=length)))
    assert codes(status, queue_limits=limits) == ["queue_over_limit"] * found


def test_default_limit_applies_to_queues_of_celery_only() -> None:
    other = queue("other", length=5000, is_celery=False)
    assert codes(healthy(queues=(queue(), other))) == []
    assert codes(healthy(queues=(queue(), other)), queue_limits={"other": 9}) == [
        "queue_over_limit"
    ]


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"length": 1}, True),
        ({"length": 0, "unacked": 1}, True),
        ({"length": 0, "unacked": 0}, False),
        ({"length": None, "unacked": None}, False),
        ({"length": 1, "workers": 0, "consumers": 1}, False),
    ],
)
def test_oldest_message_of_a_queue(parts: dict[str, int], found: bool) -> None:
    old = queue("a", oldest_message=NOW - 3601, **parts)
    assert codes(healthy(queues=(queue(), old))) == ["queue_oldest_message"] * found


@pytest.mark.parametrize(
    ("ages", "found"), [({"a": 60}, True), ({"*": 60}, True), ({"a": 120, "*": 60}, False)]
)
def test_oldest_message_of_a_queue_with_its_own_limit(ages: dict[str, float], found: bool) -> None:
    status = healthy(queues=(queue("a", length=1, oldest_message=NOW - 100),))
    assert codes(status, queue_ages=ages) == ["queue_oldest_message"] * found


def test_queue_with_fewer_workers_than_its_minimum() -> None:
    finding = only(healthy(), Code.QUEUE_WORKERS_MISSING, queue_min_workers={"celery": 2})
    assert finding.evidence == {"length": 0, "workers": 1, "consumers": 1, "minimum": 2}
    assert codes(healthy(), queue_min_workers={"absent": 1}) == ["queue_workers_missing"]


@pytest.mark.parametrize(
    "parts",
    [{"workers": 2}, {"workers": None}, {"workers": 1, "consumers": 2}],
)
def test_queue_whose_workers_suffice_or_are_unknown(parts: dict[str, Any]) -> None:
    status = healthy(queues=(queue(**parts),))
    assert codes(status, queue_min_workers={"celery": 2}) == []
    assert codes(healthy(workers_known=False), queue_min_workers={"celery": 2}) == []


def test_length_that_may_not_be_read_is_unknown() -> None:
    denied = BlindSpot("queue_length", "Permission denied.")
    status = healthy(queues=(queue(length=None), queue("b")), blind_spots=(denied,))
    verdict = verdict_on(status)
    assert verdict.status is verdict.areas[Area.QUEUES] is Status.UNKNOWN
    assert denied in verdict.unknown


def test_queue_that_does_not_matter_is_ignored() -> None:
    limits = HealthLimits.of(Settings(health_ignored_queues=("spare-*",)))
    lonely = queue("spare-1", length=5000, workers=0, consumers=0, oldest_message=NOW - 9999)
    status = healthy(queues=(queue(), lonely))
    assert set(codes(status)) == {"queue_unserved", "queue_over_limit"}
    assert assess(status, limits, NOW).status is Status.HEALTHY
