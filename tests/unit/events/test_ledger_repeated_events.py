"""Events that arrive twice, late or after the end of their task: no execution of the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.scene import WORKER, Scene
from tests.unit.events.test_ledger import (  # noqa: F401
    OTHER_WORKER,
    Counts,
    begin,
    counts,
    live,
    make,
)

Make = Callable[..., Scene]
MODES = pytest.mark.parametrize("late", [False, True, None])
ENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "succeeded": ("task-succeeded", {"runtime": 0.5}),
    "failed": ("task-failed", {"exception": "ValueError('x')"}),
    "child killed": ("task-failed", {"exception": "WorkerLostError('x')"}),
}


def arrive(scene: Scene, *events: dict[str, Any]) -> None:
    """Let events arrive, one after another."""
    for event in events:
        scene.now += 0.01
        scene.feed(json.dumps(event).encode())


@pytest.mark.parametrize("sent", [True, False])
def test_a_start_that_arrives_after_the_end_is_no_second_one(make: Make, sent: bool) -> None:  # noqa: F811
    scene = make(late=False)
    live(scene, 4, WORKER, OTHER_WORKER)
    if sent:
        scene.sent("u")
    scene.received("u")
    received_at = scene.now
    scene.succeeded("u", timestamp=received_at + 0.002)
    scene.started("u", timestamp=received_at + 0.001)
    live(scene, 140, OTHER_WORKER)
    assert counts(scene) == {}
    assert scene.running() == 0


@MODES
@pytest.mark.parametrize("pause", [0, 10, 50])
def test_a_start_that_arrives_again_after_the_end_is_no_second_one(
    make: Make,  # noqa: F811
    late: bool | None,
    pause: float,
) -> None:
    scene = make(late=late)
    live(scene, 4, WORKER, OTHER_WORKER)
    scene.sent("u")
    scene.received("u")
    start = scene.event("task-started", "u")
    arrive(scene, start)
    scene.succeeded("u")
    live(scene, pause, WORKER, OTHER_WORKER)
    arrive(scene, start)
    live(scene, 140, OTHER_WORKER)
    assert counts(scene) == {}
    assert scene.total("task_started_total") == 1


@MODES
@pytest.mark.parametrize("pause", [0, 10])
@pytest.mark.parametrize("end", ENDS)
def test_all_events_of_a_task_that_arrive_twice_count_once(
    make: Make,  # noqa: F811
    late: bool | None,
    pause: float,
    end: str,
) -> None:
    scene = make(late=late)
    live(scene, 4, WORKER, OTHER_WORKER)
    scene.sent("u")
    kind, fields = ENDS[end]
    events = [
        scene.event("task-received", "u", name="add"),
        scene.event("task-started", "u"),
        scene.event(kind, "u", **fields),
    ]
    arrive(scene, *events)
    live(scene, pause, WORKER, OTHER_WORKER)
    before = counts(scene), scene.task()
    arrive(scene, *events)
    live(scene, 20, WORKER, OTHER_WORKER)
    assert (counts(scene), scene.task()) == before
    assert before[0] == ({"lost": 1} if end == "child killed" else {})


def test_old_heartbeats_do_not_end_a_task_that_has_started_since(make: Make) -> None:  # noqa: F811
    scene = make(late=False)
    live(scene, 4, WORKER)
    old = [scene.event("worker-heartbeat", active=0, processed=0, freq=2) for _ in range(4)]
    begin(scene)
    arrive(scene, *old)
    live(scene, 10, WORKER, active=1)
    assert counts(scene) == {}
    assert scene.running() == 1


def test_a_worker_without_heartbeats_loses_nothing_by_its_silence(make: Make) -> None:  # noqa: F811
    scene = make(late=False)
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    live(scene, 600, OTHER_WORKER)
    assert "lost" not in counts(scene)
    scene.succeeded("u")
    assert scene.missing() == scene.unknown()
    assert scene.total("task_succeeded_total") == 1


def test_tasks_of_a_blocked_solo_worker_have_a_message(make: Make) -> None:  # noqa: F811
    """Its events leave when the task has ended, long after its queue is empty."""
    scene = make(late=False)
    live(scene, 20, WORKER)
    sent_at = scene.now
    scene.sent("u")
    for _ in range(45):
        scene.idle(2)
        scene.processor.compare_with_broker({"q": Counts(0, 0)}, (), scene.now)
    assert counts(scene) == {}
    events = [
        scene.event("task-received", "u", name="add", timestamp=sent_at + 0.1),
        scene.event("task-started", "u", timestamp=sent_at + 0.2),
    ]
    arrive(scene, *events)
    scene.succeeded("u", runtime=90.0)
    assert counts(scene) == {}
