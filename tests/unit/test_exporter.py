"""The exporter: which collectors a scrape runs, the order of their samples, and blind spots."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from prometheus_client import Metric

from celery_vitals.deadline import Deadline
from celery_vitals.errors import ConfigError
from celery_vitals.exporter import Collector
from celery_vitals.metrics.definitions import QUEUE_OLDEST_MESSAGE
from celery_vitals.secrets import Secret
from celery_vitals.settings import Settings
from tests.support.servers import wait_for

LONG = 30.0
PROMPT = 1.25
"""Seconds; the first probe of the queues waits longer than this for workers that reply."""
SUCCESS = "celery_scrape_collector_success"


@pytest.fixture
def exporter() -> Iterator[Collector]:
    """An exporter on a broker in the memory of this process; its event stream is not started."""
    exporter = Collector(Settings(broker_url=Secret("memory://"), max_workers=1))
    exporter.start = lambda: None  # type: ignore[method-assign]
    yield exporter
    exporter.close(Deadline.after(LONG))


def families(exporter: Collector, *names: str) -> dict[str, Metric]:
    return {one.name: one for one in exporter.scrape(Deadline.after(LONG), names or None)}


def test_scrape_of_selected_collectors_contains_only_their_samples(exporter: Collector) -> None:
    found = families(exporter, "broker")
    assert [sample.labels for sample in found[SUCCESS].samples] == [{"collector": "broker"}]
    assert "celery_broker_up" in found
    assert "celery_exporter_tasks_in_flight" not in found


def test_unknown_collector_is_an_error_that_names_the_others(exporter: Collector) -> None:
    expected = rf"'cpu' \(expected one of: {', '.join(exporter.names)}\)"
    with pytest.raises(ConfigError, match=expected):
        families(exporter, "broker", "cpu")


def test_tasks_has_the_success_of_its_stream_and_no_duration(exporter: Collector) -> None:
    found = families(exporter, "tasks")
    assert [sample.value for sample in found[SUCCESS].samples] == [0.0]
    assert "celery_scrape_collector_duration_seconds" not in found


def test_value_read_from_the_broker_comes_before_the_one_of_events(
    exporter: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("tasks", 2.0), ("queues", 1.0)):
        monkeypatch.setattr(
            exporter._collectors[name],
            "samples",
            lambda _, value=value: [QUEUE_OLDEST_MESSAGE(value, "celery")],
        )
    for names in (("queues", "tasks"), ("tasks", "queues")):
        family = families(exporter, *names)[QUEUE_OLDEST_MESSAGE.name]
        assert [sample.value for sample in family.samples] == [1.0]


def test_first_probe_of_queues_does_not_wait_for_workers_that_are_not_selected(
    exporter: Collector,
) -> None:
    started = time.monotonic()
    families(exporter, "queues")
    assert time.monotonic() - started < PROMPT


def test_collector_that_has_not_run_has_no_blind_spots(exporter: Collector) -> None:
    for name in ("one", "two"):
        exporter._workers.heartbeat(name, "", 0, 0, 1)
    assert exporter._workers.limit_reached
    families(exporter, "broker")
    spots = {one.subject for one in exporter.status().blind_spots}
    assert "workers" not in spots
    assert "task_events" in spots
    families(exporter, "workers")
    assert "workers" in {one.subject for one in exporter.status().blind_spots}


def test_close_leaves_out_a_collector_whose_probe_hangs(
    exporter: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    for name in exporter.names:
        monkeypatch.setattr(
            exporter._collectors[name], "close", lambda _, name=name: closed.append(name)
        )
    runner = exporter._runners["workers"]
    with monkeypatch.context() as patch:
        patch.setattr(type(runner), "idle", property(lambda self: self is not runner))
        exporter.close(Deadline.after(LONG))
    assert closed == [name for name in exporter.names if name != "workers"]


def test_a_new_worker_starts_a_probe_of_the_workers(exporter: Collector) -> None:
    exporter._probe_now("workers")
    wait_for(lambda: exporter._runners["workers"].last_outcome is not None)


def test_describe_returns_all_families_and_probes_nothing(exporter: Collector) -> None:
    assert not any(family.samples for family in exporter.describe())
    assert all(runner.last_outcome is None for runner in exporter._runners.values())
