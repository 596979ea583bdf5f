"""Running tasks, by the task events and by the counts in heartbeats."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from celery_vitals.workers.state import State
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
    """An ignored task sends no event at its end."""
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


def test_running_tasks_are_limited_to_the_active_count_of_a_busy_worker() -> None:
    """Tasks whose end events were lost must not accumulate on a worker that is never idle."""
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


@pytest.fixture
def one_running(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene with one running task, whose registry uses the clock of the scene."""
    scene = Scene()
    clock = SimpleNamespace(monotonic=lambda: scene.now, time=lambda: scene.now)
    monkeypatch.setattr("celery_vitals.workers.registry.time", clock)
    scene.heartbeat(0, 0)
    scene.received("u")
    scene.started("u")
    scene.heartbeat(1, 1)
    return scene


def running_after_silence(scene: Scene, seconds: float) -> float:
    """Return how many tasks run after no event but a heartbeat of another worker."""
    scene.heartbeat(0, 0, hostname="other@one", after=seconds)
    scene.idle()
    return scene.running()


def test_no_task_runs_on_a_lost_worker(one_running: Scene) -> None:
    assert running_after_silence(one_running, 100) == 1
    assert running_after_silence(one_running, 100) == 0
    assert one_running.value("task_oldest_running_start_timestamp_seconds", task="add") is None


def test_task_runs_again_on_a_worker_that_was_frozen(one_running: Scene) -> None:
    assert running_after_silence(one_running, 200) == 0
    one_running.heartbeat(1, 1)
    one_running.idle()
    assert one_running.running() == 1
    one_running.succeeded("u")
    assert one_running.running() == 0
    assert one_running.task(queue="unknown") == {"received": 1, "started": 1, "succeeded": 1}


@pytest.mark.parametrize("pid", [10, 11])
def test_task_does_not_run_on_a_worker_that_was_killed_and_restarted(
    one_running: Scene, pid: int
) -> None:
    """Also in a container, where the new process has the same pid."""
    assert running_after_silence(one_running, 200) == 0
    for _ in range(2):
        one_running.heartbeat(0, 0, pid=pid, after=2)
    one_running.idle()
    assert one_running.running() == 0


def test_task_runs_until_it_ends_during_warm_shutdown(one_running: Scene) -> None:
    scene = one_running
    scene.send("worker-offline", processed=1, active=1)
    scene.idle()
    assert scene.running() == 1
    assert [scene.registry.state(worker) for worker in scene.registry.workers()] == [State.DRAINING]
    scene.succeeded("u", after=60)
    scene.idle()
    assert [scene.registry.state(worker) for worker in scene.registry.workers()] == [State.GONE]
    assert scene.task(queue="unknown") == {"received": 1, "started": 1, "succeeded": 1}


def test_tasks_of_a_dropped_worker_are_evicted(one_running: Scene) -> None:
    """Otherwise they would be tracked forever."""
    scene = one_running
    running_after_silence(one_running, 200)
    for _ in range(10):
        scene.heartbeat(0, 0, hostname="other@one", after=1000)
        scene.registry.begin_round(scene.now)
        scene.idle()
    assert scene.tracked_tasks == 0


PER_WORKER = ("exporter_events_missed_total", "worker_task_events", "worker_clock_offset_seconds")


def workers_of(scene: Scene) -> dict[str, set[str]]:
    """Return the workers in each of the series that exist per worker."""
    return {name: scene.labels(name, "worker") for name in PER_WORKER}


@pytest.mark.parametrize("rounds", [True, False], ids=["rounds", "events alone"])
def test_a_forgotten_worker_runs_nothing_and_has_no_series(
    one_running: Scene, rounds: bool
) -> None:
    """Also where no round of remote control removes it: it is refused, or switched off."""
    scene = one_running
    scene.heartbeat(1, 1, after=10)  # while its series exist
    assert all(WORKER in found for found in workers_of(scene).values())
    seen = [running_after_silence(scene, 121)]
    for _ in range(120):
        if rounds:
            scene.registry.begin_round(scene.now)
        seen.append(running_after_silence(scene, 35))
    assert not any(seen)
    assert all(found <= {"other@one"} for found in workers_of(scene).values())


def test_pods_that_vanish_leave_nothing(one_running: Scene) -> None:
    scene = one_running
    for number in range(100):
        pod = f"celery@web-7d9f-{number:05}"
        scene.consumes(pod, "q", "r")
        scene.heartbeat(0, 0, hostname=pod)
        scene.received(f"pod{number}", hostname=pod)
        scene.started(f"pod{number}", hostname=pod)
        scene.heartbeat(1, 1, hostname=pod, after=60)
    for _ in range(70):
        scene.heartbeat(0, 0, hostname="other@one", after=60)
        scene.idle()
    assert scene.running() == 0
    assert all(found <= {"other@one"} for found in workers_of(scene).values())
    assert scene.registry.names() == {"other@one"}


