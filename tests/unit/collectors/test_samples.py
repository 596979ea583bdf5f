"""The samples and blind spots of each collector, without a broker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import pytest

from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.queue_stats import QueueSnapshot, QueueStats
from celery_vitals.brokers.target import target_of
from celery_vitals.brokers.writability import UNKNOWN
from celery_vitals.collectors.base import Dependencies
from celery_vitals.collectors.broker import BrokerCollector
from celery_vitals.collectors.queues import QueuesCollector
from celery_vitals.collectors.registry import create_collectors
from celery_vitals.collectors.tasks import TasksCollector
from celery_vitals.collectors.workers import WorkersCollector
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.metrics.base import Sample
from celery_vitals.probe_runner import Outcome
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.secrets import Secret
from celery_vitals.settings import Settings
from celery_vitals.workers.registry import WorkerRegistry

WORKER = "w@one"


def dependencies(probed: list[str] | None = None, **options: Any) -> Dependencies:
    settings = Settings(broker_url=Secret("redis://localhost/0"), **options)
    target = target_of(settings, None)
    return Dependencies(
        settings,
        BrokerClient(target, 1.0),
        1.0,
        WorkerRegistry(60.0, 600.0),
        QueueRegistry(target.queues),
        (probed if probed is not None else []).append,
    )


def values(samples: Iterable[Sample]) -> dict[tuple[str, ...], float]:
    """The values by metric name and label values."""
    return {(sample.metric.name, *sample.labels): sample.value for sample in samples}


def names(samples: Iterable[Sample]) -> set[str]:
    return {sample.metric.name for sample in samples}


def tasks_collector(probed: list[str] | None = None, **options: Any) -> TasksCollector:
    collector = TasksCollector.create(dependencies(probed, **options))
    assert collector is not None
    return collector


def test_a_probe_succeeds_when_it_has_an_outcome_without_a_reason() -> None:
    collector = BrokerCollector.create(dependencies())
    assert collector is not None
    assert collector.succeeded(Outcome(UNKNOWN, None, "", 0.1, 0.0))
    assert not collector.succeeded(Outcome(None, Reason.TIMEOUT, "", 0.1, 0.0))
    assert not collector.succeeded(None)


def test_disabled_collectors_are_left_out() -> None:
    shared = dependencies(collectors=frozenset({"queues", "broker"}))
    assert list(create_collectors(shared)) == ["broker", "queues"]


class TestQueues:
    SNAPSHOT = QueueSnapshot({"a": QueueStats(ready=0, by_priority={3: 1}), "b": QueueStats()})

    def samples(self, value: QueueSnapshot | None, **options: Any) -> dict[tuple[str, ...], float]:
        collector = QueuesCollector.create(dependencies(**options))
        assert collector is not None
        return values(collector.samples(value))

    def test_no_queue_has_samples_after_a_failed_probe(self) -> None:
        assert {name for name, *_ in self.samples(None)} <= {
            "celery_broker_visibility_timeout_seconds"
        }

    def test_unknown_length_is_absent_and_an_empty_queue_is_0(self) -> None:
        samples = self.samples(self.SNAPSHOT)
        assert samples["celery_queue_length", "a"] == 0
        assert ("celery_queue_length", "b") not in samples

    def test_limit_of_a_queue_comes_before_the_limit_of_all(self) -> None:
        samples = self.samples(self.SNAPSHOT, queue_limits={"a": 5, "*": 9})
        assert samples["celery_queue_length_limit", "a"] == 5
        assert samples["celery_queue_length_limit", "b"] == 9

    @pytest.mark.parametrize("enabled", [True, False])
    def test_lengths_by_priority_are_optional(self, enabled: bool) -> None:
        samples = self.samples(self.SNAPSHOT, queue_priorities=enabled)
        assert (("celery_queue_priority_length", "a", "3") in samples) is enabled

    def test_queue_that_was_only_found_in_the_broker_has_no_evidence(self) -> None:
        samples = self.samples(self.SNAPSHOT, queues=("a",))
        assert samples["celery_queue_evidence_info", "a", "setting"] == 1
        assert not [key for key in samples if key[:2] == ("celery_queue_evidence_info", "b")]


class TestWorkers:
    STATS: ClassVar = {
        "pool": {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 4},
        "pid": 1,
        "uptime": 5,
        "total": {"add": 3},
    }

    def collector(self, **options: Any) -> tuple[WorkersCollector, WorkerRegistry]:
        shared = dependencies(**options)
        collector = WorkersCollector.create(shared)
        assert collector is not None
        shared.workers.stats_replied(WORKER, self.STATS, 0.1, False)
        return collector, shared.workers

    def test_worker_that_is_up_has_counters_and_gauges(self) -> None:
        collector, _ = self.collector()
        samples = values(collector.samples(True))
        assert samples["celery_worker_up", WORKER] == 1
        assert samples["celery_worker_tasks_accepted_total", WORKER, "add"] == 3
        assert samples["celery_worker_pool_slots", WORKER] == 4

    def test_the_tasks_of_each_worker_by_name_can_be_switched_off_alone(self) -> None:
        whole, _ = self.collector()
        part, _ = self.collector(worker_task_counts=False)
        assert names(whole.samples(True)) - names(part.samples(True)) == {
            "celery_worker_tasks_accepted_total"
        }
        assert values(part.samples(True))["celery_worker_processed_total", WORKER] == 3

    def test_worker_that_is_down_keeps_its_counters_only(self) -> None:
        collector, registry = self.collector()
        registry.offline(WORKER, 0)
        samples = values(collector.samples(True))
        assert samples["celery_worker_up", WORKER] == 0
        assert samples["celery_worker_tasks_accepted_total", WORKER, "add"] == 3
        assert ("celery_worker_pool_slots", WORKER) not in samples

    def test_queues_of_a_worker_are_absent_while_it_consumes_none_or_is_down(self) -> None:
        collector, registry = self.collector()

        def queues() -> set[tuple[str, ...]]:
            samples = values(collector.samples(True))
            return {key[1:] for key in samples if key[0] == "celery_worker_queue_info"}

        assert not queues()
        registry.queues_replied(WORKER, [{"name": "mail"}, {"name": "orders"}])
        assert queues() == {(WORKER, "mail"), (WORKER, "orders")}
        registry.queues_replied(WORKER, [])
        assert not queues()
        registry.queues_replied(WORKER, [{"name": "mail"}])
        registry.offline(WORKER, 0)
        assert not queues()

    @pytest.mark.parametrize(("limit", "limited"), [(1, True), (2, False)])
    def test_queues_of_all_workers_are_limited(
        self, limit: int, limited: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("celery_vitals.collectors.workers.MAX_WORKER_QUEUES", limit)
        collector, registry = self.collector()
        registry.queues_replied(WORKER, [{"name": "mail"}, {"name": "orders"}])
        found = [one for one in collector.samples(True) if one.metric.name.endswith("queue_info")]
        assert len(found) == limit
        assert ("worker_queues" in {one.subject for one in collector.blind_spots(True)}) is limited

    def test_replies_are_unknown_after_a_failed_round(self) -> None:
        collector, _ = self.collector()
        assert "celery_worker_replied" in names(collector.samples(True))
        assert "celery_worker_replied" not in names(collector.samples(None))

    def test_failed_round_does_not_delay_the_queues_any_more(self) -> None:
        collector, registry = self.collector()
        with pytest.raises(ProbeError, match="no time left"):
            collector.measure(Deadline.after(0.0))
        assert registry.first_round.is_set()


class TestTasks:
    def test_new_worker_enables_its_events_and_starts_a_probe_of_the_workers(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        probed: list[str] = []
        collector, enabled = tasks_collector(probed), []
        monkeypatch.setattr(collector._stream, "enable_now", lambda: enabled.append(True))
        collector._processor.feed([b'{"type": "worker-online", "hostname": "w@one"}'], 0.0)
        assert (probed, enabled) == (["workers"], [True])

    def test_stream_is_started_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        collector, started = tasks_collector(), []
        monkeypatch.setattr(collector._stream, "start", lambda: started.append(True))
        collector.start()
        collector.start()
        assert started == [True]

    def test_lag_is_absent_before_the_first_canary(self) -> None:
        collector = tasks_collector()
        assert "celery_exporter_event_lag_seconds" not in names(collector.samples())
        collector._stream._listener.canary.lag = 0.25
        assert values(collector.samples())["celery_exporter_event_lag_seconds",] == 0.25

    @pytest.mark.parametrize("enabled", [True, False])
    def test_workers_without_task_events_are_a_blind_spot_unless_they_are_enabled(
        self, enabled: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collector = tasks_collector(enable_events=enabled)
        monkeypatch.setattr(type(collector._stream), "up", True)
        workers = [f"w{number}@h" for number in range(4)]
        monkeypatch.setattr(collector._processor, "workers_without_task_events", lambda: workers)
        spots = list(collector.blind_spots())
        assert [spot.setting for spot in spots] == ([] if enabled else ["--enable-events"])
        assert all("w0@h, w1@h, w2@h and others" in spot.reason for spot in spots)
