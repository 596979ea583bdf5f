"""Silent ends: unregistered tasks, exhausted retries, chords that are polled for ever."""

from __future__ import annotations

import json
import math

import pytest

from celery_vitals.workers.registered_tasks import RegisteredTask
from celery_vitals.workers.task_settings import TaskSettings
from tests.support.scene import Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


def discard(scene: Scene, uuid: str, name: str = "add", **fields: object) -> bytes:
    """Send the event of a worker that has no task of this name; return its body."""
    scene.now += 0.01
    event = scene.event("task-failed", uuid, exception=f"NotRegistered({name!r})", **fields)
    body = json.dumps(event).encode()
    scene.feed(body)
    return body


def unregistered(scene: Scene) -> dict[tuple[str, str], float]:
    return {
        (dict(labels)["task"], dict(labels)["producer"]): value
        for (metric, labels), value in scene.samples().items()
        if metric == "celery_task_unregistered_total"
    }


def test_an_unregistered_task_has_its_name_and_its_producer(scene: Scene) -> None:
    scene.sent("u", "p.new", hostname="gen7@web-1")
    scene.sent("v", "p.new", hostname="gen8@web-2")
    discard(scene, "v", "p.new")
    assert unregistered(scene) == {("p.new", "web-2"): 1}
    discard(scene, "u", "p.new")
    assert unregistered(scene) == {("p.new", "web-1"): 1, ("p.new", "web-2"): 1}


def test_a_sent_event_may_arrive_after_the_failure(scene: Scene) -> None:
    discard(scene, "u", "p.new")
    assert unregistered(scene) == {}
    scene.sent("u", "p.new", hostname="gen7@web-1")
    assert unregistered(scene) == {("p.new", "web-1"): 1}
    scene.idle(10)
    assert unregistered(scene) == {("p.new", "web-1"): 1}


def test_the_producer_is_empty_without_a_sent_event(scene: Scene) -> None:
    discard(scene, "u", "p.new")
    scene.idle(10)
    assert unregistered(scene) == {("p.new", ""): 1}
    assert scene.total("task_failed_total", task="p.new", exception="NotRegistered") == 1


def test_a_duplicate_event_is_counted_once(scene: Scene) -> None:
    scene.sent("u", "p.new")
    body = discard(scene, "u", "p.new")
    scene.feed(body, body)
    assert unregistered(scene) == {("p.new", "two"): 1}
    assert scene.total("task_failed_total") == 1
    discard(scene, "u", "p.new")  # another message with the same id
    scene.idle(10)
    assert sum(unregistered(scene).values()) == 2


def test_a_task_that_only_some_workers_have(scene: Scene) -> None:
    scene.sent("a")
    scene.run("a")
    scene.sent("b")
    discard(scene, "b", hostname="old@host")
    assert unregistered(scene) == {("add", "two"): 1}
    scene.sent("c", hostname="gen1@other")  # from now on there are several producers
    scene.sent("d")
    discard(scene, "d", hostname="old@host")
    discard(scene, "c", hostname="old@host")
    assert unregistered(scene) == {("add", "two"): 2, ("add", "other"): 1}


@pytest.mark.parametrize(
    ("name", "exception"),
    [
        ("it's", 'NotRegistered("it\'s")'),
        ("caf\u00e9", "NotRegistered('caf\\xe9')"),
        (None, "NotRegistered()"),
        (None, "NotRegistered(None)"),
        (None, "NotRegistered('x', 'y')"),
        (None, "NotRegistered('x"),
        (None, "NotRegistered('" + "x" * 5000 + "')"),
    ],
)
def test_only_the_text_of_celery_is_a_name(scene: Scene, name: str | None, exception: str) -> None:
    scene.failed("u", exception)
    scene.idle(10)
    assert unregistered(scene) == ({(name, ""): 1} if name else {})
    assert scene.total("task_failed_total") == 1


def test_a_task_that_raises_the_exception_is_registered(scene: Scene) -> None:
    scene.received("u")
    scene.started("u")
    traceback = (
        'Traceback (most recent call last):\n  File "x.py", line 1, in f\nNotRegistered: x\n'
    )
    scene.send("task-failed", "u", exception="NotRegistered('x')", traceback=traceback)
    scene.idle(10)
    assert unregistered(scene) == {}


def test_the_number_of_producers_is_limited() -> None:
    scene = Scene(caps={"producer": 2})
    for number in range(5):
        scene.sent(f"u{number}", "p.new", hostname=f"gen@web-{number}")
        discard(scene, f"u{number}", "p.new")
    assert unregistered(scene)[("p.new", "_other")] == 3


