"""Waiting tasks beside the broker's counts: only those with a message have an age."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from celery_vitals.brokers.queue_stats import QueueStats
from celery_vitals.events.waiting_tasks import _CONFIRMED_AFTER, _MAX_COMPARED
from tests.support.scene import WORKER, Scene


@pytest.fixture
def scene() -> Scene:
    scene = Scene(max_tasks=100_000)
    scene.consumes(WORKER, "q")
    return scene


def send(scene: Scene, prefix: str, count: int) -> None:
    for number in range(count):
        scene.sent(f"{prefix}{number}", after=0.01)


def oldest(
    scene: Scene,
    ready: int | None,
    unacked: int | None = 0,
    after: float = 5.0,
    missing: Collection[str] = (),
) -> float | None:
    """The age by the task events after the broker has counted so many messages."""
    scene.now += after
    queues = {} if missing else {"q": QueueStats(ready, unacked)}
    scene.processor.compare_with_broker(queues, missing, scene.now)
    found: Mapping[str, float] = dict(scene.tasks.waiting.oldest())
    return scene.now - found["q"] if "q" in found else None


def test_an_empty_queue_has_none_from_the_first_count_on(scene: Scene) -> None:
    send(scene, "u", 5)
    assert oldest(scene, 5) == pytest.approx(5, abs=0.1)
    assert oldest(scene, 0) is None
    assert scene.tracked_tasks == 5
    assert oldest(scene, 0, after=_CONFIRMED_AFTER) is None
    assert scene.tracked_tasks == 0


def test_a_vanished_queue_has_none(scene: Scene) -> None:
    send(scene, "u", 5)
    assert oldest(scene, 5, missing={"q"}) is None
    assert oldest(scene, 5, missing={"q"}, after=_CONFIRMED_AFTER) is None
    assert scene.tracked_tasks == 0


@pytest.mark.parametrize("purged", [5, 3 * _MAX_COMPARED])
def test_purged_tasks_stay_hidden_when_the_queue_fills_again(scene: Scene, purged: int) -> None:
    send(scene, "u", purged)
    assert oldest(scene, 0) is None
    send(scene, "v", 3)
    for _ in range(2):
        age = oldest(scene, 3, after=1)
        assert age is not None
        assert age < 3
    oldest(scene, 3, after=_CONFIRMED_AFTER)
    assert scene.tracked_tasks == 3


def test_the_newest_tasks_are_those_with_a_message(scene: Scene) -> None:
    send(scene, "u", 5)
    scene.now += 100
    send(scene, "v", 20)
    assert oldest(scene, 20) == pytest.approx(5.2, abs=0.1)
    assert oldest(scene, 25) == pytest.approx(110, abs=1)  # the proof no longer holds
    oldest(scene, 20)
    oldest(scene, 20, after=_CONFIRMED_AFTER + 1)
    assert scene.tracked_tasks == 20


def test_a_task_that_a_worker_has_received_keeps_its_age(scene: Scene) -> None:
    send(scene, "u", 5)
    assert oldest(scene, 0, unacked=5) is None  # the task-received events are on their way
    scene.received("u0")
    for after in (1, 2 * _CONFIRMED_AFTER, _CONFIRMED_AFTER):
        assert oldest(scene, 0, unacked=1, after=after) is not None
        assert oldest(scene, 0, unacked=None, after=after) is not None
    assert scene.tracked_tasks == 1
    assert oldest(scene, 0, unacked=0) is None
    assert oldest(scene, 7, unacked=1) is not None


def test_unknown_counts_prove_nothing(scene: Scene) -> None:
    send(scene, "u", 5)
    assert oldest(scene, None, None, after=_CONFIRMED_AFTER) is not None
    scene.processor.compare_with_broker({}, (), scene.now)
    assert dict(scene.tasks.waiting.oldest())


def test_messages_without_events_hide_no_task(scene: Scene) -> None:
    send(scene, "u", 5)
    assert oldest(scene, 500) == pytest.approx(5, abs=0.1)


def test_a_task_sent_after_the_count_is_not_compared(scene: Scene) -> None:
    at = scene.now
    send(scene, "u", 5)
    scene.processor.compare_with_broker({"q": QueueStats(0, 0)}, (), at)
    assert dict(scene.tasks.waiting.oldest())


def test_tasks_sent_after_the_count_are_in_excess_of_no_message(scene: Scene) -> None:
    send(scene, "u", 1)
    scene.now += 1
    at = scene.now
    send(scene, "v", 5)
    scene.processor.compare_with_broker({"q": QueueStats(1, 0)}, (), at)
    assert dict(scene.tasks.waiting.oldest())["q"] < at


def test_a_message_that_follows_its_event_is_in_the_next_count(scene: Scene) -> None:
    send(scene, "u", 1)
    assert oldest(scene, 0, after=0.5) is None
    assert oldest(scene, 1, after=1) == pytest.approx(1.5, abs=0.1)
    oldest(scene, 1, after=_CONFIRMED_AFTER)
    assert scene.tracked_tasks == 1


@pytest.mark.parametrize("late", [True, False])
def test_a_task_that_rejects_itself_is_counted_once(scene: Scene, late: bool) -> None:
    traceback = "Traceback (most recent call last):\ncelery.exceptions.Reject: ('no', False)\n"
    for uuid in ("u", "v"):
        scene.sent(uuid)
        scene.received(uuid)
        scene.started(uuid)
        scene.send("task-failed", uuid, exception="reject requeue=False: no", traceback=traceback)
        if late:
            scene.send("task-rejected", uuid, requeue=False)
    assert scene.task()["rejected"] == 2
    assert scene.running() == scene.total("task_failed_total") == 0
    scene.idle(10)
    assert scene.tracked_tasks == 0
