"""Real losses and repetitions, with the rules in a real Prometheus and Alertmanager."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import amqp
import pytest
from kombu import Connection

from tests.support.ops.alert_scene import SETTLE, Scene, running
from tests.support.ops.short_rules import overrides, quick_groups, short_windows
from tests.support.servers import (
    BrokerServer,
    Publisher,
    RabbitMQServer,
    RedisServer,
    Worker,
    publish,
    wait_for,
)

on_redis = pytest.mark.parametrize("scene", [RedisServer], indirect=True, ids=["redis"])
on_rabbitmq = pytest.mark.parametrize("scene", [RabbitMQServer], indirect=True, ids=["rabbitmq"])
on_both = pytest.mark.parametrize(
    "scene", [RedisServer, RabbitMQServer], indirect=True, ids=["redis", "rabbitmq"]
)
SENT_EVENTS = {"task_send_sent_event": True}
"""Without them, the queue of a task is unknown where its worker consumes several."""
VISIBILITY_TIMEOUT = {
    "broker_transport_options": {
        "visibility_timeout": 5,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
}


@pytest.fixture(scope="module")
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Run two workers with a queue of their own each, and one of both."""
    with ExitStack() as stack:
        server: BrokerServer = stack.enter_context(request.param())
        broker = stack.enter_context(server.namespace())
        workers = {
            name: Worker(
                broker,
                "prefork",
                name,
                queues=("celery", name),
                concurrency=4,
                events=True,
                conf=VISIBILITY_TIMEOUT if server.kind == "redis" else {},
            )
            for name in ("one", "two")
        }
        rules = [
            overrides(scrape_budget_ratio=9),
            *short_windows(quick_groups("CeleryExporterCollectorFailing")),
        ]
        yield stack.enter_context(running(broker, workers, rules, "--worker-timeout", "30"))


def cases(scene: Scene, **wanted: str) -> list[dict[str, Any]]:
    """Return the cases of /lost with these fields."""
    status, body = scene.exporter.get("/lost")
    assert status == 200
    found: list[dict[str, Any]] = json.loads(body)["cases"]
    return [case for case in found if wanted.items() <= case.items()]


@on_both
def test_a_worker_is_killed_while_it_runs_a_task(scene: Scene) -> None:
    with (
        Publisher(scene.broker, SENT_EVENTS) as publisher,
        scene.one_notification("CeleryTasksLost", "warning") as notification,
    ):
        [uuid] = publisher.send("sleep", 600.0, queue="one")
        wait_for(lambda: scene.prometheus.query('celery_task_running{task="project.sleep"} == 1'))
        scene.workers["one"].kill()
        scene.workers["one"].start()
        text = notification().text
        assert "1 executions of project.sleep in the queue one were lost" in text
        assert "blob/main/docs/runbooks/CeleryTasksLost.md" in text
        [case] = cases(scene, kind="lost", id=uuid)
        assert case["worker"] == "one@test"


@on_rabbitmq
def test_a_task_id_is_used_twice(scene: Scene) -> None:
    with (
        Publisher(scene.broker, SENT_EVENTS) as publisher,
        scene.one_notification("CeleryTaskRunsTwice", "warning") as notification,
    ):
        for _ in range(2):
            publisher.send("bill", queue="one", task_id="again")
            wait_for(lambda: publisher.length("one") == 0)
        text = notification().text
        assert "project.bill in the queue one" in text
        assert "Send it without task_id." in text


@on_both
def test_a_restart_of_workers_sends_no_notification(scene: Scene) -> None:
    publish(scene.broker, "late", 2.0, queue="two", count=4, conf=SENT_EVENTS)
    wait_for(lambda: scene.prometheus.query('celery_task_running{task="project.late"} == 4'))
    scene.workers["two"].stop()
    scene.workers["two"].start()
    balance = 'quantile_over_time(0.5, celery_vitals:task_balance{task="project.late"}[5s]) == 0'
    wait_for(lambda: scene.prometheus.query(balance), SETTLE)
    assert scene.firing() == set()
    assert scene.unread() == []


@on_redis
def test_a_task_takes_longer_than_the_visibility_timeout(scene: Scene) -> None:
    with (
        Publisher(scene.broker, SENT_EVENTS) as publisher,
        scene.one_notification("CeleryTaskRunsTwice", "warning") as notification,
    ):
        [uuid] = publisher.send("late", 12.0, queue="two")
        text = notification().text
        assert "project.late in the queue two" in text
        found = re.search(r'"visibility_timeout": (\d+)', text)
        assert found is not None
        assert int(found[1]) > 12
        [case, *_] = cases(scene, kind="overlapping", id=uuid)
        assert case["reason"] == "visibility_timeout"


@on_rabbitmq
def test_a_message_is_dead_lettered(scene: Scene) -> None:
    with Connection(scene.broker.url) as connection:
        channel: Any = connection.channel()
        lasting: Any = {"durable": True, "auto_delete": False}
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("dead", **lasting)
        channel.queue_declare("expiring", arguments=arguments, **lasting)
        wait_for(lambda: scene.prometheus.query("queue:celery_queue_length:dead_letters == 0"))
        with scene.one_notification("CeleryDeadLettersGrow", "warning") as notification:
            channel.basic_publish(amqp.Message(b"x", expiration="0"), routing_key="expiring")
            text = notification().text
            assert "The dead-letter queue dead has 1 messages more" in text
            channel.queue_purge("dead")
        for name in ("expiring", "dead"):
            channel.queue_delete(name)
