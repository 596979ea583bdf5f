"""How tasks end: each end is counted once, under the right name, and nothing stays running that does not run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.exporter import Exporter
from tests.support.servers import Broker, Publisher, Worker, wait_for
from tests.support.task_series import (
    FAST,
    SENT_EVENTS,
    StartWorker,
    following,
    split,
    tasks_of,
    total,
    until,
)


@dataclass(frozen=True)
class Scene:
    """A prefork worker with four slots that tells of its tasks, who sends to it, and who watches."""

    worker: Worker
    publisher: Publisher
    exporter: Exporter

    def running(self, task: str) -> float | None:
        """How many of a task run, as the exporter has it."""
        return tasks_of(self.exporter).value("celery_task_running", task=f"project.{task}")


@pytest.fixture(scope="module")
def scene(module_broker: Broker) -> Iterator[Scene]:
    with (
        Worker(
            module_broker, "prefork", "w", concurrency=4, events=True, conf=SENT_EVENTS, args=FAST
        ) as worker,
        Publisher(module_broker, SENT_EVENTS) as publisher,
        following(module_broker) as exporter,
    ):
        yield Scene(worker, publisher, exporter)


@pytest.mark.parametrize("kind", ["Unreadable", "Silent", "Rpc", "Invalid"])
def test_an_exception_that_looks_like_none_is_counted_by_its_class(scene: Scene, kind: str) -> None:
    before = total(tasks_of(scene.exporter), "celery_task_failed_total", task="project.odd_failure")
    scene.publisher.send("odd_failure", kind)
    scrape = until(
        scene.exporter, before + 1, "celery_task_failed_total", task="project.odd_failure"
    )
    assert (
        split(scrape, "celery_task_failed_total", "exception", task="project.odd_failure").get(kind)
        == 1
    )


def test_a_task_that_fails_has_a_runtime_and_a_time_too(scene: Scene) -> None:
    began = time.time()
    scene.publisher.send("fail", "boom", 2)
    scrape = until(
        scene.exporter, 1, "celery_task_failed_total", task="project.fail", exception="ValueError"
    )
    of_task = {"task": "project.fail", "queue": "celery"}
    assert scrape.value("celery_task_failed_runtime_seconds_count", **of_task) == 1
    assert scrape.value("celery_task_failed_runtime_seconds_sum", **of_task) == pytest.approx(
        2.0, abs=0.7
    )
    last = scrape.value("celery_task_last_failed_timestamp_seconds", task="project.fail")
    assert last is not None
    assert began + 1.9 < last < time.time() + 0.5
    assert scrape.value("celery_task_last_succeeded_timestamp_seconds", task="project.fail") is None


def test_a_hard_time_limit_is_one_failure_of_its_own_class(scene: Scene) -> None:
    scene.publisher.send("time_limit")
    scrape = until(scene.exporter, 1, "celery_task_failed_total", task="project.time_limit")
    assert scene.running("time_limit") == 0
    time.sleep(1.0)  # Celery 5.7 tells it twice
    scrape = tasks_of(scene.exporter)
    assert split(scrape, "celery_task_failed_total", "exception", task="project.time_limit") == {
        "TimeLimitExceeded": 1
    }
    runtime = total(scrape, "celery_task_failed_runtime_seconds_sum", task="project.time_limit")
    assert runtime == pytest.approx(1.0, abs=0.9)
    assert total(scrape, "celery_task_failed_runtime_seconds_count", task="project.time_limit") == 1


def test_a_lost_worker_process_is_a_failure_of_its_own_class(scene: Scene) -> None:
    scene.publisher.send("die")
    scrape = until(scene.exporter, 1, "celery_task_failed_total", task="project.die")
    assert split(scrape, "celery_task_failed_total", "exception", task="project.die") == {
        "WorkerLostError": 1
    }
    assert scene.running("die") == 0


def test_a_rejected_task_is_rejected_and_nothing_else(scene: Scene) -> None:
    scene.publisher.send("reject")
    until(scene.exporter, 1, "celery_task_rejected_total", task="project.reject")
    time.sleep(0.5)
    scrape = tasks_of(scene.exporter)
    assert total(scrape, "celery_task_failed_total", task="project.reject") == 0
    assert total(scrape, "celery_task_rejected_total", task="project.reject", queue="celery") == 1
    assert scene.running("reject") == 0


def test_expired_revoked_and_terminated_are_told_apart_and_do_not_run(scene: Scene) -> None:
    control, connection = scene.publisher.app.control, scene.publisher._connection
    scene.publisher.send("late", countdown=1.5, expires=1)
    (revoked,) = scene.publisher.send("late", countdown=1.5)
    (running,) = scene.publisher.send("late", 30)
    wait_for(lambda: scene.running("late") == 1)
    control.revoke(revoked, connection=connection)
    control.revoke(running, terminate=True, connection=connection)
    scrape = until(scene.exporter, 3, "celery_task_revoked_total", task="project.late")
    reasons = split(
        scrape, "celery_task_revoked_total", "reason", task="project.late", queue="celery"
    )
    assert reasons == {"expired": 1, "revoked": 1, "terminated": 1}
    wait_for(lambda: scene.running("late") == 0)
    assert total(tasks_of(scene.exporter), "celery_task_failed_total", task="project.late") == 0


def test_a_task_that_is_ignored_does_not_stay(scene: Scene) -> None:
    wait_for(lambda: tasks_of(scene.exporter).value("celery_exporter_tasks_in_flight") == 0, 20)
    scene.publisher.send("ignore", count=3)
    until(scene.exporter, 3, "celery_task_started_total", task="project.ignore")
    wait_for(lambda: scene.running("ignore") == 0)
    wait_for(lambda: tasks_of(scene.exporter).value("celery_exporter_tasks_in_flight") == 0, 6)


def test_a_task_that_is_ignored_does_not_stay_on_a_worker_that_is_never_idle(scene: Scene) -> None:
    scene.publisher.send("ignore")
    scene.publisher.send("late", 2)  # how long a worker takes to say that it is idle, and more
    wait_for(lambda: scene.running("late") == 1)
    wait_for(lambda: scene.running("ignore") == 0 and scene.running("late") == 0)
    before = total(tasks_of(scene.exporter), "celery_task_started_total", task="project.ignore")
    scene.publisher.send("sleep", 6)
    wait_for(lambda: scene.running("sleep") == 1)
    scene.publisher.send("ignore", count=3)
    until(scene.exporter, before + 3, "celery_task_started_total", task="project.ignore")
    wait_for(lambda: scene.running("ignore") == 0, 4)  # two heartbeats and more
    assert scene.running("sleep") == 1


def test_retries_are_counted_and_their_delay_is_no_waiting(scene: Scene) -> None:
    scene.publisher.send("retry", 2)
    until(scene.exporter, 2, "celery_task_retried_total", task="project.retry")
    scrape = until(
        scene.exporter,
        1,
        "celery_task_failed_total",
        task="project.retry",
        exception="RuntimeError",
    )
    assert total(scrape, "celery_task_sent_total", task="project.retry", queue="celery") == 3
    assert total(scrape, "celery_task_started_total", task="project.retry", queue="celery") == 3
    assert total(scrape, "celery_task_queue_wait_seconds_count", task="project.retry") == 3
    assert total(scrape, "celery_task_queue_wait_seconds_sum", task="project.retry") < 1.5  # not 4
    assert total(scrape, "celery_task_failed_runtime_seconds_sum", task="project.retry") < 1
    assert scene.running("retry") == 0


def test_a_retry_that_finds_no_slot_has_waited(broker: Broker, start_worker: StartWorker) -> None:
    start_worker(broker, "threads", "narrow", concurrency=1, events=True, conf=SENT_EVENTS)
    with following(broker) as exporter, Publisher(broker, SENT_EVENTS) as publisher:
        publisher.send("retry", 0.5)
        until(exporter, 1, "celery_task_retried_total", task="project.retry")
        publisher.send("sleep", 3)
        scrape = until(exporter, 1, "celery_task_failed_total", task="project.retry")
        # The first retry was due half a second after its sending, and the slot was free two and a half later.
        assert total(
            scrape, "celery_task_queue_wait_seconds_sum", task="project.retry"
        ) == pytest.approx(2.5, abs=0.8)


def test_a_task_that_no_worker_knows_has_failed(scene: Scene) -> None:
    scene.publisher.send("nowhere")
    scrape = until(scene.exporter, 1, "celery_task_failed_total", exception="NotRegistered")
    # Its failure, which tells no name, may come before the news that it was sent.
    assert set(split(scrape, "celery_task_failed_total", "task", exception="NotRegistered")) <= {
        "project.nowhere",
        "unknown",
    }
    assert total(scrape, "celery_task_received_total", task="project.nowhere") == 0


def test_no_end_is_left_over(scene: Scene) -> None:
    """After all of the above."""
    scrape = wait_for(
        lambda: (
            scrape if not total(scrape := tasks_of(scene.exporter), "celery_task_running") else None
        )
    )
    assert scrape is not None
    assert scrape.series("celery_exporter_events_rejected_total") == {}
    assert split(scrape, "celery_task_started_total", "queue") == {
        "celery": total(scrape, "celery_task_started_total")
    }
    assert "level=error" not in scene.exporter.log
