"""Task outcomes: each is counted once under its name, and no finished task stays running."""

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
    tasks_of,
    until,
)


@dataclass(frozen=True)
class WatchedWorker:
    """A prefork worker with four slots and task events, with its publisher and an exporter."""

    worker: Worker
    publisher: Publisher
    exporter: Exporter

    def running(self, task: str) -> float | None:
        """Return the number of running executions of a task, as exported."""
        return tasks_of(self.exporter).value("celery_task_running", task=f"project.{task}")


@pytest.fixture(scope="module")
def watched(module_broker: Broker) -> Iterator[WatchedWorker]:
    with (
        Worker(
            module_broker, "prefork", "w", concurrency=4, events=True, conf=SENT_EVENTS, args=FAST
        ) as worker,
        Publisher(module_broker, SENT_EVENTS) as publisher,
        following(module_broker) as exporter,
    ):
        yield WatchedWorker(worker, publisher, exporter)


@pytest.mark.parametrize("kind", ["Unreadable", "Silent", "Rpc", "Invalid", "Call", "Remote"])
def test_unusual_exceptions_are_counted_by_class(watched: WatchedWorker, kind: str) -> None:
    before = tasks_of(watched.exporter).total(
        "celery_task_failed_total", task="project.odd_failure"
    )
    watched.publisher.send("odd_failure", kind)
    scrape = until(
        watched.exporter, before + 1, "celery_task_failed_total", task="project.odd_failure"
    )
    assert (
        scrape.total_by("exception", "celery_task_failed_total", task="project.odd_failure").get(
            kind
        )
        == 1
    )


