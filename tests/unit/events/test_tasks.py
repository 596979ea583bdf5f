"""A task's events: in any order, repeated, incomplete or missing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.scene import PRODUCER, WORKER, Scene

OTHER_WORKER = "v@three"
WHOLE: dict[str, float] = {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
TRACEBACK = 'Traceback (most recent call last):\n  File "a", line 1\n    x\n'
TIME_LIMIT = f"{TRACEBACK}billiard.exceptions.TimeLimitExceeded: 1\n"


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def seeded() -> Scene:
    """A scene whose producers are known to send task-sent events."""
    scene = Scene()
    scene.sent("first")
    scene.run("first")
    return scene


def expect(scene: Scene, before: Mapping[str, float] | None = None, **counts: float) -> None:
    """Assert the counters of `add` in `q`, without those of the fixture's task, and no unknown."""
    first = dict.fromkeys(WHOLE, 1.0) if before is None else before
    found = scene.task()
    assert {
        k: found.get(k, 0) - first.get(k, 0) for k in found if found.get(k, 0) - first.get(k, 0)
    } == counts
    assert scene.task(queue="unknown") == {}
    assert scene.task("unknown") == scene.task("unknown", "unknown") == {}


ORDERS = [
    ("sent", "received", "started", "succeeded"),
    ("received", "sent", "started", "succeeded"),
    ("received", "started", "sent", "succeeded"),
    ("received", "started", "succeeded", "sent"),
]


@pytest.mark.parametrize("order", ORDERS)
def test_task_sent_event_may_arrive_at_any_time(seeded: Scene, order: tuple[str, ...]) -> None:
    for kind in order:
        getattr(seeded, kind)("u")
    expect(seeded, None, **WHOLE)
    assert seeded.running() == 0
    count, total = seeded.waits()
    assert count == 2
    assert 0 <= total < 1
    assert list(seeded.tasks.waiting.oldest()) == []
    seeded.idle(10)
    assert seeded.tracked_tasks == 0


@pytest.mark.parametrize("order", ORDERS)
def test_first_task_of_a_name_with_events_in_any_order(
    scene: Scene, order: tuple[str, ...]
) -> None:
    """No task-sent event is expected yet: the queue may be unknown, but no event is lost."""
    for kind in order:
        getattr(scene, kind)("u")
    scene.idle(10)
    found = {kind: scene.total(f"task_{kind}_total", task="add") for kind in WHOLE}
    assert found == WHOLE
    assert list(scene.tasks.waiting.oldest()) == []
    assert scene.tracked_tasks == 0
    assert scene.total("task_queue_wait_seconds_sum") < 1


@pytest.mark.parametrize("order", ORDERS)
def test_worker_with_one_queue_determines_the_queue(order: tuple[str, ...]) -> None:
    scene = Scene()
    scene.consumes(WORKER, "q")
    for kind in order:
        getattr(scene, kind)("u")
    expect(scene, {}, **WHOLE)


def test_the_wait_is_from_sent_to_started(scene: Scene) -> None:
    scene.sent("u")
    scene.received("u", after=2)
    scene.started("u", after=5)
    assert scene.waits() == (1, 7.0)
    assert list(scene.tasks.waiting.oldest()) == []


def test_events_of_a_new_name_are_deferred_when_producers_send_events(seeded: Scene) -> None:
    seeded.received("v", "mul")
    seeded.started("v")
    seeded.sent("v", "mul")
    assert seeded.task("mul") == {"sent": 1, "received": 1, "started": 1}


def test_late_task_sent_event_observes_the_wait_once(seeded: Scene) -> None:
    seeded.send("task-received", "u", name="add")
    seeded.send("task-started", "u", after=0.3)
    seeded.send(
        "task-sent", "u", name="add", queue="q", hostname=PRODUCER, timestamp=seeded.now - 0.2
    )
    assert seeded.waits() == (2, 0.22)


def test_deferral_for_a_task_sent_event_times_out(seeded: Scene) -> None:
    seeded.heartbeat()
    seeded.received("u")
    seeded.started("u")
    assert seeded.task()["received"] == 1
    seeded.idle(0.5)
    assert seeded.task()["received"] == 1
    seeded.idle(2)
    assert seeded.task(queue="unknown") == {"received": 1, "started": 1}
    assert seeded.running() == 1
    seeded.sent("u")
    seeded.succeeded("u")
    assert seeded.task() == {"sent": 2, "received": 1, "started": 1, "succeeded": 2}


