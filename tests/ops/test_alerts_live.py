"""Real faults with a real Prometheus, Alertmanager and the rules: one notification per fault.

Each fault sends one notification, and another when it is resolved.  Faults that depend on the
broker run on Redis and RabbitMQ.  Only times are shorter: each `for`, the waits of Alertmanager,
and the exporter's --worker-timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from tests.support.exporter import Exporter
from tests.support.ops.rules import ALERTS
from tests.support.ops.short_rules import overrides, quick_alertmanager, quick_groups
from tests.support.ops.webhook import Notification, Webhook
from tests.support.servers import (
    HOST,
    AlertmanagerServer,
    Broker,
    BrokerServer,
    PrometheusServer,
    Publisher,
    RabbitMQServer,
    RedisServer,
    Worker,
    free_port,
    publish,
    wait_for,
)

TEMPLATE = "celery-vitals.tmpl"
SETTLE = 60.0


@dataclass
class Scene:
    """The running cluster, exporter and monitoring."""

    broker: Broker
    workers: dict[str, Worker]
    exporter: Exporter
    prometheus: PrometheusServer
    webhook: Webhook
    read: int = field(default=0)
    """Number of notifications that have been read."""

    def unread(self) -> list[Notification]:
        """Return the notifications since the last call."""
        found = self.webhook.notifications[self.read :]
        self.read += len(found)
        return found

    def control(self, command: str, queue: str, worker: str) -> None:
        """Send a remote control command about a queue to a worker."""
        with (
            Publisher(self.broker) as publisher,
            publisher.app.connection_for_write() as connection,
        ):
            getattr(publisher.app.control, command)(
                queue, destination=[worker], connection=connection
            )

    def firing(self) -> set[str]:
        """Return the alerts that fire in Prometheus."""
        return {
            one["labels"]["alertname"]
            for one in self.prometheus.alerts()
            if one["state"] == "firing"
        }

    @contextmanager
    def one_notification(self, alert: str, severity: str) -> Iterator[Callable[[], Notification]]:
        """Expect exactly two notifications of a fault: firing and resolved.

        The block causes the fault, waits for the notification with the returned function, and
        removes the fault.
        """
        assert self.unread() == []
        receiver = {"critical": "on-call", "warning": "team"}[severity]

        def notification() -> Notification:
            wait_for(
                lambda: self.webhook.notifications[self.read :],
                SETTLE,
                what=f"a notification of {alert}",
            )
            return self.webhook.notifications[self.read]

        yield notification
        wait_for(lambda: not self.prometheus.alerts(), SETTLE, what=f"{alert} to resolve")
        wait_for(
            lambda: any(
                one.resolved and one.alert == alert
                for one in self.webhook.notifications[self.read :]
            ),
            SETTLE,
            what=f"the resolved notification of {alert}",
        )
        assert [(one.alert, one.receiver, one.resolved) for one in self.unread()] == [
            (alert, receiver, False),
            (alert, receiver, True),
        ]


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
        for worker in workers.values():
            stack.callback(worker.close)
            worker.launch()
        for worker in workers.values():
            worker.wait_ready()
        listen = f"{HOST}:{free_port()}"
        arguments = (
            "--worker-timeout",
            "10",
            "--worker-forget-after",
            "600",
            "--web.listen-address",
            listen,
        )
        exporter = stack.enter_context(Exporter.of(broker, *arguments))
        webhook = stack.enter_context(Webhook())
        template = (ALERTS / TEMPLATE).read_text()
        alertmanager = stack.enter_context(
            AlertmanagerServer(quick_alertmanager(webhook.url), {TEMPLATE: template})
        )
        # These keep their `for`: the scrape timeout of half a second is shorter than the wait for
        # lost workers, and the event stream takes seconds to reconnect to the broker.
        unchanged = ("CeleryExporterCollectorFailing", "CeleryEventStreamDeaf")
        rules = [overrides(scrape_budget_ratio=9), *quick_groups(*unchanged)]
        prometheus = stack.enter_context(
            PrometheusServer([listen], rules=rules, alertmanagers=[f"{HOST}:{alertmanager.port}"])
        )
        wait_for(
            lambda: prometheus.query("sum(celery_worker_consumed_queues) == 4"),
            30,
            ignoring=(OSError,),
        )
        wait_for(lambda: not prometheus.alerts(), 30, what="no pending alert")
        yield Scene(broker, workers, exporter, prometheus, webhook)


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
