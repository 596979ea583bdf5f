"""Executions that share a uuid: chosen by the application, delivered twice, replaced, retried."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.scene import WORKER, Scene

OTHER_WORKER = "v@three"


@pytest.fixture
def scene() -> Scene:
    """A scene whose workers consume several queues."""
    scene = Scene()
    scene.consumes(OTHER_WORKER, "q", "r")
    return scene


def test_one_id_for_executions_that_overlap_without_task_sent_events() -> None:
    scene = Scene()
    scene.consumes(WORKER, "q")
    for _ in range(20):
        scene.received("nightly")
    for _ in range(5):
        for _ in range(4):
            scene.started("nightly")
        assert scene.running() == 4
        for _ in range(4):
            scene.succeeded("nightly", after=1, runtime=1.0)
    assert scene.task() == {"received": 20, "started": 20, "succeeded": 20}
    assert scene.running() == 0
    scene.idle(6)
    assert scene.tracked_tasks == 0


def test_one_id_for_executions_with_task_sent_events(scene: Scene) -> None:
    for _ in range(5):
        scene.sent("nightly", after=1)
    assert dict(scene.tasks.waiting.oldest()) == {"q": scene.now - 4}
    for _ in range(5):
        scene.received("nightly", after=0)
    for number in range(5):
        assert dict(scene.tasks.waiting.oldest()) == {"q": scene.now - 4}
        scene.started("nightly", after=1)
        (scene.succeeded, scene.failed)[number % 2]("nightly", after=0)
    assert scene.task() == {"sent": 5, "received": 5, "started": 5, "succeeded": 3, "failed": 2}
    assert scene.waits() == (5, 25.0)
    assert list(scene.tasks.waiting.oldest()) == []
    scene.idle(6)
    assert scene.tracked_tasks == 0


def test_one_id_in_two_queues_and_two_names(scene: Scene) -> None:
    scene.sent("x", "add", "q")
    scene.sent("x", "mul", "r")
    for name in ("mul", "add"):
        scene.received("x", name)
        scene.started("x")
    scene.succeeded("x", after=2, runtime=2.0)  # the one that started last
    scene.failed("x", after=1)
    assert scene.task("add", "q") == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
    assert scene.task("mul", "r") == {"sent": 1, "received": 1, "started": 1, "failed": 1}


def test_revoked_while_another_execution_of_its_id_runs(scene: Scene) -> None:
    for _ in range(2):
        scene.sent("x")
    scene.received("x")
    scene.started("x")
    scene.send("task-revoked", "x", terminated=False, expired=False)
    assert scene.running() == 1
    scene.succeeded("x")
    assert scene.task() == {"sent": 2, "received": 1, "started": 1, "revoked": 1, "succeeded": 1}
    assert scene.running() == 0


def test_a_revocation_does_not_end_the_running_execution_of_its_id(scene: Scene) -> None:
    """Without task-sent events, and revoked when it was received, which sends no event."""
    scene.received("x")
    scene.started("x")
    scene.send("task-revoked", "x", terminated=False, expired=True)
    assert scene.running() == 1
    scene.succeeded("x")
    assert scene.task(queue="unknown") == {
        "received": 1, "started": 1, "revoked": 1, "succeeded": 1,
    }  # fmt: skip


def test_hard_time_limit_of_one_of_two_executions(scene: Scene) -> None:
    """Celery 5.7 sends its event twice, while the other one waits in the worker."""
    for _ in range(2):
        scene.sent("x")
        scene.received("x")
    scene.started("x")
    for _ in range(2):
        scene.failed("x", "TimeLimitExceeded(1)")
    scene.started("x")
    scene.succeeded("x")
    assert scene.task() == {"sent": 2, "received": 2, "started": 2, "failed": 1, "succeeded": 1}


# A message that is delivered twice


@pytest.mark.parametrize("both", [False, True], ids=["one starts", "both start"])
def test_delivered_to_another_worker_before_its_start(scene: Scene, both: bool) -> None:
    """As Redis does after the visibility timeout, to a task that waits for its ETA."""
    scene.sent("x")
    scene.received("x")
    scene.received("x", hostname=OTHER_WORKER, after=3)
    scene.started("x", hostname=OTHER_WORKER)
    scene.succeeded("x", hostname=OTHER_WORKER)
    assert scene.waits() == (1, 3.02)
    assert list(scene.tasks.waiting.oldest()) == []
    if both:
        scene.started("x", after=60)
        scene.succeeded("x")
    runs = 2 if both else 1
    assert scene.task() == {"sent": 1, "received": 2, "started": runs, "succeeded": runs}
    assert scene.waits()[0] == 1
    scene.idle(3601)
    assert scene.tracked_tasks == 0


def test_a_restarted_worker_starts_the_same_message() -> None:
    scene = Scene()
    scene.heartbeat(0, 0)
    scene.sent("x")
    scene.received("x")
    scene.started("x")
    scene.heartbeat(0, 0, pid=11)
    assert scene.running() == 0
    scene.received("x", pid=11)
    scene.started("x", pid=11)
    assert scene.running() == 1
    scene.succeeded("x", pid=11)
    assert scene.task() == {"sent": 1, "received": 2, "started": 2, "succeeded": 1}
    for _ in range(65):
        scene.heartbeat(1, 0, pid=11, after=2)
        scene.idle()
    scene.idle(5)
    assert scene.total("task_redelivered_total") == 1
    assert scene.tracked_tasks == 0


def test_requeued_by_the_worker_whose_process_was_lost(scene: Scene) -> None:
    scene.sent("x")
    scene.received("x")
    scene.started("x")
    scene.send("task-rejected", "x", requeue=True)
    assert scene.running() == 0
    scene.received("x", hostname=OTHER_WORKER)
    scene.started("x", hostname=OTHER_WORKER)
    scene.failed("x", hostname=OTHER_WORKER)
    assert scene.task() == {"sent": 1, "received": 2, "started": 2, "rejected": 1, "failed": 1}
    scene.idle(6)
    assert scene.tracked_tasks == 0


# A uuid that changes its name or its queue


@pytest.mark.parametrize("sent_events", [True, False])
@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_replaced_task(sent_events: bool, end: str) -> None:
    """`Task.replace` sends another task with the same id, and ends without an event."""
    scene = Scene()
    if not sent_events:
        scene.consumes(WORKER, "q")
    scene.heartbeat(0, 0)
    if sent_events:
        scene.sent("x", "outer")
    scene.received("x", "outer")
    scene.started("x")
    if sent_events:
        scene.sent("x", "inner")
    scene.received("x", "inner", after=0.5)
    scene.started("x")
    if end == "succeeded":
        scene.succeeded("x", after=2, runtime=2.0)
    else:
        scene.failed("x", after=2)
    sent = {"sent": 1.0} if sent_events else {}
    assert scene.task("outer") == {**sent, "received": 1, "started": 1}
    assert scene.task("inner") == {**sent, "received": 1, "started": 1, end: 1}
    assert scene.total("task_runtime_seconds_sum") in (0, 2)
    assert scene.total("task_failed_runtime_seconds_sum") == pytest.approx(
        2 if end == "failed" else 0
    )
    for _ in range(2):
        scene.heartbeat(2, 0, after=2)
    assert scene.running("outer") == scene.running("inner") == 0
    scene.idle(6)
    assert scene.tracked_tasks == 0


def test_replacement_that_is_received_before_the_start_event_of_its_task(scene: Scene) -> None:
    scene.sent("x", "outer")
    scene.received("x", "outer")
    scene.sent("x", "inner", "r")
    scene.received("x", "inner")
    scene.started("x")
    scene.started("x")
    scene.succeeded("x", runtime=0.01)
    assert scene.task("outer") == {"sent": 1, "received": 1, "started": 1}
    assert scene.task("inner", "r") == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}


def test_task_sent_event_of_a_replacement_arrives_last(scene: Scene) -> None:
    scene.sent("x", "outer")
    scene.received("x", "outer")
    scene.started("x")
    scene.received("x", "inner")
    scene.started("x")
    scene.succeeded("x", runtime=0.01)
    scene.sent("x", "inner", "r")
    assert scene.task("inner", "r") == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}


def test_retry_in_which_a_task_is_replaced(scene: Scene) -> None:
    scene.sent("x", "outer")
    scene.received("x", "outer")
    scene.started("x")
    scene.sent("x", "outer", retries=1)
    scene.received("x", "outer", retries=1)
    scene.send("task-retried", "x")
    scene.started("x")
    scene.sent("x", "inner", "r")
    scene.received("x", "inner")
    scene.started("x")
    scene.failed("x")
    assert scene.task("outer") == {"sent": 2, "received": 2, "started": 2, "retried": 1}
    assert scene.task("inner", "r") == {"sent": 1, "received": 1, "started": 1, "failed": 1}


@pytest.mark.parametrize("sent_first", [True, False])
@pytest.mark.parametrize("worker", [WORKER, OTHER_WORKER])
def test_retry_that_goes_to_another_queue(scene: Scene, sent_first: bool, worker: str) -> None:
    scene.sent("x")
    scene.received("x")
    scene.started("x")
    if sent_first:
        scene.sent("x", queue="r", retries=1)
    scene.received("x", retries=1, hostname=worker)
    if not sent_first:
        scene.sent("x", queue="r", retries=1)
    scene.send("task-retried", "x")
    scene.started("x", hostname=worker)
    scene.succeeded("x", hostname=worker)
    assert scene.task(queue="q") == {"sent": 1, "received": 1, "started": 1, "retried": 1}
    assert scene.task(queue="r") == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
    assert (scene.waits(queue="q")[0], scene.waits(queue="r")[0]) == (1, 1)
    assert scene.task(queue="unknown") == {}


def test_retry_on_a_worker_of_another_queue_without_task_sent_events() -> None:
    scene = Scene()
    scene.consumes(WORKER, "q")
    scene.consumes(OTHER_WORKER, "r")
    scene.received("x")
    scene.started("x")
    scene.received("x", retries=1, hostname=OTHER_WORKER)
    scene.send("task-retried", "x")
    scene.started("x", hostname=OTHER_WORKER)
    scene.succeeded("x", hostname=OTHER_WORKER)
    assert scene.task(queue="q") == {"received": 1, "started": 1, "retried": 1}
    assert scene.task(queue="r") == {"received": 1, "started": 1, "succeeded": 1}


def test_shadowed_name_is_that_of_the_task_sent_event(scene: Scene) -> None:
    """Other events contain the `shadow` of a task."""
    scene.sent("x")
    scene.received("x", "shadow")
    scene.started("x")
    scene.succeeded("x")
    assert scene.task() == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
    assert scene.task("shadow") == {}


def test_executions_of_one_id_are_bounded(scene: Scene) -> None:
    for _ in range(3000):
        scene.sent("x", after=0.0)
    assert len(list(scene.tasks._executions.of("x"))) == 1000
    for _ in range(3000):
        scene.run("x", after=0.0)
        assert scene.tracked_tasks <= 2
    scene.idle(3)
    counts = [scene.total(f"task_{kind}_total", task="add") for kind in ("started", "succeeded")]
    assert counts == [3000, 3000]


@pytest.mark.parametrize("late", ["p", "one", "one's child", "two", "two's child"])
@pytest.mark.parametrize("seconds", [0.005, 0.02, 0.05, 0.1])
def test_events_of_one_process_arrive_late(scene: Scene, late: str, seconds: float) -> None:
    """A task retries in another queue, where it is replaced by one in the first queue."""
    for name in ("move", "inner"):
        scene.sent(name, name)
        scene.run(name, name)
    events: list[tuple[float, str, str, dict[str, Any]]] = [
        (0.000, "p", "sent", {"name": "move", "queue": "q", "retries": 0}),
        (0.001, "one", "received", {"name": "move", "retries": 0}),
        (0.002, "one", "started", {}),
        (0.010, "one's child", "sent", {"name": "move", "queue": "r", "retries": 1}),
        (0.012, "two", "received", {"name": "move", "retries": 1}),
        (0.013, "two", "started", {}),
        (0.020, "one", "retried", {}),
        (0.040, "two's child", "sent", {"name": "inner", "queue": "q", "retries": 0}),
        (0.050, "one", "received", {"name": "inner", "retries": 0}),
        (0.052, "one", "started", {}),
        (0.054, "one", "succeeded", {"runtime": 0.001}),
    ]
    began = scene.now
    began = scene.now
    for at, who, kind, fields in sorted(
        events, key=lambda event: event[0] + seconds * (event[1] == late)
    ):
        scene.now = began + at + seconds * (who == late)
        hostname = {"one": WORKER, "two": OTHER_WORKER}.get(who, "gen@host")
        event = {"hostname": hostname, "timestamp": began + at, **fields}
        scene.send(f"task-{kind}", "x", after=0.0, **event)
    whole = {"sent": 2, "received": 2, "started": 2}
    assert scene.task("move", "q") == {**whole, "retried": 1, "succeeded": 1}
    assert scene.task("move", "r") == {"sent": 1, "received": 1, "started": 1}
    assert scene.task("inner", "q") == {**whole, "succeeded": 2}
