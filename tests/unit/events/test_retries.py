"""Retries: the attempts of a task overlap, and their events arrive in any order."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from tests.support.scene import PRODUCER, WORKER, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_wait_and_counters_of_a_retry(scene: Scene) -> None:
    """The next attempt is sent before the present one ends."""
    scene.sent("u")
    scene.received("u")
    scene.started("u", after=1)
    eta = datetime.fromtimestamp(scene.now + 60, timezone.utc).isoformat()
    scene.sent("u", retries=1, eta=eta)
    scene.received("u", retries=1, eta=eta)
    scene.send("task-retried", "u", exception="KeyError(1)")
    assert scene.running() == 0
    assert scene.waits() == (1, 1.01)
    scene.started("u", after=64)
    count, total = scene.waits()
    assert count == 2
    assert 4 < total - 1.01 < 4.1
    assert scene.running() == 1
    scene.succeeded("u")
    assert scene.task() == {"sent": 2, "received": 2, "started": 2, "succeeded": 1, "retried": 1}
    assert scene.running() == 0
    assert scene.tracked_tasks == 0


def test_retry_without_task_sent_events(scene: Scene) -> None:
    scene.consumes(WORKER, "q")
    for retries in range(3):
        scene.received("u", retries=retries)
        scene.started("u", retries=retries)
        scene.send("task-retried", "u", exception="KeyError(1)")
    scene.received("u", retries=3)
    scene.started("u")
    scene.failed("u", after=2)
    assert scene.task() == {"received": 4, "started": 4, "retried": 3, "failed": 1}
    assert scene.value("task_failed_runtime_seconds_sum", task="add", queue="q") == pytest.approx(2)


@pytest.mark.parametrize(
    "arrival", ["before the next is received", "after it is received", "after it has started"]
)
def test_task_sent_event_that_arrives_after_the_retry(scene: Scene, arrival: str) -> None:
    scene.consumes(WORKER, "q")
    began = scene.now
    scene.received("u", after=1)
    scene.started("u")
    scene.send("task-retried", "u")
    late: dict[str, Any] = {
        "name": "add",
        "queue": "q",
        "hostname": PRODUCER,
        "timestamp": began,
        "retries": 0,
    }
    if arrival == "before the next is received":
        scene.send("task-sent", "u", **late)
    scene.sent("u", retries=1)
    scene.received("u", retries=1)
    if arrival == "after it is received":
        scene.send("task-sent", "u", **late)
    scene.started("u")
    if arrival == "after it has started":
        scene.send("task-sent", "u", **late)
    count, seconds = scene.waits()
    assert count == 2
    assert seconds == pytest.approx(1.03, abs=0.02)
    assert list(scene.tasks.waiting.oldest()) == []
    scene.succeeded("u")
    assert scene.task() == {"sent": 2, "received": 2, "started": 2, "retried": 1, "succeeded": 1}
    assert scene.running() == 0


def test_task_retried_event_arrives_after_the_next_attempt_started(scene: Scene) -> None:
    scene.consumes(WORKER, "q")
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    retried = scene.event("task-retried", "u")
    scene.received("u", retries=1, after=1)
    scene.started("u")
    scene.send(**{"kind": "task-retried", **{key: retried[key] for key in ("uuid", "timestamp")}})
    assert scene.running() == 1
    scene.sent("u", retries=1)  # from an accurate clock, but late
    assert scene.waits()[0] == 2
    scene.succeeded("u")
    assert scene.running() == 0
    assert scene.task() == {"sent": 2, "received": 2, "started": 2, "retried": 1, "succeeded": 1}


@pytest.mark.parametrize("other", [WORKER, "v@three"])
def test_retry_happens_after_the_next_attempt_started(scene: Scene, other: str) -> None:
    """A worker sends the next attempt before it stores the state in a slow result backend."""
    scene.consumes(other, "q", "r")
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.sent("u", retries=1)
    scene.received("u", retries=1, hostname=other)
    scene.started("u", hostname=other)
    scene.send("task-retried", "u")
    assert scene.running() == 1
    scene.failed("u", after=2, hostname=other)
    assert scene.running() == 0
    assert scene.waits()[0] == 2
    assert scene.value("task_failed_runtime_seconds_sum", task="add", queue="q") == pytest.approx(
        2, abs=0.1
    )


def test_three_attempts_that_overlap(scene: Scene) -> None:
    """As recorded from two real workers with a slow result backend."""
    scene.consumes("v@three", "q", "r")
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.sent("u", retries=1)
    scene.received("u", retries=1, hostname="v@three")
    scene.sent("u", retries=2)
    scene.received("u", retries=2)
    scene.started("u", hostname="v@three")
    scene.started("u")
    scene.send("task-retried", "u")
    scene.send("task-retried", "u", hostname="v@three")
    scene.failed("u")
    assert scene.task() == {"sent": 3, "received": 3, "started": 3, "retried": 2, "failed": 1}
    assert scene.waits()[0] == 3
    assert scene.value("task_failed_runtime_seconds_count", task="add", queue="q") == 1
    assert scene.running() == 0


def test_retry_is_received_before_the_start_event_of_the_previous_attempt(
    scene: Scene,
) -> None:
    """A worker receives the new message from the broker, and the start from its pool."""
    scene.sent("u")
    scene.received("u")
    for retries in (1, 2):
        eta = datetime.fromtimestamp(scene.now + 2, timezone.utc).isoformat()
        scene.sent("u", retries=retries, eta=eta)
        scene.received("u", retries=retries, eta=eta)
        scene.started("u")
        assert scene.running() == 1
        scene.send("task-retried", "u")
        assert scene.running() == 0
        scene.now += 2
    scene.started("u", after=1)
    count, seconds = scene.waits()
    assert count == 3
    assert seconds == pytest.approx(1.15, abs=0.02)
    scene.succeeded("u")
    assert scene.task() == {"sent": 3, "received": 3, "started": 3, "retried": 2, "succeeded": 1}


@pytest.mark.parametrize("first", ["the retry", "its message"])
def test_retry_of_an_attempt_whose_start_event_was_lost(scene: Scene, first: str) -> None:
    scene.sent("u")
    scene.received("u")
    if first == "the retry":
        scene.send("task-retried", "u", after=60)
    scene.sent("u", retries=1, after=60 if first == "its message" else 0.01)
    scene.received("u", retries=1)
    if first == "its message":
        scene.send("task-retried", "u")
    scene.started("u", after=1)
    count, seconds = scene.waits()
    assert count == 1
    assert seconds == pytest.approx(1.02, abs=0.02)


def test_a_message_with_the_id_of_a_running_task_waits(scene: Scene) -> None:
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    scene.sent("u")
    assert scene.waits() == (1, 0.02)
    assert list(scene.tasks.waiting.oldest()) == [("q", scene.now)]


def test_start_of_an_attempt_does_not_match_the_sending_of_another_one(scene: Scene) -> None:
    """The other events of attempt 1 were lost: when it started is unknown."""
    scene.consumes(WORKER, "q")
    scene.received("u")
    scene.started("u")
    scene.send("task-retried", "u")
    scene.sent("u", retries=2, after=1)
    scene.sent("u", retries=1)
    scene.received("u", retries=2, after=1)
    scene.started("u")
    assert scene.waits() == (1, 1.02)
