"""Two processes that share a node name: what either says of itself is not held against the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.events.worker_tracker import WorkerTracker
from tests.support.scene import NOW, WORKER, Scene


def test_two_processes_that_take_turns_miss_nothing() -> None:
    scene = Scene()
    for turn in range(50):
        scene.heartbeat(5000 + turn, 0, pid=10, after=1)
        scene.heartbeat(7 + turn, 0, pid=11, after=1)
    assert scene.value("exporter_events_missed_total", worker=WORKER) == 0


@given(st.lists(st.sampled_from([10, 11]), max_size=60))
def test_in_any_order_in_which_both_are_heard_every_few_heartbeats(pids: list[int]) -> None:
    host, processed = WorkerTracker("w@one", NOW), {10: 5000, 11: 7}
    for number, pid in enumerate(pids):
        host.heard = NOW + number
        for one in (pid, 21 - pid):
            host.process(one)
            processed[one] += 1
            host.saw_start()
            host.heartbeat(processed[one])
    assert host.missed == 0


def test_in_containers_the_workers_answers_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process has the same number; that two answer is known to the fleet."""
    scene = Scene()
    scene.run("u", pid=1)
    scene.heartbeat(5000, 0, pid=1)
    shared: Callable[[], frozenset[str]] = lambda: frozenset({WORKER})  # noqa: E731
    monkeypatch.setattr(scene.registry, "shared", shared)
    scene.idle(1)
    for processed in (7, 5000) * 10:
        for _ in range(5):
            scene.heartbeat(processed, 0, pid=1, after=1)
    assert scene.value("exporter_events_missed_total", worker=WORKER) == 0


def test_what_both_run_is_shown_and_ends_by_its_own_event() -> None:
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


def test_once_one_is_gone_what_is_missed_counts_again() -> None:
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
    assert scene.value("exporter_events_missed_total", worker=WORKER) == 3
