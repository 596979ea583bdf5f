"""All state is bounded, whichever events arrive or are missing."""

from __future__ import annotations

import json
import threading
import time

import pytest

from celery_vitals import Secret, Settings
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.target import target_of
from celery_vitals.collectors.tasks import TasksCollector
from celery_vitals.workers.registry import WorkerRegistry
from tests.support.scene import WORKER, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_number_of_tracked_workers_is_limited() -> None:
    scene = Scene(max_workers=20)
    for number in range(2000):
        scene.send("task-started", f"u{number}", hostname=f"w{number}@h{number}")
        scene.send("worker-heartbeat", hostname=f"w{number}@h{number}", processed=1, active=1)
        scene.sent(f"v{number}", hostname=f"gen@p{number}")
    assert len(scene.processor._workers.workers) <= 21
    assert len(scene.processor._workers._producers) <= 21
    assert len(scene.labels("exporter_events_missed_total", "worker")) <= 21
    assert scene.total("task_started_total") == 2000


def test_many_new_workers_call_the_callback_once_and_start_no_threads() -> None:
    """As when the exporter connects to a large cluster."""
    settings = Settings(broker_url=Secret("redis://localhost/0"))
    calls: list[None] = []
    collector = TasksCollector(
        BrokerClient(target_of(settings, None), 1.0),
        WorkerRegistry(120.0, 3600.0),
        settings,
        lambda: calls.append(None),
    )
    before, scene = threading.active_count(), Scene()
    bodies = [
        json.dumps(scene.event("worker-heartbeat", hostname=f"w@{number}")).encode()
        for number in range(200)
    ]
    collector._processor.feed(bodies, time.time())
    assert len(calls) == 1
    assert threading.active_count() == before


def test_number_of_tracked_tasks_is_limited_and_running_tasks_are_kept() -> None:
    scene = Scene(max_tasks=100)
    for number in range(10):
        scene.received(f"run{number}", "slow")
        scene.started(f"run{number}")
    for number in range(5000):
        scene.sent(f"u{number}")
        assert scene.tracked_tasks <= 100
    assert scene.tasks.evicted >= 4900
    assert scene.value("exporter_tasks_in_flight_evicted_total") == scene.tasks.evicted
    for number in range(10):
        scene.succeeded(f"run{number}")
    assert scene.total("task_succeeded_total", task="slow") == 10
    assert len(scene.tasks.deferred) <= 100


def test_ids_of_retried_tasks_are_not_kept_after_their_end() -> None:
    scene = Scene()
    for number in range(100):
        uuid = f"u{number}"
        scene.sent(uuid)
        scene.received(uuid)
        scene.started(uuid)
        scene.sent(uuid, retries=1)
        scene.send("task-retried", uuid)
        scene.run(uuid, retries=1)
    scene.idle(10)
    assert scene.tracked_tasks == 0
    assert len(scene.tasks._executions._repeated) == 0


def test_a_task_that_retries_forever_does_not_protect_others_from_eviction() -> None:
    scene = Scene(forget_after=600.0, idle_after=1e9)
    scene.sent("loop")
    for number in range(5):
        scene.sent(f"lost{number}")
    for attempt in range(30):
        scene.received("loop", retries=attempt)
        scene.started("loop")
        scene.sent("loop", retries=attempt + 1)
        scene.send("task-retried", "loop")
        scene.idle(60)
    assert scene.tracked_tasks == 1
    assert scene.tasks.evicted == 5


def test_tasks_that_never_end_are_evicted_by_age() -> None:
    """Sent and never received; ignored; or on a worker that was killed."""
    scene = Scene(idle_after=1e9)
    scene.heartbeat(0, 0)
    for number in range(20):
        scene.sent(f"sent{number}")
        scene.received(f"ignored{number}")
        scene.started(f"ignored{number}")
    scene.idle(10)
    scene.heartbeat(20, 0)
    scene.started("killed")
    scene.heartbeat(0, 0, pid=11)
    for _ in range(5):
        scene.idle(3601)
    assert scene.tracked_tasks == 0
    assert scene.task()["sent"] == 20


def test_old_tasks_are_evicted_although_the_oldest_run() -> None:
    scene = Scene(forget_after=100)
    scene.heartbeat(0, 0)
    for number in range(1100):
        scene.started(f"run{number}")
    for number in range(1500):
        scene.sent(f"u{number}")
    for _ in range(5):
        scene.idle(101)
    assert scene.tracked_tasks == 1100


def test_ignored_tasks_do_not_accumulate() -> None:
    scene = Scene(max_tasks=100_000, forget_after=7 * 86400)
    for number in range(2000):
        scene.received(f"u{number}")
        scene.started(f"u{number}")
        if number % 100 == 99:
            scene.heartbeat(number, 0, after=2)
            scene.idle(6)
    assert scene.tracked_tasks <= 200


def test_waiting_tasks_are_bounded_behind_one_that_waits_for_long(scene: Scene) -> None:
    scene.consumes(WORKER, "q")
    scene.sent("stuck")
    head = scene.now
    for number in range(20_000):
        scene.sent(f"u{number}", after=0.001)
        scene.run(f"u{number}", after=0.001)
    assert scene.tracked_tasks == 1
    assert dict(scene.tasks.waiting.oldest()) == {"q": head}
    assert len(scene.tasks.waiting["q"]) < 5000


def test_number_of_ended_tasks_kept_is_limited() -> None:
    scene = Scene(max_tasks=100_000)
    for number in range(25_000):
        scene.send("task-failed", f"u{number}", exception="E()", after=0.0)
    assert scene.tracked_tasks <= 20_001
    scene.idle(6)
    assert scene.tracked_tasks == 0
    assert len(scene.tasks._executions._ended) == 0


def test_no_state_is_left_of_ended_tasks(scene: Scene) -> None:
    scene.heartbeat(0, 0)
    for number in range(200):
        queue, uuid = f"q{number % 7}", f"u{number}"
        scene.sent(uuid, queue=queue)
        scene.received(uuid)
        scene.started(uuid)
        (scene.succeeded, scene.failed)[number % 2](uuid)
    scene.idle(10)
    assert scene.tracked_tasks == 0
    assert not any(
        (
            scene.tasks.deferred,
            scene.tasks.deferred._deadlines,
            scene.tasks._executions._ended,
            scene.tasks._executions._repeated,
            *scene.tasks.waiting.values(),
        )
    )
    assert not scene.tracker().running


def test_deferred_events_of_evicted_tasks_are_counted() -> None:
    scene = Scene(max_tasks=10, queues_known=False)
    for number in range(50):
        scene.received(f"u{number}")
    assert scene.tracked_tasks <= 10
    scene.idle(3)
    assert scene.total("task_received_total") == 50


def test_task_started_again_after_its_end_is_kept() -> None:
    scene = Scene()
    scene.received("u")
    scene.started("u")
    scene.failed("u")
    scene.started("u")  # redelivered
    scene.idle(6)
    assert scene.tracked_tasks == 1
    assert scene.running() == 1


def test_number_of_names_kept_is_limited() -> None:
    scene = Scene(capacity=10)
    for number in range(100):
        scene.sent(f"u{number}", f"task{number}")
    assert len(scene.index._names) == 10
