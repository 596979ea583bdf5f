"""The sink of the event stream: which events it accepts and rejects."""

from __future__ import annotations

import json
import pickle

import pytest
from kombu.utils.json import dumps as kombu_dumps

from celery_vitals.metrics import definitions
from tests.support.scene import NOW, PRODUCER, WORKER, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_batch_of_events_in_one_message(scene: Scene) -> None:
    kinds = ("task-received", "task-started", "task-succeeded")
    scene.feed(
        json.dumps([scene.event(kind, "u", name="add", runtime=0.5) for kind in kinds]).encode()
    )
    assert scene.task("add", "unknown") == {"received": 1, "started": 1, "succeeded": 1}
    for kind in kinds:
        assert scene.value("exporter_events_received_total", type=kind) == 1


def test_event_serialized_by_kombu_is_counted(scene: Scene) -> None:
    scene.feed(kombu_dumps(scene.event("task-received", "u", name="é\u2028\ud800")).encode())
    assert scene.total("task_received_total") == 1
    assert scene.rejected == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"\xff\xfe", "not_json"),
        (pickle.dumps({"type": "task-sent"}), "not_json"),
        (b'{"type": "task-sent", "hostname": "h", "uuid": "u"', "not_json"),
        (b'"task-sent"', "malformed"),
        (b"[[]]", "malformed"),
        (b'{"type": "task-sent", "uuid": "u"}', "malformed"),
        (b'{"type": "task-sent", "hostname": null, "uuid": "u"}', "malformed"),
        (b'{"type": "task-sent", "hostname": "h", "uuid": null}', "malformed"),
        (b'{"type": "task-sent", "hostname": "h"}', "no_uuid"),
        (b'{"type": "task-sent", "hostname": "h", "uuid": ""}', "no_uuid"),
        (b'{"type": "task-sent", "hostname": "", "uuid": "u"}', "no_hostname"),
        (b'{"type": "worker-heartbeat", "hostname": ""}', "no_hostname"),
        (b'{"type": "beat-tick", "hostname": "h"}', "unknown_type"),
        (b'{"type": "", "hostname": "h"}', "unknown_type"),
    ],
)
def test_invalid_message_is_rejected_with_a_reason(scene: Scene, body: bytes, reason: str) -> None:
    scene.feed(body)
    assert scene.rejected == {reason: 1}
    assert scene.total("exporter_events_received_total") == 0
    scene.run("u")
    assert scene.total("task_succeeded_total") == 1


def test_messages_rejected_by_the_receiver_are_counted(scene: Scene) -> None:
    scene.processor.rejected("too_large", 3)
    scene.processor.rejected("too_large")
    assert scene.rejected == {"too_large": 4}


@pytest.mark.parametrize(
    "field", ["uuid", "hostname", "name", "queue", "exception", "kwargs", "sw_ver"]
)
def test_a_huge_field_is_not_kept(scene: Scene, field: str) -> None:
    huge = "x" * 10_000_000
    for kind in ("task-sent", "task-received", "task-started", "task-failed", "worker-heartbeat"):
        scene.send(kind, after=0.01, **{"uuid": "u", "name": "add", field: huge})
    scene.idle(1)
    assert len(scene.text()) < 100_000
    assert all(len(uuid) <= 1000 for uuid in scene.tasks._executions._first)
    assert all(
        len(name) <= 1000
        for name in (
            *scene.index._names,
            *scene.processor._workers.workers,
            *scene.processor._workers._producers,
        )
    )
    assert all(len(queue) <= 1000 for queue in scene.tasks.waiting)
    assert all(
        len(worker.name) <= 1000 and len(worker.version) <= 1000
        for worker in scene.registry.workers()
    )


@pytest.mark.parametrize("timestamp", [0, -1, 1.0, 1e9 - 1, 1e11, 1e300, 4e9, NOW * 1000])
def test_invalid_timestamp_is_replaced_by_the_arrival_time(scene: Scene, timestamp: float) -> None:
    """And is not used to correct the worker's clock."""
    scene.heartbeat(0, 0, timestamp=timestamp)
    scene.sent("u", timestamp=timestamp)
    scene.received("u", timestamp=timestamp)
    scene.started("u", timestamp=timestamp)
    scene.heartbeat(1, 1)
    assert scene.waits()[1] < 1
    assert scene.value("task_last_sent_timestamp_seconds", task="add") == pytest.approx(NOW, abs=1)
    assert scene.value("task_oldest_running_start_timestamp_seconds", task="add") == pytest.approx(
        NOW, abs=1
    )
    scene.failed("u")
    assert scene.total("task_failed_runtime_seconds_sum") < 1