@pytest.fixture
def no_heartbeats() -> Scene:
    """A scene whose worker sends no heartbeats; by remote control, it has reported two slots."""
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


def start_ignored(scene: Scene, count: int) -> None:
    """Start tasks that send no event at their end."""
    for number in range(count):
        scene.received(f"u{number}")
        scene.started(f"u{number}")


def test_without_heartbeats_running_tasks_are_capped_at_the_concurrency(
    no_heartbeats: Scene,
) -> None:
    start_ignored(no_heartbeats, 5000)
    no_heartbeats.idle(61)
    assert no_heartbeats.running() == 2
    assert len(no_heartbeats.tracker().running) == 2
    no_heartbeats.succeeded("u4")
    no_heartbeats.failed("u4999")
    assert no_heartbeats.task(queue="unknown") == {
        "received": 5000,
        "started": 5000,
        "succeeded": 1,
        "failed": 1,
    }


def test_evicted_tasks_are_not_running() -> None:
    scene = Scene(max_tasks=1000)
    start_ignored(scene, 5000)
    assert scene.running() <= 1000
    scene.idle(61)
    assert len(scene.tracker().running) == scene.running() <= 1000


def test_without_heartbeats_running_tasks_expire(no_heartbeats: Scene) -> None:
    start_ignored(no_heartbeats, 1)
    no_heartbeats.idle(80_000)
    assert no_heartbeats.running() == 1
    no_heartbeats.idle(7000)
    assert no_heartbeats.running() == 0
    no_heartbeats.idle(86_401)
    assert no_heartbeats.tracked_tasks == 0


def test_without_heartbeats_running_tasks_are_unknown_after_a_gap(no_heartbeats: Scene) -> None:
    no_heartbeats.heartbeat(0, 0, hostname="other@one")
    no_heartbeats.consumes("other@one", "q", "r")
    for uuid, worker in (("u", WORKER), ("v", "other@one")):
        no_heartbeats.received(uuid, hostname=worker)
        no_heartbeats.started(uuid, hostname=worker)
    no_heartbeats.processor.connected()
    assert no_heartbeats.running() == 1
    for uuid, worker in (("u", WORKER), ("v", "other@one")):
        no_heartbeats.failed(uuid, hostname=worker)
    assert no_heartbeats.task(queue="unknown") == {"received": 2, "started": 2, "failed": 2}
    assert no_heartbeats.total("task_failed_runtime_seconds_count") == 1
    assert no_heartbeats.running() == 0


def test_running_tasks_over_the_limit_of_names_are_aggregated() -> None:
    scene = Scene(caps={"task": 2})
    for number in range(4):
        scene.received(f"u{number}", f"task{number}")
        scene.started(f"u{number}")
    assert scene.labels("task_running", "task") == {"task0", "task1", "_other"}
    assert scene.value("task_running", task="_other") == 2


def test_silent_worker_is_kept_for_an_hour() -> None:
    scene = Scene()
    scene.started("u", hostname="silent@h")
    scene.idle(3500)
    assert "silent@h" in scene.labels("exporter_events_missed_total", "worker")
    scene.idle(200)
    assert "silent@h" not in scene.labels("exporter_events_missed_total", "worker")


def test_a_start_just_before_a_heartbeat_is_not_ended_by_its_count() -> None:
    """The worker may have counted before the start."""
    scene = Scene()
    scene.heartbeat(0, 0)
    scene.started("u")
    scene.heartbeat(1, 0, after=0.5)
    scene.heartbeat(1, 1, after=2)
    assert scene.running("unknown") == 1


def test_tasks_over_the_active_count_of_a_busy_worker_do_not_mark_their_name() -> None:
    """One of them may still run: only a count of 0 shows which tasks end without an event."""
    scene = Scene()
    start_ignored(scene, 2)
    for _ in range(3):
        scene.heartbeat(2, 1, after=2)
    assert scene.running() == 1
    assert not scene.index.name("add").ends_without_event
    for _ in range(2):
        scene.heartbeat(2, 0, after=2)
    assert scene.running() == 0
    assert scene.index.name("add").ends_without_event


def test_concurrency_of_one_process_does_not_cap_a_shared_name(no_heartbeats: Scene) -> None:
    start_ignored(no_heartbeats, 3)
    no_heartbeats.tracker().mark_shared()
    no_heartbeats.idle(61)
    assert no_heartbeats.running() == 3
