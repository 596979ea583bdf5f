"""Events of two workers about one message, in the orders in which they arrive."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.scene import WORKER, Scene
from tests.support.simulation.books import Books

OTHER = "other@two"
UUID = "0f3b4cde-6b0a-4a55-9c5e-0d1f2a3b4c5d"


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene of two workers that consume the same two queues, and acknowledge late."""
    scene = Scene(late=True, redelivers=True, forget_after=1e6, queues_known=False)
    clock = SimpleNamespace(monotonic=lambda: scene.now, time=lambda: scene.now)
    monkeypatch.setattr("celery_vitals.workers.registry.time", clock)
    scene.consumes(WORKER, "q", "r")
    scene.consumes(OTHER, "q", "r")
    for worker in (WORKER, OTHER):
        scene.heartbeat(0, 0, hostname=worker)
    return scene


def shut_down(scene: Scene, active: int) -> None:
    scene.send("worker-offline", active=active, processed=1)


def books(scene: Scene) -> Books:
    """Return the books after the time in which everything is decided."""
    for _ in range(10):
        scene.idle(20)
        for worker in scene.registry.workers():
            if not worker.offline:
                scene.heartbeat(1, 0, hostname=worker.name)
        scene.processor.compare_with_broker({}, ("q", "r"), scene.now)
    return Books(scene.samples())


def closes(scene: Scene) -> bool:
    found = books(scene)
    return (found.balance(), found.value("in_flight"), found.unknown()) == (0, 0, 0)


@pytest.mark.parametrize("active", [0, 1])
@pytest.mark.parametrize("received", [False, True])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("task-revoked", {"terminated": False, "expired": False}),
        ("task-revoked", {"terminated": False, "expired": True}),
        ("task-failed", {"exception": "NotRegistered('add')"}),
        ("task-succeeded", {"runtime": 0.1}),
    ],
)
def test_message_returned_at_shutdown_ends_once(
    scene: Scene, active: int, received: bool, kind: str, fields: dict[str, Any]
) -> None:
    scene.sent(UUID)
    scene.received(UUID)
    shut_down(scene, active)
    if received:
        scene.received(UUID, hostname=OTHER)
    scene.send(kind, UUID, hostname=OTHER, **fields)
    assert closes(scene)


@pytest.mark.parametrize("started", [False, True])
def test_requeued_message_is_received_elsewhere_before_its_rejection_arrives(
    scene: Scene, started: bool
) -> None:
    scene.sent(UUID)
    scene.received(UUID)
    scene.started(UUID)
    scene.received(UUID, hostname=OTHER)
    if started:
        scene.started(UUID, hostname=OTHER)
    scene.send("task-rejected", UUID, requeue=True)
    if not started:
        scene.started(UUID, hostname=OTHER)
    scene.succeeded(UUID, hostname=OTHER, after=3)
    assert closes(scene)
    found = Books(scene.samples())
    assert found.value("overlapping_total") == found.value("repeated_total") == 0
    assert found.value("requeued_total") == found.value("succeeded_total") == 1


def test_retry_that_a_worker_holds_is_kept_longer_than_the_end_of_the_first_attempt(
    scene: Scene,
) -> None:
    scene.sent(UUID)
    scene.received(UUID)
    scene.started(UUID)
    eta = "2027-01-15T20:00:00+00:00"
    scene.sent(UUID, retries=1, eta=eta)
    scene.received(UUID, hostname=OTHER, retries=1, eta=eta)
    scene.send("task-retried", UUID)
    for _ in range(10):
        scene.idle(600)
        scene.heartbeat(0, 0, hostname=OTHER)
    assert Books(scene.samples()).value("in_flight", None, "held") == 1
    scene.started(UUID, hostname=OTHER)
    scene.succeeded(UUID, hostname=OTHER)
    assert Books(scene.samples()).balance() == 0
    assert Books(scene.samples()).value("in_flight") == 0


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("order", list(permutations(("received", "started", "succeeded"))))
def test_events_of_one_execution_in_any_order_count_one(
    scene: Scene, order: tuple[str, ...], sent: bool
) -> None:
    if sent:
        scene.sent(UUID)
    now = scene.now
    for kind in order:
        at = now + ("received", "started", "succeeded").index(kind) / 100
        fields: dict[str, Any] = {"name": "add"} if kind == "received" else {}
        scene.send(f"task-{kind}", UUID, timestamp=at, **fields)
    assert closes(scene)
    found = Books(scene.samples())
    for metric in ("overlapping", "repeated", "lost", "redelivered", "end_unknown"):
        assert found.value(f"{metric}_total") == 0, metric
    for kind in order:
        assert found.value(f"{kind}_total") == 1


def test_messages_that_arrive_twice_count_once(scene: Scene) -> None:
    bodies: list[bytes] = []
    feed = scene.feed

    def record(*received: bytes) -> None:
        bodies.extend(received)
        feed(*received)

    scene.feed = record  # type: ignore[method-assign]
    scene.sent(UUID)
    scene.run(UUID)
    for body in bodies[:]:
        feed(body)
    scene.idle(20)
    for body in bodies:
        feed(body)
    assert closes(scene)
    assert scene.task() == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
