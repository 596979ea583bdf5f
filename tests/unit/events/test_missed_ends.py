"""Ends of executions whose events are lost, by the counts in heartbeats."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.scene import WORKER, Scene


@pytest.fixture
def scene() -> Scene:
    """A scene whose worker sends task events, and whose own counts are known."""
    scene = Scene()
    scene.run("first")
    for _ in range(2):
        heartbeats(scene, 1, 0)
    return scene


def heartbeats(scene: Scene, processed: int, active: int) -> None:
    """Send enough of them for their counts to be compared."""
    for _ in range(3):
        scene.heartbeat(processed, active, after=2)


def start(scene: Scene, *uuids: str) -> None:
    for uuid in uuids:
        scene.received(uuid)
        scene.started(uuid)


def missed(scene: Scene) -> tuple[float, float]:
    """Return the missed starts and ends."""
    counts = [
        scene.value("exporter_events_missed_total", worker=WORKER, event=event)
        for event in ("start", "end")
    ]
    assert None not in counts
    return counts[0] or 0, counts[1] or 0


def test_ends_while_the_stream_was_cut(scene: Scene) -> None:
    start(scene, "a", "b")
    scene.heartbeat(3, 2, after=2)
    scene.processor.connected()
    heartbeats(scene, 3, 0)
    assert missed(scene) == (0, 2)
    assert scene.running() == 0
    assert not scene.index.name("add").ends_without_event


def test_starts_and_ends_while_the_stream_was_cut(scene: Scene) -> None:
    start(scene, "a", "b")
    scene.processor.connected()
    heartbeats(scene, 33, 1)
    assert missed(scene) == (30, 31)
    scene.succeeded("c")  # its start was missed
    heartbeats(scene, 33, 0)
    assert missed(scene) == (30, 31)


def test_ends_lost_without_a_new_connection_show_by_the_starts_that_were_lost(
    scene: Scene,
) -> None:
    start(scene, "a")
    heartbeats(scene, 4, 0)
    assert missed(scene) == (2, 3)


@pytest.mark.parametrize("count", [1, 3])
def test_ends_without_an_event_are_not_missed(scene: Scene, count: int) -> None:
    """As of tasks that raise Ignore or are replaced."""
    start(scene, *map(str, range(count)))
    heartbeats(scene, 1 + count, 0)
    assert missed(scene) == (0, 0)
    assert scene.running() == 0
    start(scene, "later")
    scene.processor.connected()
    heartbeats(scene, 2 + count, 0)
    assert missed(scene) == (0, 0)


ENDS: list[tuple[str, dict[str, Any]]] = [
    ("succeeded", {"runtime": 1.0}),
    ("failed", {"exception": "ValueError('x')"}),
    ("retried", {}),
    ("rejected", {"requeue": False}),
    ("rejected", {"requeue": True}),
    ("revoked", {"terminated": True}),
    ("cancelled", {}),
]


@pytest.mark.parametrize(("kind", "fields"), ENDS)
@pytest.mark.parametrize("seen", [True, False], ids=["start seen", "start lost"])
@pytest.mark.parametrize("length", ["short", "long"])
def test_an_end_that_arrives_is_not_missed(
    scene: Scene, kind: str, fields: dict[str, Any], seen: bool, length: str
) -> None:
    scene.received("a")
    if seen:
        scene.started("a")
    if length == "long":
        heartbeats(scene, 2, 1)
    scene.send(f"task-{kind}", "a", **fields)
    heartbeats(scene, 2, 0)
    assert missed(scene) == (0 if seen else 1, 0)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("revoked", {"terminated": False, "expired": True}),
        ("failed", {"exception": "NotRegistered('x')"}),
    ],
)
def test_an_end_of_a_task_that_did_not_start_hides_no_missed_one(
    scene: Scene, kind: str, fields: dict[str, Any]
) -> None:
    scene.send(f"task-{kind}", "a", **fields)
    heartbeats(scene, 2, 0)
    assert missed(scene) == (1, 1)


def test_tasks_that_run_when_the_exporter_starts() -> None:
    scene = Scene()
    scene.heartbeat(5, 2)
    scene.succeeded("a")
    heartbeats(scene, 5, 1)
    scene.succeeded("b")
    heartbeats(scene, 5, 0)
    assert missed(scene) == (0, 0)


def test_tasks_of_a_process_that_was_killed_have_no_end(scene: Scene) -> None:
    start(scene, "a", "b")
    heartbeats(scene, 3, 2)
    for _ in range(5):
        scene.heartbeat(0, 0, pid=11, after=2)
    assert missed(scene) == (0, 0)
    assert scene.running() == 0
    assert not scene.index.name("add").ends_without_event


def test_repeated_ids_count_each(scene: Scene) -> None:
    start(scene, "x", "x", "x")
    scene.succeeded("x", runtime=0.01)
    scene.processor.connected()
    heartbeats(scene, 4, 0)
    assert missed(scene) == (0, 2)
