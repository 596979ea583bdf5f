"""A real cluster, Prometheus with the rules, Alertmanager with the example's routes: a fault, and the message of it.

Each fault is one message, and its end another; those in which the broker matters are on both brokers.  Only times are
shorter: each `for`, Alertmanager's waits, and the exporter's --worker-timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from tests.support.exporter import Exporter
from tests.support.ops.quick import overrides, quick_alertmanager, quick_groups
from tests.support.ops.rules import ALERTS
from tests.support.ops.webhook import Message, Webhook
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
ADDRESS = "https://wiki.example.org/"
SETTLE = 60.0


@dataclass
class Scene:
    """All that runs."""

    broker: Broker
    workers: dict[str, Worker]
    exporter: Exporter
    prometheus: PrometheusServer
    webhook: Webhook
    told: int = field(default=0)
    """How many messages have been read."""

    def fresh(self) -> list[Message]:
        """The messages since the last time."""
        found = self.webhook.messages[self.told :]
        self.told += len(found)
        return found

    def control(self, command: str, queue: str, worker: str) -> None:
        """Have a worker begin or end to consume a queue."""
        with (
            Publisher(self.broker) as publisher,
            publisher.app.connection_for_write() as connection,
        ):
            getattr(publisher.app.control, command)(
                queue, destination=[worker], connection=connection
            )

    def firing(self) -> set[str]:
        """The alerts that fire, by Prometheus' word."""
        return {
            one["labels"]["alertname"]
            for one in self.prometheus.alerts()
            if one["state"] == "firing"
        }

    @contextmanager
    def one_message(self, alert: str, severity: str) -> Iterator[Callable[[], Message]]:
        """In the block a fault begins, the function waits for its message, and the fault ends.

        Then the message of its end has come, and no other at all.
        """
        assert self.fresh() == []
        receiver = {"critical": "on-call", "warning": "team"}[severity]

        def message() -> Message:
            wait_for(
                lambda: self.webhook.messages[self.told :], SETTLE, what=f"a message of {alert}"
            )
            return self.webhook.messages[self.told]

        yield message
        wait_for(lambda: not self.prometheus.alerts(), SETTLE, what=f"the end of {alert}")
        wait_for(
            lambda: any(
                one.resolved and one.alert == alert for one in self.webhook.messages[self.told :]
            ),
            SETTLE,
            what=f"the message of the end of {alert}",
        )
        assert [(one.alert, one.receiver, one.resolved) for one in self.fresh()] == [
            (alert, receiver, False),
            (alert, receiver, True),
        ]


on_redis = pytest.mark.parametrize("scene", [RedisServer], indirect=True, ids=["redis"])
on_both = pytest.mark.parametrize(
    "scene", [RedisServer, RabbitMQServer], indirect=True, ids=["redis", "rabbitmq"]
)


