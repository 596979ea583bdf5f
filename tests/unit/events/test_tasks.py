"""What becomes of a task's events: in any order, told twice, halfway, or not at all."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.scene import PRODUCER, WORKER, Scene

OTHER_WORKER = "v@three"
WHOLE: dict[str, float] = {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
TIME_LIMIT = 'Traceback (most recent call last):\n  File "a", line 1\n    x\nbilliard.exceptions.TimeLimitExceeded: 1\n'


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def knowing() -> Scene:
    """One whose producers are known to tell of what they send."""
    scene = Scene()
    scene.sent("first")
    scene.run("first")
    return scene


def expect(scene: Scene, before: Mapping[str, float] | None = None, **counts: float) -> None:
    """The counters of `add` in `q` besides those of the fixture's first task; nothing is under `unknown`."""
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
def test_sent_may_come_at_any_time(knowing: Scene, order: tuple[str, ...]) -> None:
    for kind in order:
        getattr(knowing, kind)("u")
    expect(knowing, None, **WHOLE)
    assert knowing.running() == 0
    count, total = knowing.waits()
    assert count == 2
    assert 0 <= total < 1
    assert list(knowing.tasks.oldest_waiting()) == []
    knowing.idle(10)
    assert knowing.records == 0


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_task_of_a_name_may_come_in_any_order_too(
    scene: Scene, order: tuple[str, ...]
) -> None:
    """Nobody knows yet that producers will tell: the queue may be unknown, but nothing is lost or left behind."""
    for kind in order:
        getattr(scene, kind)("u")
    scene.idle(10)
    found = {kind: scene.total(f"task_{kind}_total", task="add") for kind in WHOLE}
    assert found == WHOLE
    assert list(scene.tasks.oldest_waiting()) == []
    assert scene.records == 0
    assert scene.total("task_queue_wait_seconds_sum") < 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_worker_of_one_queue(order: tuple[str, ...]) -> None:
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
    assert list(scene.tasks.oldest_waiting()) == []


def test_a_new_name_has_its_queue_where_producers_are_known_to_tell(knowing: Scene) -> None:
    knowing.received("v", "mul")
    knowing.started("v")
    knowing.sent("v", "mul")
    assert knowing.task("mul") == {"sent": 1, "received": 1, "started": 1}


def test_a_late_sent_shows_the_wait_once(knowing: Scene) -> None:
    knowing.tell("task-received", "u", name="add")
    knowing.tell("task-started", "u", after=0.3)
    knowing.tell(
        "task-sent", "u", name="add", queue="q", hostname=PRODUCER, timestamp=knowing.now - 0.2
    )
    assert knowing.waits() == (2, 0.22)


def test_nobody_waits_longer_than_the_patience_for_a_sent(knowing: Scene) -> None:
    knowing.heartbeat()
    knowing.received("u")
    knowing.started("u")
    assert knowing.task()["received"] == 1
    knowing.idle(0.5)
    assert knowing.task()["received"] == 1
    knowing.idle(2)
    assert knowing.task(queue="unknown") == {"received": 1, "started": 1}
    assert knowing.running() == 1
    knowing.sent("u")
    knowing.succeeded("u")
    assert knowing.task() == {"sent": 2, "received": 1, "started": 1, "succeeded": 2}


def test_what_was_held_back_counts_when_patience_ends(knowing: Scene) -> None:
    knowing.received("u")
    knowing.started("u")
    knowing.failed("u")
    knowing.idle(2.5)
    assert knowing.task(queue="unknown") == {"received": 1, "started": 1, "failed": 1}
    assert knowing.running() == 0


@pytest.mark.parametrize("runtime", [1e308, -1.0, float("inf"), float("nan")])
def test_a_runtime_that_cannot_be_does_not_spoil_the_sum(scene: Scene, runtime: float) -> None:
    for number in range(2):
        scene.run(f"u{number}", runtime=runtime)
    scene.run("good", runtime=3.0)
    assert scene.total("task_succeeded_total") == 3
    assert scene.total("task_runtime_seconds_sum") == 3


def test_a_hard_time_limit_is_told_twice(scene: Scene) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    for _ in range(2):
        scene.tell("task-failed", "u", exception="ExceptionWithTraceback()", traceback=TIME_LIMIT)
    assert (
        scene.value("task_failed_total", task="add", queue="q", exception="TimeLimitExceeded") == 1
    )
    assert scene.total("task_failed_runtime_seconds_count") == 1
    scene.idle(6)
    assert scene.records == 0


