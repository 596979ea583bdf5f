"""A healthy cluster with a worker of every pool, on Redis and on RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from celery_vitals import Collector, Secret, Settings
from celery_vitals.deadline import Deadline
from celery_vitals.settings.model import COLLECTOR_NAMES
from tests.conftest import CLUSTER, Cluster
from tests.support.exporter import Exporter
from tests.support.servers import publish, wait_for

WORKERS = {f"{pool}@test" for pool in CLUSTER}


@pytest.fixture(scope="module")
def exporter(cluster: Cluster) -> Iterator[Exporter]:
    with Exporter.of(cluster.broker) as exporter:
        wait_for(lambda: exporter.scrape().value("celery_exporter_event_stream_up") == 1)
        yield exporter


def test_every_pool_is_up_with_its_slots(exporter: Exporter) -> None:
    scrape = exporter.scrape(timeout=5)
    assert scrape.status == 200
    assert scrape.seconds < 5
    assert scrape.value("celery_broker_up") == 1
    assert scrape.value("celery_result_backend_up") == 1
    assert scrape.by("collector", "celery_scrape_collector_success") == dict.fromkeys(
        COLLECTOR_NAMES, 1
    )
    assert scrape.by("worker", "celery_worker_up") == dict.fromkeys(WORKERS, 1)
    assert scrape.by("worker", "celery_worker_replied") == dict.fromkeys(WORKERS, 1)
    assert scrape.by("worker", "celery_worker_pool_slots") == {
        f"{pool}@test": n for pool, n in CLUSTER.items()
    }
    pools = {
        dict(labels)["worker"]: dict(labels)["pool"]
        for labels in scrape.series("celery_worker_info")
    }
    assert pools == {f"{pool}@test": pool for pool in CLUSTER}


def test_queues_have_the_workers_and_slots_that_serve_them(exporter: Exporter) -> None:
    scrape = exporter.scrape()
    assert scrape.by("worker", "celery_worker_consumed_queues") == dict.fromkeys(WORKERS, 2)
    workers, slots = (
        scrape.by("queue", "celery_queue_workers"),
        scrape.by("queue", "celery_queue_slots"),
    )
    assert workers["celery"] == 4
    assert slots["celery"] == sum(CLUSTER.values())
    assert {pool: (workers[pool], slots[pool]) for pool in CLUSTER} == {
        pool: (1, n) for pool, n in CLUSTER.items()
    }


def test_queue_without_consumers_has_its_length_over_all_priorities(
    cluster: Cluster, exporter: Exporter
) -> None:
    for priority in (0, 3, 6, 9):
        publish(cluster.broker, "add", 1, 2, queue="orphan", count=10, priority=priority)
    scrape = wait_for(
        lambda: (
            scrape
            if (scrape := exporter.scrape()).value("celery_queue_length", queue="orphan")
            else None
        )
    )
    assert scrape is not None
    assert scrape.value("celery_queue_length", queue="orphan") == 40
    assert scrape.value("celery_queue_workers", queue="orphan") == 0
    assert scrape.value("celery_queue_slots", queue="orphan") == 0


def test_a_queue_that_is_empty_and_served_reads_zero(exporter: Exporter) -> None:
    assert exporter.scrape().value("celery_queue_length", queue="threads") == 0
    assert "level=error" not in exporter.log


def test_accepted_tasks_are_counted_without_events(cluster: Cluster, exporter: Exporter) -> None:
    before = exporter.scrape().value("celery_worker_processed_total", worker="threads@test") or 0
    publish(cluster.broker, "add", 1, 2, queue="threads", count=20)
    publish(cluster.broker, "fail", queue="threads", count=5)

    def counted() -> bool:
        scrape = exporter.scrape()
        failed = scrape.value(
            "celery_worker_tasks_accepted_total", worker="threads@test", task="project.fail"
        )
        return (
            scrape.value("celery_worker_processed_total", worker="threads@test") == before + 25
            and failed == 5
        )

    wait_for(counted)


def test_consumers_are_the_broker_s_own_count_where_it_has_one(
    cluster: Cluster, exporter: Exporter
) -> None:
    consumers = exporter.scrape().by("queue", "celery_queue_consumers")
    if cluster.broker.kind == "redis":
        assert consumers == {}
    else:
        assert consumers["celery"] == 4


def test_unacknowledged_messages_are_counted_by_queue(cluster: Cluster, exporter: Exporter) -> None:
    publish(cluster.broker, "late", 6, queue="threads", count=4)  # acknowledged when it has ended

    def held() -> bool:
        scrape = exporter.scrape()
        return (scrape.value("celery_queue_unacked_messages", queue="threads") or 0) >= 2

    wait_for(held)


def test_collectors_can_be_chosen_and_their_probes_are_skipped(exporter: Exporter) -> None:
    scrape = exporter.scrape(collect="broker")
    assert set(scrape.by("collector", "celery_scrape_collector_success")) == {"broker"}
    assert scrape.series("celery_worker_up") == {}
    without = exporter.scrape(exclude="workers")
    others = set(COLLECTOR_NAMES) - {"workers"}
    assert set(without.by("collector", "celery_scrape_collector_success")) == others


def test_the_collector_registers_in_any_registry_without_probing(cluster: Cluster) -> None:
    collector = Collector(
        Settings(
            broker_url=Secret(cluster.broker.url), result_backend=Secret(cluster.broker.backend_url)
        )
    )
    registry = CollectorRegistry()
    registry.register(collector)
    assert collector.status().workers == ()
    assert b'celery_worker_up{worker="prefork@test"} 1.0' in generate_latest(registry)
    collector.close(Deadline.after(2))


def test_status_page_lists_observed_targets_and_queues_without_consumers(
    cluster: Cluster, exporter: Exporter
) -> None:
    publish(cluster.broker, "add", 1, 2, queue="forgotten")
    wait_for(lambda: exporter.scrape().value("celery_queue_length", queue="forgotten"))
    status, page = exporter.get("/")
    assert status == 200
    assert "prefork@test" in page
    assert "forgotten" in page
    assert "@127.0.0.1" not in page  # credentials


@pytest.mark.parametrize("way", ["celery -A", "--app"])
def test_everything_is_taken_from_the_app(cluster: Cluster, way: str) -> None:
    from tests.support.servers import project_environment

    env = project_environment(cluster.broker)
    command = (
        ("celery", "-A", "project.app", "vitals", "serve")
        if way == "celery -A"
        else ("celery_vitals", "serve")
    )
    arguments = () if way == "celery -A" else ("--app", "project.app:app")
    with Exporter(*arguments, command=command, env=env) as exporter:
        exporter.scrape()
        scrape = exporter.scrape()
        assert scrape.value("celery_broker_up") == 1
        assert scrape.value("celery_result_backend_up") == 1
        assert scrape.by("worker", "celery_worker_up") == dict.fromkeys(WORKERS, 1)
        assert scrape.value("celery_queue_length", queue="celery") == 0
        if cluster.broker.kind == "redis":
            assert scrape.value("celery_broker_visibility_timeout_seconds") == 3600
