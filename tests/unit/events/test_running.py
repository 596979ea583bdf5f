"""What runs, by the events and by what the workers say of themselves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from celery_vitals.workers import State
from tests.support.scene import WORKER, Scene


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
    assert scene.value("task_oldest_running_start_timestamp_seconds", task="add") == pytest.approx(
        scene.now, abs=10
    )


class Ticking:
    """A scene whose fleet goes by the same clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scene = Scene()
        clock = SimpleNamespace(monotonic=lambda: self.scene.now, time=lambda: self.scene.now)
        monkeypatch.setattr("celery_vitals.workers.registry.time", clock)
        self.scene.heartbeat(0, 0)
        self.scene.received("u")
        self.scene.started("u")
        self.scene.heartbeat(1, 1)

    def silence(self, seconds: float) -> float:
        """Nobody but another worker is heard for so long; what runs then."""
        self.scene.heartbeat(0, 0, hostname="other@one", after=seconds)
        self.scene.idle()
        return self.scene.running()


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    return Ticking(monkeypatch)


def test_on_a_worker_that_is_down_nothing_runs(ticking: Ticking) -> None:
    assert ticking.silence(100) == 1
    assert ticking.silence(100) == 0
    assert ticking.scene.value("task_oldest_running_start_timestamp_seconds", task="add") is None


def test_on_one_that_was_only_frozen_it_runs_again_and_ends(ticking: Ticking) -> None:
    assert ticking.silence(200) == 0
    ticking.scene.heartbeat(1, 1)
    ticking.scene.idle()
    assert ticking.scene.running() == 1
    ticking.scene.succeeded("u")
    assert ticking.scene.running() == 0
    assert ticking.scene.task(queue="unknown") == {"received": 1, "started": 1, "succeeded": 1}


@pytest.mark.parametrize("pid", [10, 11])
def test_on_one_that_was_killed_and_came_back_it_does_not(ticking: Ticking, pid: int) -> None:
    """Also in a container, where the new process has the same number."""
    assert ticking.silence(200) == 0
    for _ in range(2):
        ticking.scene.heartbeat(0, 0, pid=pid, after=2)
    ticking.scene.idle()
    assert ticking.scene.running() == 0


def test_on_one_that_shuts_down_it_runs_until_it_ends(ticking: Ticking) -> None:
    scene = ticking.scene
    scene.tell("worker-offline", processed=1, active=1)
    scene.idle()
    assert scene.running() == 1
    assert [scene.registry.state(worker) for worker in scene.registry.workers()] == [State.DRAINING]
    scene.succeeded("u", after=60)
    scene.idle()
    assert [scene.registry.state(worker) for worker in scene.registry.workers()] == [State.GONE]
    assert scene.task(queue="unknown") == {"received": 1, "started": 1, "succeeded": 1}


def test_what_a_forgotten_worker_ran_can_be_given_up(ticking: Ticking) -> None:
    """Else it would be followed for ever."""
    scene = ticking.scene
    ticking.silence(200)
    for _ in range(10):
        scene.heartbeat(0, 0, hostname="other@one", after=1000)
        scene.registry.begin_round(scene.now)
        scene.idle()
    assert scene.records == 0


@pytest.fixture
def mute() -> Scene:
    """A worker without heartbeats, which has told by remote control that it has two slots."""
    scene = Scene(forget_after=86400)
    pool = {
        "implementation": "celery.concurrency.prefork:TaskPool",
        "max-concurrency": 2,
        "processes": [1, 2],
    }
    scene.registry.stats_replied(
        WORKER, {"pool": pool, "pid": 10, "uptime": 5, "total": {}}, 0.1, False
    )
    return scene


def ignore(scene: Scene, count: int) -> None:
    """Tasks whose ends are not told."""
    for number in range(count):
        scene.received(f"u{number}")
        scene.started(f"u{number}")


def test_without_heartbeats_no_more_runs_than_there_are_slots(mute: Scene) -> None:
    ignore(mute, 5000)
    mute.idle(61)
    assert mute.running() == 2
    assert len(mute.host().running) == 2
    mute.succeeded("u4")
    mute.failed("u4999")
    assert mute.task(queue="unknown") == {
        "received": 5000,
        "started": 5000,
        "succeeded": 1,
        "failed": 1,
    }


def test_what_is_given_up_for_its_number_is_not_kept_as_running() -> None:
    scene = Scene(limit=1000)
    ignore(scene, 5000)
    assert scene.running() <= 1000
    scene.idle(61)
    assert len(scene.host().running) == scene.running() <= 1000


def test_without_heartbeats_nothing_runs_for_ever(mute: Scene) -> None:
    ignore(mute, 1)
    mute.idle(80_000)
    assert mute.running() == 1
    mute.idle(7000)
    assert mute.running() == 0
    mute.idle(86_401)
    assert mute.records == 0


def test_without_heartbeats_what_ran_before_a_gap_is_not_known_to_run(mute: Scene) -> None:
    mute.heartbeat(0, 0, hostname="other@one")
    mute.consumes("other@one", "q", "r")
    for uuid, worker in (("u", WORKER), ("v", "other@one")):
        mute.received(uuid, hostname=worker)
        mute.started(uuid, hostname=worker)
    mute.processor.connected()
    assert mute.running() == 1
    for uuid, worker in (("u", WORKER), ("v", "other@one")):
        mute.failed(uuid, hostname=worker)
    assert mute.task(queue="unknown") == {"received": 2, "started": 2, "failed": 2}
    assert mute.total("task_failed_runtime_seconds_count") == 1
    assert mute.running() == 0