def test_deferred_events_are_counted_after_the_timeout(seeded: Scene) -> None:
    seeded.received("u")
    seeded.started("u")
    seeded.failed("u")
    seeded.idle(2.5)
    assert seeded.task(queue="unknown") == {"received": 1, "started": 1, "failed": 1}
    assert seeded.running() == 0


@pytest.mark.parametrize("runtime", [1e308, -1.0, float("inf"), float("nan")])
def test_invalid_runtime_is_not_observed(scene: Scene, runtime: float) -> None:
    for number in range(2):
        scene.run(f"u{number}", runtime=runtime)
    scene.run("good", runtime=3.0)
    assert scene.total("task_succeeded_total") == 3
    assert scene.total("task_runtime_seconds_sum") == 3


def test_hard_time_limit_reported_twice_is_one_failure(scene: Scene) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    for _ in range(2):
        scene.send("task-failed", "u", exception="ExceptionWithTraceback()", traceback=TIME_LIMIT)
    assert (
        scene.value("task_failed_total", task="add", queue="q", exception="TimeLimitExceeded") == 1
    )
    assert scene.total("task_failed_runtime_seconds_count") == 1
    scene.idle(6)
    assert scene.tracked_tasks == 0


def test_hard_time_limit_of_an_unknown_task_is_one_failure(scene: Scene) -> None:
    for _ in range(2):
        scene.send("task-failed", "u", exception="ExceptionWithTraceback()", traceback=TIME_LIMIT)
    assert scene.total("task_failed_total") == 1


REJECT = f"{TRACEBACK}celery.exceptions.Reject: ('no', False)\n"


@pytest.mark.parametrize("failed_too", [True, False], ids=["5.7", "5.6"])
@pytest.mark.parametrize("last", ["failed", "rejected"])
def test_a_task_that_rejects_itself(scene: Scene, failed_too: bool, last: str) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    if failed_too and last == "rejected":
        scene.send("task-failed", "u", exception="reject requeue=False: no", traceback=REJECT)
    scene.send("task-rejected", "u", requeue=False)
    if failed_too and last == "failed":
        scene.send("task-failed", "u", exception="reject requeue=False: no", traceback=REJECT)
    assert scene.task() == {"sent": 1, "received": 1, "started": 1, "rejected": 1}
    assert scene.total("task_failed_total") == 0
    assert scene.running() == 0


def test_a_failure_and_its_requeueing_are_one_rejection(scene: Scene) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.send("task-failed", "u", exception="reject requeue=True: no", traceback=REJECT)
    scene.send("task-rejected", "u", requeue=True)
    assert scene.task() == {"sent": 1, "received": 1, "started": 1, "rejected": 1}
    assert scene.total("task_rejected_total") == 1
    scene.run("u")
    assert scene.task()["succeeded"] == 1
    assert scene.total("task_succeeded_total") == 1


def test_time_limit_of_a_task_that_is_requeued_is_one_failure_and_one_rejection(
    scene: Scene,
) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.failed("u", "TimeLimitExceeded(1)")
    scene.send("task-rejected", "u", requeue=True)
    assert scene.task() == {"sent": 1, "received": 1, "started": 1, "failed": 1, "rejected": 1}
    assert scene.total("task_failed_total") == scene.total("task_rejected_total") == 1


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "not_sent"])
def test_failure_that_is_not_acknowledged_keeps_its_name(scene: Scene, sent: bool) -> None:
    """`acks_on_failure` is off: the worker rejects the message, then it reports the failure."""
    scene.consumes(WORKER, "q")
    if sent:
        scene.sent("u")
    scene.heartbeat(0, 0)
    scene.received("u")
    scene.started("u")
    scene.send("task-rejected", "u", requeue=False)
    scene.failed("u")
    counts = {"received": 1, "started": 1, "rejected": 1, "failed": 1}
    assert scene.task() == ({"sent": 1, **counts} if sent else counts)
    assert scene.total("task_failed_total") == 1
    assert scene.total("task_failed_runtime_seconds_count", task="add", queue="q") == 1
    scene.idle(10)
    assert scene.tracked_tasks == 0


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "not_sent"])
def test_unregistered_task_with_one_id_fails_each_time(scene: Scene, sent: bool) -> None:
    for _ in range(20):
        if sent:
            scene.sent("nightly")
        scene.send("task-failed", "nightly", exception="NotRegistered('add')")
    assert scene.total("task_failed_total") == 20
    if sent:
        assert scene.task() == {"sent": 20, "failed": 20}
    scene.idle(10)
    assert scene.tracked_tasks == 0