def test_a_hard_time_limit_of_a_task_never_heard_of(scene: Scene) -> None:
    for _ in range(2):
        scene.tell("task-failed", "u", exception="ExceptionWithTraceback()", traceback=TIME_LIMIT)
    assert scene.total("task_failed_total") == 1


REJECT = "Traceback (most recent call last):\n  File \"a\", line 1\n    x\ncelery.exceptions.Reject: ('no', False)\n"


@pytest.mark.parametrize("failed_too", [True, False], ids=["5.7", "5.6"])
@pytest.mark.parametrize("last", ["failed", "rejected"])
def test_a_task_that_rejects_itself(scene: Scene, failed_too: bool, last: str) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    if failed_too and last == "rejected":
        scene.tell("task-failed", "u", exception="reject requeue=False: no", traceback=REJECT)
    scene.tell("task-rejected", "u", requeue=False)
    if failed_too and last == "failed":
        scene.tell("task-failed", "u", exception="reject requeue=False: no", traceback=REJECT)
    assert scene.task() == {"sent": 1, "received": 1, "started": 1, "rejected": 1}
    assert scene.total("task_failed_total") == 0
    assert scene.running() == 0


def test_an_exception_of_ones_own_called_reject_is_a_failure(scene: Scene) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.failed("u", "Reject('mine')")
    assert scene.value("task_failed_total", task="add", queue="q", exception="Reject") == 1


def test_a_requeued_task_keeps_its_queue(knowing: Scene) -> None:
    knowing.sent("u")
    knowing.received("u")
    knowing.started("u")
    knowing.tell("task-rejected", "u", requeue=True)
    assert knowing.running() == 0
    knowing.run("u")
    expect(knowing, sent=1, received=2, started=2, rejected=1, succeeded=1)


def test_an_unknown_task_fails_without_being_received(scene: Scene) -> None:
    scene.sent("u", "nobody.knows")
    scene.tell("task-failed", "u", exception="NotRegistered('nobody.knows')")
    assert scene.task("nobody.knows") == {"sent": 1, "failed": 1}
    scene.tell("task-failed", "v", exception="NotRegistered('x')")
    assert (
        scene.value("task_failed_total", task="unknown", queue="unknown", exception="NotRegistered")
        == 1
    )
    assert list(scene.tasks.oldest_waiting()) == []


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
@pytest.mark.parametrize(
    "life", [(), ("sent",), ("sent", "received"), ("sent", "received", "started")]
)
def test_a_revoked_task(
    scene: Scene, flags: dict[str, bool], reason: str, life: tuple[str, ...]
) -> None:
    scene.consumes(WORKER, "q")
    for kind in life:
        getattr(scene, kind)("u")
    scene.tell("task-revoked", "u", **flags)
    assert (
        scene.value(
            "task_revoked_total", task="add" if life else "unknown", queue="q", reason=reason
        )
        == 1
    )
    assert scene.running() == 0
    assert list(scene.tasks.oldest_waiting()) == []
    scene.idle(6)
    assert scene.records == 0


def test_halfway(scene: Scene) -> None:
    """The exporter starts while tasks run."""
    scene.started("a")
    assert scene.running("unknown") == 1
    scene.succeeded("a")
    scene.succeeded("b")
    scene.tell("task-retried", "c", exception="x")
    assert scene.task("unknown", "unknown") == {"started": 1, "succeeded": 2, "retried": 1}
    assert scene.running("unknown") == 0
    assert "None" not in scene.labels("task_started_total", "task")


def test_a_name_that_comes_late(scene: Scene) -> None:
    """Acknowledged late, received again after the exporter missed the first time."""
    scene.started("u")
    scene.received("u")
    scene.started("u")
    scene.succeeded("u")
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
    """Both executions were real, so both are counted."""
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    scene.succeeded("u", hostname=OTHER_WORKER)
    scene.succeeded("u")
    assert scene.total("task_succeeded_total") == 2


def test_a_cancelled_task_does_not_run(scene: Scene) -> None:
    scene.received("u")
    scene.started("u")
    scene.tell("task-cancelled", "u")
    assert scene.running() == 0
    scene.idle(3601)
    assert scene.records == 0