def test_series_of_unregistered_tasks_expire_with_the_others() -> None:
    scene = Scene(idle_after=100.0)
    scene.sent("u", "p.new")
    discard(scene, "u", "p.new")
    for _ in range(4):
        scene.idle(70)
    assert unregistered(scene) == {}
    assert scene.limiter.series_count == 0 or "p.new" not in scene.text()


def fail_after(scene: Scene, retries: int, exception: str = "ValueError('x')") -> None:
    """Retry a task so many times, then fail."""
    for attempt in range(retries + 1):
        uuid = f"{scene.now}"
        scene.received(uuid, retries=attempt)
        scene.started(uuid)
        if attempt < retries:
            scene.send("task-retried", uuid, exception="ValueError('x')", traceback="")
    scene.failed(uuid, exception)


def know(scene: Scene, max_retries: float | None) -> None:
    scene.tasks.max_retries = TaskSettings({"add": RegisteredTask(False, max_retries)}).max_retries


@pytest.mark.parametrize(
    ("max_retries", "retries", "expected"),
    [
        (2, 2, 1),
        (2, 1, None),
        (2, 0, None),
        (0, 0, None),  # a failure as any other
        (math.inf, 5, None),
        (None, 3, None),
        (2, 4, None),  # a call of `retry` has another limit
    ],
)
def test_a_failure_in_the_last_permitted_retry_exhausts_them(
    scene: Scene, max_retries: float | None, retries: int, expected: float | None
) -> None:
    know(scene, max_retries)
    fail_after(scene, retries)
    assert scene.total("task_retries_exhausted_total") == (expected or 0)


def test_no_limit_is_known_from_an_execution_that_was_retried_beyond_it(scene: Scene) -> None:
    know(scene, 2)
    fail_after(scene, 5)
    fail_after(scene, 2)
    assert scene.total("task_retries_exhausted_total") == 0


def test_the_failure_of_a_retry_may_arrive_before_the_retry(scene: Scene) -> None:
    """Another child process runs it, before the worker reports the attempt before."""
    know(scene, 2)
    for _ in range(2):
        fail_after(scene, 1)
    for uuid in ("x", "y"):
        for attempt in (1, 2):
            scene.sent(uuid, retries=attempt)
            scene.received(uuid, retries=attempt)
            scene.started(uuid)
        scene.failed(uuid)
        scene.send("task-retried", uuid)
    assert scene.total("task_retries_exhausted_total") == 2
    assert scene.total("task_retried_total") >= 2


def test_the_exception_of_celery_needs_no_limit(scene: Scene) -> None:
    fail_after(scene, 3, "MaxRetriesExceededError('no more')")
    assert scene.total("task_retries_exhausted_total", task="add") == 1
    assert scene.total("task_failed_total", exception="MaxRetriesExceededError") == 1


def poll(scene: Scene, uuid: str, retries: int) -> None:
    """Run `celery.chord_unlock`, which finds its chord incomplete."""
    scene.received(uuid, "celery.chord_unlock", retries=retries)
    scene.started(uuid)
    scene.send("task-retried", uuid, exception="", traceback="")


def test_the_highest_number_of_retries_of_a_chord_that_waits(scene: Scene) -> None:
    assert scene.value("chord_unlock_max_retries") is None
    for retries in range(7):
        poll(scene, "a", retries)
    for retries in range(3):
        poll(scene, "b", retries)
    assert scene.value("chord_unlock_max_retries") == 7
    scene.run("a", "celery.chord_unlock", retries=7)
    assert scene.value("chord_unlock_max_retries") == 3
    scene.received("b", "celery.chord_unlock", retries=3)
    scene.started("b")
    scene.failed("b", "ChordError('x')")
    assert scene.value("chord_unlock_max_retries") == 0


def test_a_chord_that_is_not_polled_any_more_is_forgotten() -> None:
    scene = Scene(forget_after=600.0)
    poll(scene, "a", 5)
    scene.idle(300)
    poll(scene, "b", 1)
    assert scene.value("chord_unlock_max_retries") == 6
    scene.idle(400)
    assert scene.value("chord_unlock_max_retries") == 2


def test_other_tasks_that_are_retried_are_no_chords(scene: Scene) -> None:
    fail_after(scene, 3)
    assert scene.value("chord_unlock_max_retries") is None
