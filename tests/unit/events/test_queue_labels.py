"""Queues of one process in task events: they count under a name that they share."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from celery_vitals.events import queue_labels
from celery_vitals.events.queue_labels import QueueLabels
from tests.support.scene import WORKER, Scene


def queue_of(name: str, exchange: str, kind: str = "fanout") -> dict[str, Any]:
    """Return a queue as workers report it."""
    return {"name": name, "exchange": {"name": exchange, "type": kind}}


def send_each(scene: Scene, count: int, name: str, **fields: Any) -> None:
    """Send tasks, each to the queue of another process."""
    for number in range(count):
        queue = name.format(uuid.uuid4() if "bcast" in name or "unique" in name else number)
        scene.sent(f"{name}{number}", queue=queue, **fields)


def test_queues_of_producers_and_pods_do_not_fill_the_limit() -> None:
    scene = Scene(caps={"queue": 4})
    send_each(scene, 50, "bcast.{}", exchange="news")
    send_each(scene, 50, "celery@web-7d9f-{}.dq2", exchange="")
    scene.sent("u", queue="emails", exchange="")
    assert scene.labels("task_sent_total", "queue") == {"news", "C.dq2", "emails"}
    for queue in ("news", "C.dq2"):
        assert scene.task(queue=queue) == {"sent": 50}
    assert scene.task(queue="emails") == {"sent": 1}


def test_a_shared_name_is_not_read_and_has_no_oldest_message() -> None:
    """No queue has it: on Redis its length would be 0, and without a worker its age would grow."""
    scene = Scene()
    send_each(scene, 3, "bcast.{}", exchange="news")
    send_each(scene, 3, "w{}@host.dq2")
    scene.sent("u", queue="emails")
    assert scene.processor.queues() == {"emails"}
    assert scene.labels("queue_oldest_message_timestamp_seconds", "queue") == {"emails"}


def test_a_unique_queue_counts_as_its_exchange_where_a_worker_consumes_that() -> None:
    scene = Scene()
    send_each(scene, 2, "unique.{}", exchange="alerts")
    assert len(scene.labels("task_sent_total", "queue")) == 2
    scene.registry.queues_replied(
        WORKER, [queue_of(f"unique.{uuid.uuid4()}", "alerts"), queue_of("q", "q", "direct")]
    )
    send_each(scene, 5, "unique.{}", exchange="alerts")
    assert scene.task(queue="alerts") == {"sent": 5}
    assert "alerts" not in scene.processor.queues()


def test_a_queue_of_a_tenant_keeps_its_name() -> None:
    scene = Scene()
    names = {f"tenant.{uuid.uuid4()}" for _ in range(3)}
    for name in names:
        scene.sent(name, queue=name, exchange="tenants")
    assert scene.labels("task_sent_total", "queue") == names


def test_the_only_queue_of_a_worker_may_be_one_of_its_own() -> None:
    scene = Scene(queues_known=False)
    scene.registry.queues_replied(WORKER, [queue_of(f"bcast.{uuid.uuid4()}", "news")])
    scene.idle()
    scene.run("u")
    assert scene.labels("task_received_total", "queue") == {"news"}
    assert scene.processor.queues() == set()


def test_remembered_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_labels, "_MAX_NAMES", 10)
    labels = QueueLabels()
    for number in range(100):
        assert labels.label(f"q{number}") == f"q{number}"
        assert labels.label(f"bcast.{uuid.uuid4()}", f"x{number}") == f"x{number}"
    assert len(labels.own) <= 10
    assert len(labels.shared) <= 10