def test_negative_runtime_is_not_observed(scene: Scene) -> None:
    scene.send("task-succeeded", "u", runtime=-1.0)
    scene.send("task-succeeded", "v", runtime=None)
    assert scene.total("task_succeeded_total") == 2
    assert scene.total("task_runtime_seconds_count") == 0


@pytest.mark.parametrize("runtime", ["NaN", "1e999", "Infinity"])
def test_non_finite_runtime_is_not_observed(scene: Scene, runtime: str) -> None:
    scene.feed(
        f'{{"type": "task-succeeded", "hostname": "h", "uuid": "u", "runtime": {runtime}}}'.encode()
    )
    scene.run("v")
    assert scene.total("task_runtime_seconds_sum") == 0.5


@pytest.mark.parametrize("value", [2**63, 2**64, 10**30, -1])
def test_huge_counts_do_not_crash(scene: Scene, value: int) -> None:
    scene.run("u")
    for _ in range(3):
        scene.heartbeat(value, value, pid=value)
    scene.sent("v", retries=value)
    scene.text()


# Workers


def test_producers_are_no_workers() -> None:
    scene = Scene(queues_known=False)
    scene.sent("u")
    assert scene.registry.workers() == ()
    assert PRODUCER not in scene.processor._workers.workers


def test_heartbeat_registers_a_worker() -> None:
    calls: list[int] = []
    scene = Scene(queues_known=False, on_new_worker=lambda: calls.append(1))
    scene.heartbeat(0, 3, sw_ver="5.7.0")
    scene.heartbeat(0, 2)
    (worker,) = scene.registry.workers()
    assert (worker.name, worker.active, worker.version, worker.offline) == (
        WORKER,
        2,
        "5.7.0",
        False,
    )
    assert len(calls) == 1
    scene.send("worker-offline", processed=0, active=0)
    assert scene.registry.workers()[0].offline
    scene.send("worker-online", processed=0, active=0)
    assert not scene.registry.workers()[0].offline
    assert len(calls) == 2


def test_tasks_that_end_during_warm_shutdown_are_counted(scene: Scene) -> None:
    """Events after the offline event count, and do not make the worker online again."""
    scene.heartbeat(0, 0)
    scene.received("u")
    scene.started("u")
    scene.send("worker-offline", processed=1, active=1)
    assert scene.running() == 1
    scene.succeeded("u", after=8)
    assert scene.total("task_succeeded_total", task="add") == 1
    assert scene.running() == 0
    assert scene.registry.workers()[0].offline


def test_worker_without_heartbeats_keeps_its_running_tasks() -> None:
    scene = Scene(queues_known=False)
    scene.received("u")
    scene.started("u")
    scene.idle(2)
    for _ in range(5):
        scene.idle(61)
        assert scene.running() == 1
    scene.succeeded("u")
    assert scene.running() == 0


@pytest.mark.parametrize(
    ("queues", "queue"),
    [(["mine"], "mine"), (["a", "b"], "unknown"), ([], "unknown"), (None, "unknown")],
)
def test_events_of_a_new_worker_are_deferred_until_its_queues_are_known(
    queues: list[str] | None, queue: str
) -> None:
    calls: list[int] = []
    scene = Scene(queues_known=False, on_new_worker=lambda: calls.append(1))
    scene.run("u")
    assert scene.total("task_received_total") == 0
    scene.idle(0.2)
    assert calls, "the collector of workers is to ask this one soon"
    if queues is not None:
        scene.registry.queues_replied(WORKER, [{"name": name} for name in queues])
    scene.idle(3)
    assert scene.task("add", queue) == {"received": 1, "started": 1, "succeeded": 1}
    scene.idle(6)
    scene.run("v")
    assert scene.task("add", queue) == {"received": 2, "started": 2, "succeeded": 2}
    assert scene.running() == 0


def test_missed_events_of_a_worker(scene: Scene) -> None:
    scene.heartbeat(0, 0)
    for number in range(5):
        scene.run(f"u{number}")
    scene.heartbeat(5, 0)
    for processed in (38, 38, 38):
        scene.heartbeat(processed, 0)
    assert scene.value("exporter_events_missed_total", worker=WORKER, event="start") == 33
    assert scene.value("worker_task_events", worker=WORKER) == 1


