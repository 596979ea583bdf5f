"""The sink of the stream: what it takes, what it rejects."""

from __future__ import annotations

import json
import pickle

import pytest
from kombu.utils.json import dumps as kombu_dumps

from tests.support.scene import NOW, PRODUCER, WORKER, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_batch(scene: Scene) -> None:
    kinds = ("task-received", "task-started", "task-succeeded")
    scene.feed(
        json.dumps([scene.event(kind, "u", name="add", runtime=0.5) for kind in kinds]).encode()
    )
    assert scene.task("add", "unknown") == {"received": 1, "started": 1, "succeeded": 1}
    for kind in kinds:
        assert scene.value("exporter_events_received_total", type=kind) == 1


def test_as_kombu_writes_it(scene: Scene) -> None:
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
def test_rejected(scene: Scene, body: bytes, reason: str) -> None:
    scene.feed(body)
    assert scene.rejected == {reason: 1}
    assert scene.total("exporter_events_received_total") == 0
    scene.run("u")
    assert scene.total("task_succeeded_total") == 1


def test_messages_that_could_not_be_opened(scene: Scene) -> None:
    scene.processor.rejected("too_large", 3)
    scene.processor.rejected("too_large")
    assert scene.rejected == {"too_large": 4}


@pytest.mark.parametrize(
    "field", ["uuid", "hostname", "name", "queue", "exception", "kwargs", "sw_ver"]
)
def test_a_huge_field_is_not_kept(scene: Scene, field: str) -> None:
    huge = "x" * 10_000_000
    for kind in ("task-sent", "task-received", "task-started", "task-failed", "worker-heartbeat"):
        scene.tell(kind, after=0.01, **{"uuid": "u", "name": "add", field: huge})
    scene.idle(1)
    assert len(scene.text()) < 100_000
    assert all(len(uuid) <= 1000 for uuid in scene.tasks._records)
    assert all(
        len(name) <= 1000
        for name in (*scene.rows._names, *scene.processor._hosts, *scene.processor._producers)
    )
    assert all(len(queue) <= 1000 for queue in scene.tasks._waiting)
    assert all(
        len(worker.name) <= 1000 and len(worker.version) <= 1000
        for worker in scene.registry.workers()
    )


@pytest.mark.parametrize("timestamp", [0, -1, 1.0, 1e9 - 1, 1e11, 1e300, 4e9, NOW * 1000])
def test_a_senseless_time(scene: Scene, timestamp: float) -> None:
    """It happened when it arrived, and is no reason to doubt the worker's clock."""
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


def test_a_runtime_below_zero_is_none(scene: Scene) -> None:
    scene.tell("task-succeeded", "u", runtime=-1.0)
    scene.tell("task-succeeded", "v", runtime=None)
    assert scene.total("task_succeeded_total") == 2
    assert scene.total("task_runtime_seconds_count") == 0


@pytest.mark.parametrize("runtime", ["NaN", "1e999", "Infinity"])
def test_a_runtime_without_measure_spoils_no_sum(scene: Scene, runtime: str) -> None:
    scene.feed(
        f'{{"type": "task-succeeded", "hostname": "h", "uuid": "u", "runtime": {runtime}}}'.encode()
    )
    scene.run("v")
    assert scene.total("task_runtime_seconds_sum") == 0.5


@pytest.mark.parametrize("value", [2**63, 2**64, 10**30, -1])
def test_counts_without_measure(scene: Scene, value: int) -> None:
    scene.run("u")
    for _ in range(3):
        scene.heartbeat(value, value, pid=value)
    scene.sent("v", retries=value)
    scene.text()


# Workers


def test_producers_are_no_workers() -> None:
    scene = Scene(settled=False)
    scene.sent("u")
    assert scene.registry.workers() == ()
    assert PRODUCER not in scene.processor._hosts


def test_a_heartbeat_makes_a_worker_known() -> None:
    scene = Scene(settled=False)
    came: list[int] = []
    scene.processor.came = lambda: came.append(1)
    scene.heartbeat(0, 3, sw_ver="5.7.0")
    scene.heartbeat(0, 2)
    (worker,) = scene.registry.workers()
    assert (worker.name, worker.active, worker.version, worker.offline) == (
        WORKER,
        2,
        "5.7.0",
        False,
    )
    assert len(came) == 1
    scene.tell("worker-offline", processed=0, active=0)
    assert scene.registry.workers()[0].offline
    scene.tell("worker-online", processed=0, active=0)
    assert not scene.registry.workers()[0].offline
    assert len(came) == 2


def test_a_warm_shutdown(scene: Scene) -> None:
    """What ends after its worker has said goodbye is counted, and does not bring it back."""
    scene.heartbeat(0, 0)
    scene.received("u")
    scene.started("u")
    scene.tell("worker-offline", processed=1, active=1)
    assert scene.running() == 1
    scene.succeeded("u", after=8)
    assert scene.total("task_succeeded_total", task="add") == 1
    assert scene.running() == 0
    assert scene.registry.workers()[0].offline


def test_a_worker_without_heartbeats_keeps_what_it_runs() -> None:
    scene = Scene(settled=False)
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
def test_a_new_workers_first_tasks_wait_for_its_queues(
    queues: list[str] | None, queue: str
) -> None:
    scene = Scene(settled=False)
    came: list[int] = []
    scene.processor.came = lambda: came.append(1)
    scene.run("u")
    assert scene.total("task_received_total") == 0
    scene.idle(0.2)
    assert came, "whoever asks the workers should ask this one soon"
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
    assert scene.value("exporter_events_missed_total", worker=WORKER) == 33
    assert scene.value("worker_task_events", worker=WORKER) == 1


def test_a_worker_that_does_not_tell(scene: Scene) -> None:
    for processed in range(0, 50, 5):
        scene.heartbeat(processed, 1)
    assert scene.processor.silent() == [WORKER]
    assert scene.value("worker_task_events", worker=WORKER) == 0
    scene.tell("worker-offline", processed=50, active=0)
    scene.idle()
    assert scene.processor.silent() == [], "it runs nothing any more"


def test_the_oldest_task_that_waits_is_shown(scene: Scene) -> None:
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


def test_of_a_queue_whose_worker_tells_nothing_it_is_not_known_what_waits(scene: Scene) -> None:
    """Producers tell of what they send, and the worker takes it unheard."""
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
        scene.tell(kind, "u")
        assert scene.value("exporter_events_received_total", type=kind) == 1
