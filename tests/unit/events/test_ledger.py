"""Executions that are lost, delivered again, or run twice, by their events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from celery_vitals.events.cases import CaseKind
from tests.support.scene import WORKER, Scene

OTHER_WORKER = "other@two"


@dataclass(frozen=True)
class Counts:
    """What a broker reports of a queue."""

    ready: int | None
    unacked: int | None
    consumers: int | None = 1


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scene]:
    """Return a function that creates a scene whose registry uses the clock of the scene."""

    def create(**options: Any) -> Scene:
        scene = Scene(queues_known=False, **options)
        clock = SimpleNamespace(monotonic=lambda: scene.now, time=lambda: scene.now)
        monkeypatch.setattr("celery_vitals.workers.registry.time", clock)
        scene.consumes(WORKER, "q", "r")
        return scene

    return create


def live(scene: Scene, seconds: float, *workers: str, active: int = 0) -> None:
    """Let time pass while only these workers send heartbeats, with numbers that change nothing."""
    for _ in range(int(seconds / 2)):
        for worker in workers:
            starts = scene.tracker(worker).starts
            scene.heartbeat(starts, active, hostname=worker, after=0)
        scene.idle(2)


def begin(scene: Scene, uuid: str = "u", worker: str = WORKER, name: str = "add") -> None:
    """Send and start a task."""
    scene.sent(uuid, name)
    scene.received(uuid, name, hostname=worker)
    scene.started(uuid, hostname=worker)
    live(scene, 4, worker, active=len(scene.tracker(worker).running))


def counts(scene: Scene) -> dict[str, float]:
    """Return the columns of the ledger that are not 0, and check that the books are closed."""
    assert scene.missing() == scene.unknown()
    columns = {
        name: scene.total(f"task_{name}")
        for name in (
            "lost_total", "found_total", "redelivered_total", "overlapping_total",
            "repeated_total", "orphaned", "poison",
        )
    }  # fmt: skip
    columns["unknown"] = scene.unknown()
    return {name.replace("_total", ""): value for name, value in columns.items() if value}


def test_an_early_acknowledged_task_is_lost_with_its_silent_worker(
    make: Callable[..., Scene],
) -> None:
    scene = make(late=False)
    begin(scene)
    live(scene, 100, OTHER_WORKER)
    assert counts(scene) == {}
    live(scene, 40, OTHER_WORKER)
    assert counts(scene) == {"lost": 1}
    assert scene.value("task_lost_total", task="add", queue="q", reason="worker_gone") == 1
    assert [(case.kind, case.uuid, case.found) for case in scene.processor.cases()] == [
        (CaseKind.LOST, "u", False)
    ]


def test_a_lost_task_that_ends_is_found(make: Callable[..., Scene]) -> None:
    scene = make(late=False)
    begin(scene)
    live(scene, 140, OTHER_WORKER)
    scene.succeeded("u")
    assert counts(scene) == {"lost": 1, "found": 1}
    assert scene.processor.cases()[0].found


def test_a_late_acknowledged_task_is_undecided_until_it_starts_again(
    make: Callable[..., Scene],
) -> None:
    scene = make(late=True)
    begin(scene)
    live(scene, 140, OTHER_WORKER)
    assert counts(scene) == {"orphaned": 1}
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    live(scene, 10, OTHER_WORKER, active=1)
    assert counts(scene) == {"redelivered": 1}
    scene.succeeded("u", hostname=OTHER_WORKER)
    assert counts(scene) == {"redelivered": 1}


def test_a_message_that_starts_again_before_its_worker_is_known_to_be_gone(
    make: Callable[..., Scene],
) -> None:
    """RabbitMQ delivers it again at once."""
    scene = make(late=True)
    begin(scene)
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    live(scene, 10, OTHER_WORKER, active=1)
    scene.succeeded("u", hostname=OTHER_WORKER)
    assert counts(scene) == {}
    live(scene, 140, OTHER_WORKER)
    assert counts(scene) == {"redelivered": 1}


def test_two_executions_of_a_message_overlap_while_both_workers_live(
    make: Callable[..., Scene],
) -> None:
    scene = make(late=True, visibility_timeout=5.0)
    begin(scene)
    scene.idle(2)
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    live(scene, 6, WORKER, OTHER_WORKER, active=1)
    assert counts(scene) == {"overlapping": 1}
    scene.succeeded("u", after=1)
    scene.succeeded("u", hostname=OTHER_WORKER)
    assert counts(scene) == {"overlapping": 1}
    cause = {"task": "add", "queue": "q", "cause": "visibility_timeout"}
    assert scene.value("task_overlapping_total", **cause) == 1
    needed = scene.value("task_required_visibility_timeout_seconds", task="add")
    assert needed == pytest.approx(13, abs=1)


def test_two_short_executions_overlap_by_the_times_of_their_events(
    make: Callable[..., Scene],
) -> None:
    scene = make(late=True)
    begin(scene)
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    scene.succeeded("u")
    assert counts(scene) == {"overlapping": 1}


def test_an_execution_after_the_end_of_another_is_a_repetition(make: Callable[..., Scene]) -> None:
    scene = make(late=True)
    begin(scene)
    scene.succeeded("u")
    scene.idle(60)
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    scene.succeeded("u", hostname=OTHER_WORKER)
    scene.idle(3)
    assert counts(scene) == {"repeated": 1}


def test_the_end_before_a_start_may_arrive_after_it(make: Callable[..., Scene]) -> None:
    scene = make(late=True)
    begin(scene)
    end = scene.now
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    scene.succeeded("u", timestamp=end)
    assert counts(scene) == {"repeated": 1}


def test_an_id_that_is_sent_twice_is_the_cause(make: Callable[..., Scene]) -> None:
    scene = make(late=False)
    begin(scene, "nightly")
    scene.succeeded("nightly")
    begin(scene, "nightly")
    scene.succeeded("nightly")
    assert counts(scene) == {"repeated": 1}
    assert scene.total("task_repeated_total", cause="task_id") == 1


def test_retries_and_replacements_are_no_repetitions(make: Callable[..., Scene]) -> None:
    scene = make(late=True)
    for attempt in range(4):
        scene.sent("u", retries=attempt)
        scene.received("u", retries=attempt)
        scene.started("u")
        scene.send("task-retried" if attempt < 3 else "task-failed", "u", exception="E()")
    scene.sent("v", "outer")
    scene.received("v", "outer")
    scene.started("v")
    scene.sent("v", "inner")
    scene.received("v", "inner")
    scene.started("v")
    scene.succeeded("v")
    assert counts(scene) == {}


def test_a_restarted_worker_loses_what_ran(make: Callable[..., Scene]) -> None:
    scene = make(late=False)
    begin(scene)
    for _ in range(2):
        scene.heartbeat(0, 0, pid=11)
        scene.idle(2)
    assert counts(scene) == {"orphaned": 1}
    for _ in range(60):
        scene.heartbeat(0, 0, pid=11)
        scene.idle(2)
    assert counts(scene) == {"lost": 1}
    assert scene.total("task_lost_total", reason="worker_restarted") == 1


@pytest.mark.parametrize("pid", [10, 11])
def test_two_workers_of_one_name_lose_nothing(make: Callable[..., Scene], pid: int) -> None:
    """They take turns; in containers both have the same process id."""
    scene = make(late=False)
    begin(scene)
    for _ in range(20):
        scene.heartbeat(0, 0, pid=pid)
        scene.heartbeat(1, 1)
        scene.idle(2)
    assert "lost" not in counts(scene)
    scene.succeeded("u")
    assert counts(scene) == {}


def test_a_warm_shutdown_loses_nothing_within_the_drain_timeout(make: Callable[..., Scene]) -> None:
    scene = make(late=False)
    begin(scene)
    scene.send("worker-offline", active=1, processed=1)
    live(scene, 3000, OTHER_WORKER)
    assert counts(scene) == {"orphaned": 1}
    scene.succeeded("u")
    assert counts(scene) == {}


def test_what_a_shutdown_has_not_completed_in_time_is_lost(make: Callable[..., Scene]) -> None:
    scene = make(late=False, forget_after=1e9)
    begin(scene)
    scene.send("worker-offline", active=1, processed=1)
    for _ in range(3):
        scene.heartbeat(0, 0, pid=11)
        scene.idle(2)
    live(scene, 3500, OTHER_WORKER)
    assert counts(scene) == {"orphaned": 1}
    live(scene, 200, OTHER_WORKER)
    assert counts(scene) == {"lost": 1}


def test_an_offline_event_without_running_tasks_proves_that_they_ended(
    make: Callable[..., Scene],
) -> None:
    scene = make(late=False)
    begin(scene)
    scene.send("worker-offline", active=0, processed=1)
    live(scene, 20, OTHER_WORKER)
    assert counts(scene) == {}
    assert scene.total("task_end_unknown_total", reason="silent") == 1


def test_a_frozen_worker_that_comes_back_still_runs_its_tasks(make: Callable[..., Scene]) -> None:
    scene = make(late=True)
    begin(scene)
    live(scene, 140, OTHER_WORKER)
    assert counts(scene) == {"orphaned": 1}
    live(scene, 4, WORKER, OTHER_WORKER, active=1)
    assert counts(scene) == {}
    assert scene.running() == 1
    scene.succeeded("u")
    assert counts(scene) == {}


def test_after_a_gap_in_the_events_nothing_before_it_is_lost(make: Callable[..., Scene]) -> None:
    scene = make(late=False)
    begin(scene)
    scene.processor.connected()
    live(scene, 140, OTHER_WORKER)
    assert counts(scene) == {"unknown": 1}
    assert scene.total("exporter_events_missed_total", event="end") == 1


def test_a_late_task_is_lost_when_the_broker_has_no_message(make: Callable[..., Scene]) -> None:
    scene = make(late=True)
    begin(scene)
    live(scene, 140, OTHER_WORKER)
    for unacked, ready in ((1, 0), (0, 1), (0, 0)):
        scene.processor.compare_with_broker({"q": Counts(ready, unacked)}, (), scene.now)
        live(scene, 60, OTHER_WORKER)
    assert counts(scene) == {"orphaned": 1}
    for _ in range(2):
        scene.processor.compare_with_broker({"q": Counts(0, 0)}, (), scene.now)
        live(scene, 20, OTHER_WORKER)
    assert counts(scene) == {"lost": 1}


def test_a_cancelled_task_starts_again(make: Callable[..., Scene]) -> None:
    scene = make(late=True, redelivers=True)
    begin(scene)
    scene.send("task-cancelled", "u")
    assert counts(scene) == {"orphaned": 1}
    scene.received("u")
    scene.started("u")
    live(scene, 10, WORKER, active=1)
    assert counts(scene) == {"redelivered": 1}


def test_a_killed_child_loses_its_task(make: Callable[..., Scene]) -> None:
    scene = make(late=False)
    begin(scene)
    scene.failed("u", "WorkerLostError('exitcode 9')")
    assert counts(scene) == {"lost": 1}
    assert scene.total("task_lost_total", reason="child_killed") == 1
    assert scene.total("task_failed_total", exception="WorkerLostError") == 1


def test_a_message_that_kills_its_workers_is_poison(make: Callable[..., Scene]) -> None:
    scene = make(late=True)
    begin(scene, worker="w0@host")
    for number in range(1, 4):
        scene.received("u", hostname=f"w{number}@host")
        scene.started("u", hostname=f"w{number}@host")
        live(scene, 140, OTHER_WORKER, f"w{number}@host", active=1)
    assert counts(scene) == {"redelivered": 3, "poison": 1}
    assert scene.value("task_poison_max_starts", task="add", queue="q") == 4
    scene.succeeded("u", hostname="w3@host")
    assert counts(scene) == {"redelivered": 3}


def test_held_tasks_of_a_killed_worker_are_delivered_again(make: Callable[..., Scene]) -> None:
    scene = make(late=False)
    scene.sent("u")
    scene.received("u")
    live(scene, 4, WORKER)
    live(scene, 140, OTHER_WORKER)
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    scene.succeeded("u", hostname=OTHER_WORKER)
    assert counts(scene) == {}
    assert scene.total("task_in_flight") == 0


def test_held_tasks_that_another_worker_runs_before_the_first_is_known_to_be_gone(
    make: Callable[..., Scene],
) -> None:
    scene = make(late=False)
    scene.sent("u")
    scene.received("u")
    live(scene, 4, WORKER)
    scene.received("u", hostname=OTHER_WORKER)
    scene.started("u", hostname=OTHER_WORKER)
    scene.succeeded("u", hostname=OTHER_WORKER)
    live(scene, 140, OTHER_WORKER)
    assert counts(scene) == {}
    assert scene.total("task_in_flight") == 0


def test_an_event_that_arrives_twice_is_no_second_execution(make: Callable[..., Scene]) -> None:
    scene = make(late=True)
    scene.sent("u")
    scene.received("u")
    event = scene.event("task-started", "u")
    scene.send(**{**event, "kind": event.pop("type")})
    scene.send(**{**event, "kind": "task-started"})
    live(scene, 10, WORKER, active=1)
    scene.succeeded("u")
    assert counts(scene) == {}


def test_a_task_whose_message_left_its_queue_is_unknown(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.sent("u")
    for _ in range(3):
        live(scene, 20, WORKER)
        scene.processor.compare_with_broker({"q": Counts(0, 0)}, (), scene.now)
    assert counts(scene) == {"unknown": 1}
    assert scene.total("task_end_unknown_total", reason="no_message") == 1


def test_waiting_tasks_of_before_a_gap_are_unknown_once_the_queue_is_empty(
    make: Callable[..., Scene],
) -> None:
    scene = make()
    scene.sent("u")
    scene.sent("v")
    scene.received("v")
    scene.idle(5)
    scene.processor.connected()
    for _ in range(5):
        live(scene, 20, WORKER)
        scene.processor.compare_with_broker({"q": Counts(0, 0)}, (), scene.now)
    scene.idle(60)
    assert counts(scene) == {"unknown": 2}
    assert scene.total("task_end_unknown_total", reason="missed") == 2


def test_a_worker_that_only_replies_is_alive_again_with_its_reply(
    make: Callable[..., Scene],
) -> None:
    """Nothing asks it while Prometheus is away for longer than --worker-timeout."""
    scene = make(late=False)
    scene.registry.stats_replied(WORKER, {"pid": 10, "total": {}, "pool": {}}, 0.1, late=False)
    scene.sent("u")
    scene.received("u")
    scene.started("u")
    live(scene, 200, OTHER_WORKER)
    scene.registry.stats_replied(WORKER, {"pid": 10, "total": {}, "pool": {}}, 0.1, late=False)
    scene.idle(1)
    assert "lost" not in counts(scene)
    scene.succeeded("u")
    assert "lost" not in counts(scene)


def test_a_late_heartbeat_shows_no_restart(make: Callable[..., Scene]) -> None:
    scene = make(late=False)
    scene.heartbeat(0, 0)
    old = scene.now
    begin(scene)
    for _ in range(4):
        scene.heartbeat(0, 0, timestamp=old)
    live(scene, 10, WORKER, active=1)
    assert counts(scene) == {}


def test_a_blocked_process_that_shares_its_name_is_not_replaced(make: Callable[..., Scene]) -> None:
    scene = make(late=False)
    begin(scene)
    for _ in range(40):
        scene.heartbeat(0, 0, pid=11)
        scene.idle(2)
    assert counts(scene) == {"orphaned": 1}
    scene.succeeded("u")
    assert counts(scene) == {}


@pytest.mark.parametrize("heartbeats", [1, 2, 5])
def test_a_process_whose_successor_is_soon_gone_is_gone(
    make: Callable[..., Scene], heartbeats: int
) -> None:
    scene = make(late=False)
    begin(scene)
    for _ in range(heartbeats):
        scene.heartbeat(0, 0, pid=11)
        scene.idle(2)
    live(scene, 200, OTHER_WORKER)
    assert counts(scene) == {"lost": 1}
    assert scene.value("task_lost_total", task="add", queue="q", reason="worker_restarted") == 1
