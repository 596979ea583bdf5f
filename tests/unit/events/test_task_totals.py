"""The numbers of each task by its events, in all queues."""

from __future__ import annotations

from tests.support.scene import Scene


def test_numbers_of_a_task_in_two_queues() -> None:
    scene = Scene()
    for uuid, queue in (("a", "mail"), ("b", "bulk")):
        scene.send("task-sent", uuid=uuid, name="add", queue=queue)
        scene.run(uuid, name="add")
    scene.send("task-sent", uuid="c", name="add", queue="mail")
    scene.send("task-received", uuid="c", name="add")
    scene.send("task-sent", uuid="d", name="add", queue="mail")
    found = scene.processor.totals()["add"]
    assert (found.counts["sent"], found.counts["received"], found.counts["succeeded"]) == (4, 3, 2)
    assert (found.waiting, found.held, found.running, found.sent_known) == (1, 1, 0, True)
    assert found.distributions["runtime"].count == found.distributions["wait"].count == 2
    assert found.distributions["failed_runtime"].count == 0
    assert set(found.times) == {"last_sent", "last_succeeded"}
    scene.send("task-started", uuid="c")
    assert scene.processor.totals()["add"].running == 1


def test_tasks_without_sent_events() -> None:
    scene = Scene()
    scene.run("a", name="add")
    found = scene.processor.totals()["add"]
    assert not found.sent_known
    assert found.counts["started"] == 1


def test_since_when_tasks_are_counted() -> None:
    scene = Scene()
    assert scene.processor.counted_since == 0
    scene.processor.connected(gap=False, at=1000.0)
    scene.processor.connected(gap=True, at=2000.0)
    assert scene.processor.counted_since == 1000.0
