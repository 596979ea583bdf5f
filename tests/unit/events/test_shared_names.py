"""Two processes that share a node name: the counts of one do not apply to the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.events.worker_tracker import WorkerTracker
from tests.support.scene import NOW, WORKER, Scene


def test_alternating_heartbeats_of_two_processes_count_no_missed_events() -> None:
    scene = Scene()
    for turn in range(50):
        scene.heartbeat(5000 + turn, 0, pid=10, after=1)
        scene.heartbeat(7 + turn, 0, pid=11, after=1)
    assert scene.value("exporter_events_missed_total", worker=WORKER, event="start") == 0


@given(st.lists(st.sampled_from([10, 11]), max_size=60))
def test_heartbeats_of_two_processes_in_any_order_count_no_missed_events(pids: list[int]) -> None:
    worker, processed = WorkerTracker("w@one", NOW), {10: 5000, 11: 7}
    for number, pid in enumerate(pids):
        worker.last_event_at = NOW + number
        for one in (pid, 21 - pid):
            worker.set_process(one)
            processed[one] += 1
            worker.count_start()
            worker.count_missed(processed[one])
    assert worker.missed_starts == 0


def test_shared_name_in_containers_is_detected_by_the_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each process has the same pid; the registry knows that two replied."""
    scene = Scene()
    scene.run("u", pid=1)
    scene.heartbeat(5000, 0, pid=1)
    shared: Callable[[], frozenset[str]] = lambda: frozenset({WORKER})  # noqa: E731
    monkeypatch.setattr(scene.registry, "shared_names", shared)
    scene.idle(1)
    for processed in (7, 5000) * 10:
        for _ in range(5):
            scene.heartbeat(processed, 0, pid=1, after=1)
    assert scene.value("exporter_events_missed_total", worker=WORKER, event="start") == 0


def test_tasks_of_both_processes_run_until_their_end_events() -> None:
    scene = Scene()
    for pid in (10, 11, 10):
        scene.heartbeat(0, 0, pid=pid)
    scene.received("u")
    scene.started("u", pid=10)
    for _ in range(5):
        scene.heartbeat(0, 0, pid=11, after=2)
        scene.heartbeat(1, 1, pid=10, after=2)
    assert scene.running() == 1
    scene.succeeded("u", pid=10)
    assert scene.running() == 0
    assert scene.task(queue="unknown")["succeeded"] == 1


def test_missed_events_count_again_after_one_process_is_gone() -> None:
    scene = Scene()
    for _ in range(5):
        scene.heartbeat(5000, 0, pid=10, after=1)
        scene.heartbeat(7, 0, pid=11, after=1)
    scene.now += 400
    scene.run("v", pid=11)
    for _ in range(3):
        scene.heartbeat(8, 0, pid=11, after=1)
    for _ in range(3):
        scene.heartbeat(11, 0, pid=11, after=1)
    assert scene.value("exporter_events_missed_total", worker=WORKER, event="start") == 3