def test_user_exception_named_reject_is_a_failure(scene: Scene) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.failed("u", "Reject('mine')")
    assert scene.value("task_failed_total", task="add", queue="q", exception="Reject") == 1


def test_a_requeued_task_keeps_its_queue(seeded: Scene) -> None:
    seeded.sent("u")
    seeded.received("u")
    seeded.started("u")
    seeded.send("task-rejected", "u", requeue=True)
    assert seeded.running() == 0
    seeded.run("u")
    expect(seeded, sent=1, received=2, started=2, rejected=1, succeeded=1)


def test_unregistered_task_fails_without_being_received(scene: Scene) -> None:
    scene.sent("u", "not.registered")
    scene.send("task-failed", "u", exception="NotRegistered('not.registered')")
    assert scene.task("not.registered") == {"sent": 1, "failed": 1}
    scene.send("task-failed", "v", exception="NotRegistered('x')")
    scene.idle(3)  # its task-sent event may be late
    assert (
        scene.value("task_failed_total", task="x", queue="unknown", exception="NotRegistered") == 1
    )
    assert list(scene.tasks.waiting.oldest()) == []


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"expired": True, "terminated": False}, "expired"),
        ({"expired": False, "terminated": True, "signum": 15}, "terminated"),
        ({"expired": False, "terminated": False}, "revoked"),
        ({}, "revoked"),
        ({"expired": None, "terminated": None}, "revoked"),
    ],
)
@pytest.mark.parametrize("life", [(), ("sent",), ("sent", "received")])
def test_revoked_task_is_counted_by_reason(
    scene: Scene, flags: dict[str, bool], reason: str, life: tuple[str, ...]
) -> None:
    expect_revoked(scene, flags, reason, life)


def test_terminated_task_that_has_started(scene: Scene) -> None:
    expect_revoked(scene, {"terminated": True}, "terminated", ("sent", "received", "started"))


def expect_revoked(
    scene: Scene, flags: dict[str, bool], reason: str, life: tuple[str, ...]
) -> None:
    scene.consumes(WORKER, "q")
    for kind in life:
        getattr(scene, kind)("u")
    scene.send("task-revoked", "u", **flags)
    assert (
        scene.value(
            "task_revoked_total", task="add" if life else "unknown", queue="q", reason=reason
        )
        == 1
    )
    assert scene.running() == 0
    assert list(scene.tasks.waiting.oldest()) == []
    scene.idle(6)
    assert scene.tracked_tasks == 0


def test_exporter_starts_while_tasks_run(scene: Scene) -> None:
    scene.started("a")
    assert scene.running("unknown") == 1
    scene.succeeded("a")
    scene.succeeded("b")
    scene.send("task-retried", "c", exception="x")
    assert scene.task("unknown", "unknown") == {"started": 1, "succeeded": 2, "retried": 1}
    assert scene.running("unknown") == 0
    assert "None" not in scene.labels("task_started_total", "task")


def test_task_name_that_arrives_late(scene: Scene) -> None:
    """Acknowledged late, and received again after the first events were lost."""
    scene.started("u")
    scene.received("u")
    scene.started("u")
    scene.succeeded("u", runtime=0.01)
    assert scene.task("add", "unknown") == {"received": 1, "started": 1, "succeeded": 1}


def test_a_task_started_twice_by_redelivery(scene: Scene) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    scene.succeeded("u", hostname=OTHER_WORKER)
    assert scene.task() == {"sent": 1, "received": 2, "started": 2, "succeeded": 1}
    assert scene.waits()[0] == 1


def test_a_task_that_ends_twice_after_redelivery(scene: Scene) -> None:
    """Both executions were real, so both are counted, under the name of the task."""
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    assert scene.running() == 2
    scene.succeeded("u", hostname=OTHER_WORKER)
    assert scene.running() == 1
    scene.succeeded("u")
    assert scene.task() == {"sent": 1, "received": 2, "started": 2, "succeeded": 2}


def test_a_cancelled_task_does_not_run(scene: Scene) -> None:
    scene.received("u")
    scene.started("u")
    scene.send("task-cancelled", "u")
    assert scene.running() == 0
    scene.idle(3601)
    assert scene.tracked_tasks == 0
