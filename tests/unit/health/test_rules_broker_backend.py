"""The rules of the broker, the result backend and the event stream."""

from __future__ import annotations

import pytest

from celery_vitals.brokers.writability import RefusalReason, Writability
from celery_vitals.health.codes import Area, Code, Status
from tests.support.health import NAMES, codes, failed, healthy, only, run, tasks, verdict_on


def test_healthy_cluster_has_no_finding() -> None:
    verdict = verdict_on(healthy())
    assert (verdict.status, verdict.findings, verdict.unknown) == (Status.HEALTHY, (), ())
    assert set(verdict.areas.values()) == {Status.HEALTHY}


def test_broker_that_does_not_respond_is_down() -> None:
    status = failed("broker")
    finding = only(status, Code.BROKER_DOWN)
    assert "broker.example:6379" in finding.message
    assert finding.evidence == {"address": status.broker, "reason": "timeout"}
    assert verdict_on(status).status is Status.UNHEALTHY


def test_broker_that_loads_its_data_is_down_for_that_reason() -> None:
    status = failed("broker", broker_state=Writability.refused(RefusalReason.LOADING))
    assert RefusalReason.LOADING.description in only(status, Code.BROKER_DOWN).message


def test_before_the_first_probe_the_broker_is_unknown() -> None:
    status = healthy(collectors=tuple(run(name, None) for name in NAMES))
    assert codes(status) == []
    assert verdict_on(status).status is Status.UNKNOWN
    assert verdict_on(status).age is None


@pytest.mark.parametrize("reason", RefusalReason)
def test_broker_that_accepts_no_messages_is_unwritable(reason: RefusalReason) -> None:
    status = healthy(broker_state=Writability.refused(reason))
    finding = only(status, Code.BROKER_UNWRITABLE)
    assert finding.evidence["reason"] == reason.value
    assert verdict_on(status).areas[Area.BROKER] is Status.UNHEALTHY


def test_unknown_writability_is_no_finding() -> None:
    assert codes(healthy(broker_state=Writability())) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_broker_that_evicts_queues(policy: str) -> None:
    state = Writability(writable=True, memory_limit=1000, eviction_policy=policy)
    finding = only(healthy(broker_state=state), Code.BROKER_EVICTS)
    assert finding.evidence == {"policy": policy, "memory_limit_bytes": 1000}


@pytest.mark.parametrize(
    ("policy", "limit"), [("allkeys-lru", None), ("volatile-lru", 1000), ("noeviction", 1000)]
)
def test_broker_that_evicts_no_queues(policy: str, limit: int | None) -> None:
    state = Writability(writable=True, memory_limit=limit, eviction_policy=policy)
    assert codes(healthy(broker_state=state)) == []


def test_backend_down_is_degraded() -> None:
    status = failed("backend")
    assert only(status, Code.BACKEND_DOWN).evidence["reason"] == "timeout"
    assert verdict_on(status).status is Status.DEGRADED


def test_backend_is_no_finding_while_the_broker_is_down() -> None:
    assert codes(failed("backend", "broker")) == ["broker_down"]


def test_cluster_without_a_backend_is_healthy() -> None:
    runs = tuple(run(name) for name in NAMES if name != "backend")
    verdict = verdict_on(healthy(collectors=runs, backend=""))
    assert verdict.status is Status.HEALTHY
    assert verdict.areas[Area.BACKEND] is Status.NOT_CONFIGURED
    assert [spot.subject for spot in verdict.unknown] == ["backend"]


def test_event_stream_that_failed_is_down() -> None:
    status = healthy(tasks=tasks(stream_up=False, stream_reason="permission denied"))
    assert only(status, Code.EVENT_STREAM_DOWN).evidence == {"reason": "permission denied"}


def test_event_stream_that_went_silent_is_down() -> None:
    assert codes(healthy(tasks=tasks(stream_up=False))) == ["event_stream_down"]


def test_event_stream_is_unknown_before_its_first_connection() -> None:
    status = healthy(tasks=tasks(stream_up=False, watched_since=None, connected_since=None))
    assert codes(status) == []
    assert verdict_on(status).areas[Area.EVENTS] is Status.UNKNOWN
    assert verdict_on(status).status is Status.UNKNOWN


def test_event_stream_is_no_finding_where_the_broker_explains_it() -> None:
    down = tasks(stream_up=False, stream_reason="refused")
    assert codes(failed("broker", tasks=down)) == ["broker_down"]
    refusing = healthy(tasks=down, broker_state=Writability.refused(RefusalReason.MEMORY))
    assert codes(refusing) == ["broker_unwritable"]


def test_cluster_without_task_events_is_healthy_and_names_what_it_lacks() -> None:
    verdict = verdict_on(healthy(tasks=None))
    assert verdict.status is Status.HEALTHY
    assert verdict.areas[Area.EVENTS] is verdict.areas[Area.TASKS] is Status.NOT_CONFIGURED
    assert [spot.setting for spot in verdict.unknown] == ["--collector.tasks"]
