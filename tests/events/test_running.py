"""What runs, by the events and by what the workers say of themselves."""

from __future__ import annotations

import pytest

from tests.events.scene import Scene


def test_a_restarted_worker_runs_nothing() -> None:
    scene = Scene()
    scene.heartbeat(0, 0)
    scene.received("u")
    scene.started("u")
    assert scene.running() == 1
    scene.heartbeat(0, 0, pid=11)
    assert scene.running() == 0


def test_a_restart_in_a_container_is_seen_though_the_pid_is_the_same() -> None:
    scene = Scene()
    scene.heartbeat(40, 0)
    scene.received("u")
    scene.started("u")
    scene.heartbeat(41, 1, after=2)
    assert scene.running() == 1
    for _ in range(2):
        scene.heartbeat(0, 1, after=2)
    assert scene.running() == 0


def test_an_idle_worker_runs_nothing() -> None:
    """An ignored task never tells of its end."""
    scene = Scene()
    scene.run("v")
    scene.received("u")
    scene.started("u")
    scene.heartbeat(2, 1, after=2)
    assert scene.running() == 1
    for _ in range(2):  # the event of its end may be behind the first
        scene.heartbeat(2, 0, after=2)
    assert scene.running() == 0


def test_a_heartbeat_ahead_of_a_start_does_not_end_it() -> None:
    scene = Scene()
    scene.received("u")
    scene.started("u")
    scene.heartbeat(0, 0, timestamp=scene.now - 0.5)
    assert scene.running() == 1


def test_a_busy_worker_runs_no_more_than_it_says() -> None:
    """Ends that were lost must not pile up on a worker that is never idle."""
    scene = Scene()
    scene.heartbeat(0, 0)
    for number in range(50):
        scene.received(f"u{number}")
        scene.started(f"u{number}")
        scene.heartbeat(number + 1, 1, after=2)
    scene.heartbeat(50, 1, after=2)
    assert scene.running() <= 2
    assert scene.value("task_oldest_running_start_timestamp_seconds", task="add") == pytest.approx(scene.now, abs=10)
