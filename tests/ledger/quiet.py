"""Scenes in which nothing is lost and nothing runs twice: retries, ETAs and deploys."""

from __future__ import annotations

import signal
import time
from collections import Counter
from itertools import cycle

from celery import Celery

from tests.support.servers import wait_for

from .farm import Kind, Member
from .torture import Scene, settle
from .truth import WORKER_TIMEOUT

RETRY_KINDS = (Kind("prefork", 2), Kind("threads", 4), Kind("gevent", 8))
DEPLOY_KINDS = (
    Kind("prefork", 2, arguments=("--max-tasks-per-child", "5")),
    Kind("prefork", 3, arguments=("--autoscale", "3,1")),
    Kind("threads", 3, heartbeat=False),
    Kind("gevent", 3),
    Kind("prefork", 2, "5.4"),
    Kind("solo", 1),
)
DRAIN_TIMEOUT = 15.0


def retries_and_etas(scene: Scene, tasks: int) -> None:
    """Run tasks that retry, and tasks with an ETA."""
    kinds = cycle(("retry", "eta"))
    until = time.monotonic() + 60.0 + tasks / 10
    while len(scene.traffic.sent) < tasks:
        assert time.monotonic() < until, f"{len(scene.traffic.sent)} of {tasks} tasks sent in time"
        if len(scene.traffic.sent) - scene.recorder.kinds["task-succeeded"] > 1000:
            time.sleep(0.05)
            continue
        for _ in range(50):
            countdown = scene.random.uniform(0.05, 2.0)
            if next(kinds) == "retry":
                retries = scene.random.randint(1, 2)
                scene.traffic.send("logged_retry", retries, countdown, queue="celery")
            else:
                options = {"queue": "late", "countdown": countdown}
                scene.traffic.send("logged_late", 0.01, **options)
    settle(scene)


def deploys(scene: Scene) -> None:
    """Replace every worker by a warm shutdown while its tasks run, and terminate some of them."""
    for place, member in enumerate(scene.farm.members):
        busy(scene)
        pid = member.worker.pid
        if place == 0:
            terminate_some(scene)
        member.worker.child.send_signal(signal.SIGTERM)
        old, replaced = member.worker, place % 2 == 0
        if replaced:
            member.start(new_name=True)
        wait_for(lambda: not old.alive, 30.0, what=f"{old.name} ended")  # noqa: B023
        old.kill()  # nothing of its pool is left
        scene.done["warm shutdown"] += 1
        if not replaced:
            member.start()
        assert member.worker.pid != pid
        scene.farm.wait_ready()
    busy(scene)
    settle(scene)


def busy(scene: Scene, tasks: int = 40) -> None:
    """Send tasks and wait until every worker that has heartbeats runs one."""
    for _ in range(tasks):
        task, queue = scene.random.choice(
            (("logged_early", "celery"), ("logged_late", "late"), ("logged_safe", "late"))
        )
        scene.traffic.send(task, scene.random.uniform(0.05, 2.0), queue=queue)
    ended = scene.recorder.ended
    wait_for(lambda: scene.recorder.ended > ended + 5, 30.0, what="tasks ended")


def terminate_some(scene: Scene, count: int = 6) -> None:
    """Revoke running tasks with terminate."""
    app = Celery("terminating", broker=scene.broker.url, set_as_current=False)
    uuids = [scene.traffic.send_one("logged_early", 10.0, queue="celery") for _ in range(count)]
    prefork = {one.worker.name for one in scene.farm.members if one.kind.pool == "prefork"}

    def started() -> bool:
        return all(scene.recorder.tasks.get(uuid) for uuid in uuids)

    wait_for(started, 30.0, what="the tasks to terminate started")
    on_prefork = [uuid for uuid in uuids if scene.recorder.tasks[uuid][0].worker in prefork]
    with app.connection_for_write() as connection:
        app.control.revoke(on_prefork, terminate=True, connection=connection)
        before = scene.recorder.kinds["task-revoked"]
        wait_for(
            lambda: scene.recorder.kinds["task-revoked"] >= before + len(on_prefork),
            15.0,
            what="tasks revoked",
        )
    app.close()
    scene.revoked.update(on_prefork)
    scene.done["terminated"] += len(on_prefork)


def killed_while_draining(scene: Scene, member: Member) -> None:
    """Kill a worker during its warm shutdown, in which an early acknowledged task runs."""
    observer = scene.observer
    scene.traffic.send("logged_early", 0.0, queue="celery")
    wait_for(lambda: observer.total("task_succeeded_total") == 1, what="a task ended")
    observer.look_again()  # it requests the settings of that task from the worker
    uuid = scene.traffic.send_one("logged_early", 60.0, queue="celery")
    wait_for(lambda: uuid in scene.recorder.tasks, what="the task started")
    member.worker.child.send_signal(signal.SIGTERM)
    before = scene.recorder.kinds["worker-offline"]
    wait_for(lambda: scene.recorder.kinds["worker-offline"] > before, what="the offline event")
    member.kill()
    found_gone = WORKER_TIMEOUT + 10.0
    wait_for(lambda: observer.total("task_orphaned") == 1, found_gone, what="the task orphaned")
    assert observer.total("task_lost_total") == 0
    offline = time.monotonic()
    wait_for(
        lambda: observer.total("task_lost_total", reason="worker_gone") == 1,
        DRAIN_TIMEOUT + 10.0,
        what="the task lost",
        interval=0.2,
    )
    assert time.monotonic() - offline > DRAIN_TIMEOUT / 2
    observer.look_again()
    assert Counter(case.kind for case in observer.cases) == {"lost": 1}
    assert observer.total("task_orphaned") == 0