def test_a_task_that_fails_has_a_runtime_and_a_time_too(watched: WatchedWorker) -> None:
    began = time.time()
    watched.publisher.send("fail", "boom", 2)
    scrape = until(
        watched.exporter, 1, "celery_task_failed_total", task="project.fail", exception="ValueError"
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


def test_a_hard_time_limit_is_one_failure_of_its_own_class(watched: WatchedWorker) -> None:
    watched.publisher.send("time_limit")
    scrape = until(watched.exporter, 1, "celery_task_failed_total", task="project.time_limit")
    assert watched.running("time_limit") == 0
    time.sleep(1.0)  # Celery 5.7 sends the event twice
    scrape = tasks_of(watched.exporter)
    assert scrape.total_by("exception", "celery_task_failed_total", task="project.time_limit") == {
        "TimeLimitExceeded": 1
    }
    runtime = scrape.total("celery_task_failed_runtime_seconds_sum", task="project.time_limit")
    assert runtime == pytest.approx(1.0, abs=0.9)
    assert scrape.total("celery_task_failed_runtime_seconds_count", task="project.time_limit") == 1


def test_a_lost_worker_process_is_a_failure_of_its_own_class(watched: WatchedWorker) -> None:
    watched.publisher.send("die")
    scrape = until(watched.exporter, 1, "celery_task_failed_total", task="project.die")
    assert scrape.total_by("exception", "celery_task_failed_total", task="project.die") == {
        "WorkerLostError": 1
    }
    assert watched.running("die") == 0


def test_a_rejected_task_is_rejected_and_nothing_else(watched: WatchedWorker) -> None:
    watched.publisher.send("reject")
    until(watched.exporter, 1, "celery_task_rejected_total", task="project.reject")
    time.sleep(0.5)
    scrape = tasks_of(watched.exporter)
    assert scrape.total("celery_task_failed_total", task="project.reject") == 0
    assert scrape.total("celery_task_rejected_total", task="project.reject", queue="celery") == 1
    assert watched.running("reject") == 0


def test_expired_revoked_and_terminated_are_distinguished_and_do_not_run(
    watched: WatchedWorker,
) -> None:
    control, connection = watched.publisher.app.control, watched.publisher._connection
    watched.publisher.send("late", countdown=1.5, expires=1)
    (revoked,) = watched.publisher.send("late", countdown=1.5)
    (running,) = watched.publisher.send("late", 30)
    wait_for(lambda: watched.running("late") == 1)
    control.revoke(revoked, connection=connection)
    control.revoke(running, terminate=True, connection=connection)
    scrape = until(watched.exporter, 3, "celery_task_revoked_total", task="project.late")
    reasons = scrape.total_by(
        "reason", "celery_task_revoked_total", task="project.late", queue="celery"
    )
    assert reasons == {"expired": 1, "revoked": 1, "terminated": 1}
    wait_for(lambda: watched.running("late") == 0)
    assert tasks_of(watched.exporter).total("celery_task_failed_total", task="project.late") == 0


def test_a_task_that_is_ignored_does_not_stay(watched: WatchedWorker) -> None:
    wait_for(lambda: tasks_of(watched.exporter).value("celery_exporter_tasks_in_flight") == 0, 20)
    watched.publisher.send("ignore", count=3)
    until(watched.exporter, 3, "celery_task_started_total", task="project.ignore")
    wait_for(lambda: watched.running("ignore") == 0)
    wait_for(lambda: tasks_of(watched.exporter).value("celery_exporter_tasks_in_flight") == 0, 6)


def test_a_task_that_is_ignored_does_not_stay_on_a_worker_that_is_never_idle(
    watched: WatchedWorker,
) -> None:
    watched.publisher.send("ignore")
    watched.publisher.send("late", 2)  # longer than two heartbeats
    wait_for(lambda: watched.running("late") == 1)
    wait_for(lambda: watched.running("ignore") == 0 and watched.running("late") == 0)
    before = tasks_of(watched.exporter).total("celery_task_started_total", task="project.ignore")
    watched.publisher.send("sleep", 6)
    wait_for(lambda: watched.running("sleep") == 1)
    watched.publisher.send("ignore", count=3)
    until(watched.exporter, before + 3, "celery_task_started_total", task="project.ignore")
    wait_for(lambda: watched.running("ignore") == 0, 4)  # two heartbeats and more
    assert watched.running("sleep") == 1


def test_retries_are_counted_and_their_delay_is_no_waiting(watched: WatchedWorker) -> None:
    watched.publisher.send("retry", 2)
    until(watched.exporter, 2, "celery_task_retried_total", task="project.retry")
    scrape = until(
        watched.exporter,
        1,
        "celery_task_failed_total",
        task="project.retry",
        exception="RuntimeError",
    )
    assert scrape.total("celery_task_sent_total", task="project.retry", queue="celery") == 3
    assert scrape.total("celery_task_started_total", task="project.retry", queue="celery") == 3
    assert scrape.total("celery_task_queue_wait_seconds_count", task="project.retry") == 3
    assert scrape.total("celery_task_queue_wait_seconds_sum", task="project.retry") < 1.5  # not 4
    assert scrape.total("celery_task_failed_runtime_seconds_sum", task="project.retry") < 1
    assert watched.running("retry") == 0


def test_a_retry_that_finds_no_slot_has_waited(broker: Broker, start_worker: StartWorker) -> None:
    start_worker(broker, "threads", "narrow", concurrency=1, events=True, conf=SENT_EVENTS)
    with following(broker) as exporter, Publisher(broker, SENT_EVENTS) as publisher:
        publisher.send("retry", 0.5)
        until(exporter, 1, "celery_task_retried_total", task="project.retry")
        publisher.send("sleep", 3)
        scrape = until(exporter, 1, "celery_task_failed_total", task="project.retry")
        # The first retry was due after 0.5 s, and the slot was free 2.5 s later.
        assert scrape.total(
            "celery_task_queue_wait_seconds_sum", task="project.retry"
        ) == pytest.approx(2.5, abs=0.8)


def test_a_task_that_no_worker_knows_has_failed(watched: WatchedWorker) -> None:
    watched.publisher.send("nowhere")
    scrape = until(watched.exporter, 1, "celery_task_failed_total", exception="NotRegistered")
    # Its failed event, which has no name, may arrive before its sent event.
    assert set(scrape.total_by("task", "celery_task_failed_total", exception="NotRegistered")) <= {
        "project.nowhere",
        "unknown",
    }
    assert scrape.total("celery_task_received_total", task="project.nowhere") == 0


def test_no_task_stays_running(watched: WatchedWorker) -> None:
    """After all of the above."""
    scrape = wait_for(
        lambda: (
            found
            if not (found := tasks_of(watched.exporter)).total("celery_task_running")
            else None
        )
    )
    assert scrape is not None
    assert scrape.series("celery_exporter_events_rejected_total") == {}
    assert scrape.total_by("queue", "celery_task_started_total") == {
        "celery": scrape.total("celery_task_started_total")
    }
    assert "level=error" not in watched.exporter.log
