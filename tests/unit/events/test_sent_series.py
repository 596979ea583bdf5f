"""Task-sent events, which producers send only where the application enables them."""

from __future__ import annotations

from tests.support.scene import WORKER, Scene


def test_without_sent_events_nothing_is_reported_as_sent() -> None:
    scene = Scene()
    for number in range(20):
        scene.run(f"u{number}")
    assert scene.total("task_received_total", task="add") == 20
    assert scene.labels("task_sent_total", "task") == set()


def test_sent_tasks_are_counted_from_the_first_event_on() -> None:
    scene = Scene()
    scene.run("u", "silent")
    for number in range(3):
        scene.sent(f"u{number}", name="mail")
    assert scene.value("task_sent_total", task="mail", queue="q") == 3
    assert scene.value("task_received_total", task="mail", queue="q") == 0
    assert scene.labels("task_sent_total", "task") == {"mail"}


def test_names_without_sent_events() -> None:
    scene = Scene()
    for number in range(4):
        scene.run(f"u{number}", "silent")
    scene.sent("v", name="mail")
    scene.run("v", "mail")
    scene.run("w", "mail")
    assert scene.processor.names_without_sent_events() == {"silent": 4}
    scene.sent("x", name="silent")
    assert scene.processor.names_without_sent_events() == {}


def test_idle_series_expire_with_the_sent_ones() -> None:
    scene = Scene()
    before = scene.limiter.series_count
    scene.sent("u")
    scene.run("u")
    scene.run("v", "silent")
    scene.idle(3700)
    scene.idle(3700)
    assert scene.labels("task_sent_total", "task") == set()
    assert scene.labels("task_received_total", "task") == set()
    assert scene.limiter.series_count == before


def test_with_the_worker_as_a_label_no_series_has_an_empty_one() -> None:
    scene = Scene(worker_label=True, queues_known=False)
    scene.run("u")
    scene.failed("never-received")
    scene.idle(10)
    names = ("received", "started", "succeeded", "failed", "retried", "rejected")
    for name in names:
        assert scene.labels(f"task_{name}_total", "worker") <= {WORKER}, name
    assert scene.total("task_succeeded_total", task="add", worker=WORKER) == 1
    assert scene.total("task_failed_total", task="unknown", worker=WORKER) == 1


def test_with_the_worker_as_a_label_only_sent_tasks_have_none() -> None:
    """Producers are no workers."""
    scene = Scene(worker_label=True)
    scene.sent("u")
    scene.run("u")
    assert scene.value("task_sent_total", task="add", queue="q") == 1
    assert scene.value("task_received_total", task="add", queue="q", worker=WORKER) == 1
    assert 'worker=""' not in scene.text()


def test_with_the_worker_as_a_label_names_that_never_run_are_bounded() -> None:
    scene = Scene(worker_label=True, capacity=10)
    for number in range(500):
        scene.received(f"u{number}", f"t{number}")
    assert len(scene.index._series) < 200