def test_worker_without_task_events_is_detected(scene: Scene) -> None:
    for processed in range(0, 50, 5):
        scene.heartbeat(processed, 1)
    assert scene.processor.workers_without_task_events() == [WORKER]
    assert scene.value("worker_task_events", worker=WORKER) == 0
    scene.send("worker-offline", processed=50, active=0)
    scene.idle()
    assert scene.processor.workers_without_task_events() == [], "it is offline"


def test_oldest_waiting_task_of_a_queue(scene: Scene) -> None:
    scene.consumes(WORKER, "q")
    scene.sent("a")
    first = scene.now
    scene.sent("b", after=5)
    second = scene.now
    assert scene.value("queue_oldest_message_timestamp_seconds", queue="q") == first
    scene.received("a")
    scene.started("a")
    assert scene.value("queue_oldest_message_timestamp_seconds", queue="q") == second
    scene.received("b")
    scene.started("b")
    assert scene.value("queue_oldest_message_timestamp_seconds", queue="q") is None


def test_oldest_waiting_task_is_absent_where_a_worker_sends_no_task_events(scene: Scene) -> None:
    """Producers send task-sent events, and the worker takes the tasks without any event."""
    scene.consumes(WORKER, "q")
    for number in range(20):
        scene.sent(f"u{number}")
        scene.heartbeat(number, 0, after=2)
    scene.sent("elsewhere", queue="r")
    scene.idle()
    assert scene.labels("queue_oldest_message_timestamp_seconds", "queue") == {"r"}
    scene.run("events are on")
    scene.sent("u20")
    scene.idle()
    assert scene.value("queue_oldest_message_timestamp_seconds", queue="q") == scene.now


def test_an_event_of_every_type_is_counted(scene: Scene) -> None:
    for kind in scene.tasks.handlers:
        scene.send(kind, "u")
        assert scene.value("exporter_events_received_total", type=kind) == 1


def test_partly_read_samples_hold_no_lock(scene: Scene) -> None:
    samples = iter(scene.processor.samples())
    next(samples)
    assert not scene.limiter.update_lock.locked()
    scene.run("u")
    assert scene.total("task_succeeded_total") == 1
    assert list(samples)


def test_new_worker_callback_is_called_without_the_event_lock() -> None:
    """It starts a run of the collector of workers, which takes locks and starts a thread."""
    locked: list[bool] = []

    def record() -> None:
        locked.append(new.limiter.update_lock.locked())

    new = Scene(queues_known=False, on_new_worker=record)
    new.heartbeat(0, 0)
    assert locked == [False]
    new.send("worker-online")
    assert locked == [False, False]
    new.idle()
    assert locked == [False, False, False]


def test_messages_after_an_invalid_one_are_counted(scene: Scene) -> None:
    sent = scene.event("task-sent", "u1", name="add", queue="q", retries=0, eta=None)
    scene.feed(b"{", json.dumps(sent).encode())
    assert scene.rejected == {"not_json": 1}
    assert scene.total("task_sent_total") == 1


def test_new_worker_callback_is_called_from_idle_until_its_queues_are_known() -> None:
    calls: list[None] = []
    scene = Scene(queues_known=False, on_new_worker=lambda: calls.append(None))
    scene.send("task-started", "u1", hostname="new@h")
    assert not calls
    scene.idle()
    scene.idle()
    assert len(calls) == 2
    scene.consumes("new@h", "q")
    calls.clear()
    scene.idle()
    assert not calls


def test_samples_are_computed_under_the_event_lock(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = scene.limiter.update_lock
    sample = definitions.TASKS_IN_FLIGHT
    monkeypatch.setattr(scene.processor, "_samples", lambda: iter([sample(lock.locked())]))
    assert scene.processor.samples() == [sample(True)]
    assert not lock.locked()


def test_oldest_waiting_task_is_absent_after_events_were_lost(scene: Scene) -> None:
    """The task may have started in the gap."""
    metric = "queue_oldest_message_timestamp_seconds"
    scene.sent("u1")
    assert scene.value(metric, queue="q") is not None
    scene.processor.connected()
    assert scene.value(metric, queue="q") is None
