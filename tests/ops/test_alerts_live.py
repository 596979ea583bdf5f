"""Real faults with a real Prometheus, Alertmanager and the rules: one notification per fault.

Each fault sends one notification, and another when it is resolved.  Faults that depend on the
broker run on Redis and RabbitMQ.  Only times are shorter: each `for`, the waits of Alertmanager,
and the exporter's --worker-timeout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.ops.alert_scene import SETTLE, Scene, running
from tests.support.ops.short_rules import overrides, quick_groups
from tests.support.servers import (
    BrokerServer,
    RabbitMQServer,
    RedisServer,
    Worker,
    publish,
    wait_for,
)

on_redis = pytest.mark.parametrize("scene", [RedisServer], indirect=True, ids=["redis"])
on_both = pytest.mark.parametrize(
    "scene", [RedisServer, RabbitMQServer], indirect=True, ids=["redis", "rabbitmq"]
)


@pytest.fixture(scope="module")
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Run a broker, two workers, the exporter, Prometheus, Alertmanager and a webhook."""
    with ExitStack() as stack:
        server: BrokerServer = stack.enter_context(request.param())
        broker = stack.enter_context(server.namespace())
        workers = {
            name: Worker(broker, "threads", name, queues=("celery", name), events=True)
            for name in ("one", "two")
        }
        # These keep their `for`: the scrape timeout of half a second is shorter than the wait for
        # lost workers, and the event stream takes seconds to reconnect to the broker.
        unchanged = ("CeleryExporterCollectorFailing", "CeleryEventStreamDeaf")
        rules = [overrides(scrape_budget_ratio=9), *quick_groups(*unchanged)]
        arguments = ("--worker-timeout", "10", "--worker-forget-after", "600")
        yield stack.enter_context(running(broker, workers, rules, *arguments))


@on_redis
def test_healthy_cluster_sends_no_notification(scene: Scene) -> None:
    publish(scene.broker, "add", 1, 2, count=30)
    wait_for(lambda: scene.prometheus.query("celery_task_succeeded_total == 30"), 30)
    assert scene.firing() == set()
    assert scene.unread() == []


@on_redis
def test_a_worker_is_killed(scene: Scene) -> None:
    with scene.one_notification("CeleryWorkerDown", "warning") as notification:
        scene.workers["two"].kill()
        received = notification()
        assert received.title == "[FIRING:1] CeleryWorkerDown (celery-vitals)"
        assert "two@test" in received.text
        assert "blob/main/docs/runbooks/CeleryWorkerDown.md" in received.text
        scene.workers["two"].start()


@on_redis
def test_a_worker_is_frozen(scene: Scene) -> None:
    with scene.one_notification("CeleryWorkerDown", "warning") as notification:
        scene.workers["one"].freeze()
        assert "one@test" in notification().text
        scene.workers["one"].thaw()


@on_redis
def test_graceful_shutdown_of_a_worker_sends_no_notification(scene: Scene) -> None:
    scene.workers["two"].stop()
    wait_for(lambda: scene.prometheus.query('celery_worker_up{worker="two@test"} == 0'), 30)
    # Longer than CeleryWorkerDown takes to fire.
    wait_for(
        lambda: scene.prometheus.query(
            'min_over_time((1 - celery_worker_up{worker="two@test"})[10s:1s]) == 1'
        ),
        30,
    )
    assert scene.firing() == set()
    scene.workers["two"].start()
    wait_for(lambda: scene.prometheus.query('celery_worker_up{worker="two@test"} == 1'), 30)
    assert scene.unread() == []


@on_both
def test_a_consumer_is_cancelled(scene: Scene) -> None:
    with scene.one_notification("CeleryWorkerNotConsuming", "critical") as notification:
        for queue in ("celery", "two"):
            scene.control("cancel_consumer", queue, "two@test")
        # Its own queue has no consumers now, which must not send another notification.
        publish(scene.broker, "add", 1, 2, queue="two", count=3)
        assert "two@test" in notification().text
        wait_for(lambda: "CeleryQueueUnserved" in scene.firing(), SETTLE)
        for queue in ("celery", "two"):
            scene.control("add_consumer", queue, "two@test")


@on_both
def test_a_queue_without_consumers_is_filled(scene: Scene) -> None:
    with scene.one_notification("CeleryQueueUnserved", "critical") as notification:
        # Without sent events, nothing on RabbitMQ proves that the queue is Celery's.
        sent_events = {"task_send_sent_event": True}
        publish(scene.broker, "add", 1, 2, queue="reports", count=7, conf=sent_events)
        assert "7 messages wait in the queue reports" in notification().text
        scene.control("add_consumer", "reports", "one@test")
        wait_for(lambda: scene.prometheus.query('celery_queue_length{queue="reports"} == 0'), 60)
        scene.control("cancel_consumer", "reports", "one@test")


@on_redis
def test_a_task_fails(scene: Scene) -> None:
    publish(scene.broker, "add", 1, 2, count=80)
    wait_for(lambda: scene.prometheus.query("sum(celery_task_succeeded_total) >= 80"), 30)
    with scene.one_notification("CeleryTaskFailureRatio", "warning") as notification:
        publish(scene.broker, "add", 1, None)
        wait_for(
            lambda: scene.prometheus.query("count_over_time(celery_task_failed_total[1m]) >= 3"), 30
        )
        # Less than the share of failures of all tasks that pages.
        publish(scene.broker, "add", 1, None, count=40)
        assert "project.add" in notification().text
        publish(scene.broker, "add", 1, 2, count=400)


@on_redis
def test_all_workers_are_frozen_while_messages_wait(scene: Scene) -> None:
    with scene.one_notification("CeleryNoWorkers", "critical") as notification:
        for worker in scene.workers.values():
            worker.freeze()
        publish(scene.broker, "add", 1, 2, queue="two", count=5)
        assert "no worker" in notification().text
        assert {"CeleryNoWorkers", "CeleryWorkerDown"} == scene.firing()
        for worker in scene.workers.values():
            worker.thaw()


@on_both
def test_the_broker_is_stopped(scene: Scene) -> None:
    with scene.one_notification("CeleryBrokerDown", "critical") as notification:
        scene.broker.server.kill()
        assert notification().alert == "CeleryBrokerDown"
        # Longer than the alerts that follow from it take to fire.
        wait_for(lambda: scene.prometheus.query("max_over_time(celery_broker_up[8s]) == 0"), SETTLE)
        scene.broker.server.start()


@on_redis
def test_the_exporter_is_killed(scene: Scene) -> None:
    with scene.one_notification("CeleryExporterDown", "critical") as notification:
        scene.exporter.kill()
        assert notification().alert == "CeleryExporterDown"
        scene.exporter.start()
