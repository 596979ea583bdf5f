"""The snapshot for the status page: an unknown value is None."""

from __future__ import annotations

import pytest

from celery_vitals.brokers.queue_stats import QueueSnapshot, QueueStats
from celery_vitals.brokers.target import Target, target_of
from celery_vitals.errors import Reason
from celery_vitals.probe_runner import Outcome
from celery_vitals.secrets import Secret
from celery_vitals.settings import Settings
from celery_vitals.status import ClusterStatus, cluster_status
from celery_vitals.workers.registry import WorkerRegistry


@pytest.fixture
def target() -> Target:
    return target_of(Settings(broker_url=Secret("redis://:hidden@h:6379/0")), None)


def succeeded(value: object) -> Outcome[object]:
    return Outcome(value, None, "", 0.5, 100.0)


def failed(reason: Reason) -> Outcome[object]:
    return Outcome(None, reason, "detail", 0.5, 100.0)


def status_of(target: Target, **outcomes: Outcome[object] | None) -> ClusterStatus:
    registry = WorkerRegistry(60.0, 60.0)
    registry.queues_replied("w@h", [{"name": "consumed"}])
    return cluster_status(target, registry, outcomes, (), frozenset({"consumed"}))


def test_collector_before_its_first_run_is_neither_ok_nor_failed(target: Target) -> None:
    (collector,) = status_of(target, broker=None).collectors
    assert (collector.ok, collector.reason, collector.finished_at) == (None, "", 0.0)


def test_failed_collector_has_the_description_of_its_reason(target: Target) -> None:
    (collector,) = status_of(target, broker=failed(Reason.REFUSED)).collectors
    assert (collector.ok, collector.reason) == (False, Reason.REFUSED.description)
    assert collector.finished_at == 100.0


def test_queues_are_those_of_the_broker_and_of_the_workers(target: Target) -> None:
    snapshot = QueueSnapshot({"read": QueueStats(ready=3, consumers=2)})
    status = status_of(target, queues=succeeded(snapshot), workers=succeeded(True))
    assert [(one.name, one.length, one.workers, one.consumers) for one in status.queues] == [
        ("consumed", None, 1, None),
        ("read", 3, 0, 2),
    ]


@pytest.mark.parametrize("workers", [None, failed(Reason.TIMEOUT)])
def test_number_of_workers_of_a_queue_is_unknown_without_their_replies(
    target: Target, workers: Outcome[object] | None
) -> None:
    (queue,) = status_of(target, workers=workers).queues
    assert queue.workers is None


def test_addresses_have_no_credentials(target: Target) -> None:
    status = status_of(target)
    assert "hidden" not in status.broker
    assert status.broker.endswith("h:6379/0")
    assert status.backend == ""
