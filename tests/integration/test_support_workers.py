"""The workers and beat that the other tests run: each pool on each broker."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError

from tests.conftest import CLUSTER, Cluster
from tests.support.servers import Beat, Broker, Publisher, Worker, publish, queues_conf, wait_for

PRIORITIES = (0, 3, 6, 9)


@pytest.mark.parametrize("pool", CLUSTER)
def test_each_pool_runs_a_task(cluster: Cluster, pool: str) -> None:
    with Publisher(cluster.broker) as publisher:
        assert publisher.run("add", 1, 2, queue=pool) == 3


def test_eventlet_runs_a_task(broker: Broker, start_worker: Callable[..., Worker]) -> None:
    start_worker(broker, "eventlet")
    with Publisher(broker) as publisher:
        assert publisher.run("add", 1, 2) == 3


def test_a_failure_is_raised_where_it_is_awaited(cluster: Cluster) -> None:
    with Publisher(cluster.broker) as publisher, pytest.raises(ValueError, match="boom"):
        publisher.run("fail")


def test_freezes_with_its_pool_and_thaws(cluster: Cluster) -> None:
    worker = cluster.workers["prefork"]
    assert len(worker.child.processes()) > CLUSTER["prefork"]
    with Publisher(cluster.broker) as publisher:
        worker.freeze()
        try:
            with pytest.raises(CeleryTimeoutError):
                publisher.run("add", 1, 2, queue="prefork", timeout=0.3)
        finally:
            worker.thaw()
        assert publisher.run("add", 1, 2, queue="prefork") == 3


def test_kill_and_restart(broker: Broker, start_worker: Callable[..., Worker]) -> None:
    worker = start_worker(broker, "prefork", concurrency=1)
    processes = worker.child.processes()
    worker.kill()
    assert not [one for one in processes if one.is_running() and one.status() != "zombie"]
    worker.start()
    worker.stop()
    assert worker.child.exit_code == 0


def test_worker_that_cannot_start_reports_its_log(
    broker: Broker, start_worker: Callable[..., Worker]
) -> None:
    with pytest.raises(RuntimeError, match="No such option"):
        start_worker(broker, "solo", args=["--nonsense"])


def test_length_counts_all_priorities(broker: Broker) -> None:
    conf = queues_conf("ranked", **{"x-max-priority": 10})
    with Publisher(broker, conf) as publisher:
        for priority in PRIORITIES:
            publisher.send("add", 1, 2, queue="ranked", count=10, priority=priority)
        wait_for(lambda: publisher.length("ranked") == 40)
        assert publisher.length("absent") == 0


def test_beat_sends(broker: Broker) -> None:
    schedule = {"tick": {"task": "project.add", "schedule": 0.1, "args": [1, 2]}}
    with Beat(broker, {"beat_schedule": schedule}), Publisher(broker) as publisher:
        wait_for(lambda: publisher.length() >= 2)


def test_publishing_leaves_the_current_app_alone(redis_broker: Broker) -> None:
    from celery._state import get_current_app

    before = get_current_app()
    publish(redis_broker, "add", 1, 2)
    assert get_current_app() is before