@pytest.fixture(scope="module")
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Two workers on a broker of their own, the exporter, Prometheus, Alertmanager, and who gets the messages."""
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
        template = (
            (ALERTS / TEMPLATE).read_text().replace('runbooks" }}', f'runbooks" }}}}{ADDRESS}', 1)
        )
        alertmanager = stack.enter_context(
            AlertmanagerServer(quick_alertmanager(webhook.url), {TEMPLATE: template})
        )
        # Their `for` stays: a scrape has half a second here, and silent workers are waited for longer than that; and
        # the stream takes some seconds to come back to a broker that was away.
        patient = ("CeleryExporterCollectorFailing", "CeleryEventStreamDeaf")
        rules = [overrides(scrape_budget_ratio=9), *quick_groups(*patient)]
        prometheus = stack.enter_context(
            PrometheusServer([listen], rules=rules, alertmanagers=[f"{HOST}:{alertmanager.port}"])
        )
        wait_for(
            lambda: prometheus.query("sum(celery_worker_consumed_queues) == 4"),
            30,
            ignoring=(OSError,),
        )
        wait_for(lambda: not prometheus.alerts(), 30, what="nothing pending")
        yield Scene(broker, workers, exporter, prometheus, webhook)


@on_redis
def test_nothing_is_said_of_a_healthy_cluster(scene: Scene) -> None:
    publish(scene.broker, "add", 1, 2, count=30)
    wait_for(lambda: scene.prometheus.query("celery_task_succeeded_total == 30"), 30)
    assert scene.firing() == set()
    assert scene.fresh() == []


@on_redis
def test_a_worker_is_killed(scene: Scene) -> None:
    with scene.one_message("CeleryWorkerDown", "warning") as message:
        scene.workers["two"].kill()
        said = message()
        assert said.title == "[FIRING:1] CeleryWorkerDown (celery-vitals)"
        assert "two@test" in said.text
        assert f"What to do: {ADDRESS}docs/runbooks/CeleryWorkerDown.md" in said.text
        scene.workers["two"].start()


@on_redis
def test_a_worker_is_frozen(scene: Scene) -> None:
    with scene.one_message("CeleryWorkerDown", "warning") as message:
        scene.workers["one"].freeze()
        assert "one@test" in message().text
        scene.workers["one"].thaw()


@on_redis
def test_a_worker_says_goodbye_and_comes_back(scene: Scene) -> None:
    scene.workers["two"].stop()
    wait_for(lambda: scene.prometheus.query('celery_worker_up{worker="two@test"} == 0'), 30)
    # For longer than the alert on a killed one takes.
    wait_for(
        lambda: scene.prometheus.query(
            'min_over_time((1 - celery_worker_up{worker="two@test"})[10s:1s]) == 1'
        ),
        30,
    )
    assert scene.firing() == set()
    scene.workers["two"].start()
    wait_for(lambda: scene.prometheus.query('celery_worker_up{worker="two@test"} == 1'), 30)
    assert scene.fresh() == []


@on_both
def test_a_consumer_is_cancelled(scene: Scene) -> None:
    with scene.one_message("CeleryWorkerNotConsuming", "critical") as message:
        for queue in ("celery", "two"):
            scene.control("cancel_consumer", queue, "two@test")
        # Its own queue has nobody now, and that is not another message.
        publish(scene.broker, "add", 1, 2, queue="two", count=3)
        assert "two@test" in message().text
        wait_for(lambda: "CeleryQueueUnserved" in scene.firing(), SETTLE)
        for queue in ("celery", "two"):
            scene.control("add_consumer", queue, "two@test")


@on_both
def test_a_queue_is_filled_that_nobody_serves(scene: Scene) -> None:
    with scene.one_message("CeleryQueueUnserved", "critical") as message:
        publish(scene.broker, "add", 1, 2, queue="reports", count=7)
        assert "7 messages wait in the queue reports" in message().text
        scene.control("add_consumer", "reports", "one@test")
        wait_for(lambda: scene.prometheus.query('celery_queue_length{queue="reports"} == 0'), 60)
        scene.control("cancel_consumer", "reports", "one@test")


@on_redis
def test_a_task_fails(scene: Scene) -> None:
    with scene.one_message("CeleryTaskFailureRatio", "warning") as message:
        publish(scene.broker, "add", 1, None)
        wait_for(
            lambda: scene.prometheus.query("count_over_time(celery_task_failed_total[1m]) >= 3"), 30
        )
        publish(scene.broker, "add", 1, None, count=60)
        assert "project.add" in message().text
        publish(scene.broker, "add", 1, 2, count=400)


@on_redis
def test_all_workers_are_frozen_while_work_waits(scene: Scene) -> None:
    with scene.one_message("CeleryNoWorkers", "critical") as message:
        for worker in scene.workers.values():
            worker.freeze()
        publish(scene.broker, "add", 1, 2, queue="two", count=5)
        assert "no worker" in message().text
        assert {"CeleryNoWorkers", "CeleryWorkerDown"} == scene.firing()
        for worker in scene.workers.values():
            worker.thaw()


@on_both
def test_the_broker_is_stopped(scene: Scene) -> None:
    with scene.one_message("CeleryBrokerDown", "critical") as message:
        scene.broker.server.kill()
        assert message().alert == "CeleryBrokerDown"
        # Longer than anything that follows from it would take.
        wait_for(lambda: scene.prometheus.query("max_over_time(celery_broker_up[8s]) == 0"), SETTLE)
        scene.broker.server.start()


@on_redis
def test_the_exporter_is_killed(scene: Scene) -> None:
    with scene.one_message("CeleryExporterDown", "critical") as message:
        scene.exporter.kill()
        assert message().alert == "CeleryExporterDown"
        scene.exporter.start()
