"""celery_worker_state: workers in every state at the same time, on one broker."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.scrape import Scrape
from tests.support.scraping import LocalExporter, local_exporter, state
from tests.support.servers import Broker, Publisher, Worker, wait_for
from tests.support.task_series import FAST

ONCE_AN_HOUR = {"task_annotations": {"project.add": {"rate_limit": "1/h"}}}
SHORT_THRESHOLDS = {
    "stall_detection.IDLE_FOR": 3.0,
    "stall_detection.UNCONSUMED_FOR": 1.0,
    "worker._QUEUES_FRESH": 1.0,
}


@dataclass(frozen=True)
class Farm:
    """The workers by name, each with a queue of its name, and a look at them."""

    local: LocalExporter
    publisher: Publisher
    workers: dict[str, Worker]

    def waits_for(self, worker: str, expected: str) -> Scrape:
        """The first scrape that finds a worker in this state."""
        seen: list[Scrape] = []

        def there() -> bool:
            seen[:] = [self.local.scrape()]
            found = state(seen[0], worker)
            assert found == expected, f"{worker} is {found}"
            return True

        wait_for(there, 30.0, interval=0.2, what=f"{worker} {expected}")
        return seen[0]

    def stay(self, expected: dict[str, str], rounds: int = 12) -> None:
        """Check the states in several scrapes, during twice the threshold of a suspicion."""
        found: list[dict[str, str]] = []

        def often() -> bool:
            scrape = self.local.scrape()
            found.append({worker: state(scrape, worker) for worker in expected})
            return len(found) >= rounds

        wait_for(often, 60.0, interval=2 * SHORT_THRESHOLDS["stall_detection.IDLE_FOR"] / rounds)
        assert found == [expected] * rounds


def workers_on(broker: Broker) -> Iterator[Worker]:
    """One for each situation."""
    solo = ("solo",)
    yield Worker(
        broker,
        *solo,
        "broken",
        queues=("broken",),
        args=[*FAST, "--include", "project.broken_consumer"],
    )
    yield Worker(broker, *solo, "cancelled", queues=("cancelled",), args=FAST)
    yield Worker(broker, *solo, "limited", queues=("limited",), args=FAST, conf=ONCE_AN_HOUR)
    yield Worker(broker, "threads", "idle", queues=("idle",), args=FAST)
    yield Worker(
        broker,
        "threads",
        "uncontrolled",
        queues=("uncontrolled",),
        args=FAST,
        conf={"worker_enable_remote_control": False},
    )
    yield Worker(broker, "prefork", "frozen", queues=("frozen",), args=FAST)
    yield Worker(broker, "prefork", "full", queues=("full",), args=FAST, events=True)


@pytest.fixture(scope="module")
def farm(module_broker: Broker) -> Iterator[Farm]:
    """All workers, and an exporter with shorter thresholds for suspicions."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, seconds in SHORT_THRESHOLDS.items():
            patch.setattr(f"celery_vitals.workers.{name}", seconds)
        workers = {worker.name.partition("@")[0]: worker for worker in workers_on(module_broker)}
        for worker in workers.values():
            stack.callback(worker.close)
            worker.launch()
        for worker in workers.values():
            worker.wait_ready()
        local = stack.enter_context(local_exporter(module_broker, enable_events=False))
        publisher = stack.enter_context(Publisher(module_broker))
        wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
        names = {f"{name}@test" for name in workers}
        wait_for(lambda: set(local.scrape().by("worker", "celery_worker_active_tasks")) == names)
        yield Farm(local, publisher, workers)


def test_worker_with_broken_consumer_is_not_consuming(farm: Farm) -> None:
    farm.publisher.send("add", 1, 2, queue="broken", count=5)
    scrape = farm.waits_for("broken", "not_consuming")
    assert scrape.value("celery_worker_up", worker="broken@test") == 1
    assert scrape.value("celery_worker_replied", worker="broken@test") == 1
    assert scrape.value("celery_worker_consumed_queues", worker="broken@test") == 1
    assert scrape.value("celery_queue_length", queue="broken") == 5


def test_its_consumer_is_cancelled_and_added_again(farm: Farm) -> None:
    farm.waits_for("cancelled", "up")
    control, connection = farm.publisher.app.control, farm.publisher._connection
    control.cancel_consumer("cancelled", connection=connection, destination=["cancelled@test"])
    scrape = farm.waits_for("cancelled", "not_consuming")
    assert scrape.value("celery_worker_up", worker="cancelled@test") == 1
    assert scrape.value("celery_worker_consumed_queues", worker="cancelled@test") == 0
    control.add_consumer("cancelled", connection=connection, destination=["cancelled@test"])
    farm.waits_for("cancelled", "up")


def test_its_pool_is_frozen_and_thaws(farm: Farm) -> None:
    worker = farm.workers["frozen"]
    children = [process for process in worker.child.processes() if process.pid != worker.pid]
    for child in children:
        child.send_signal(signal.SIGSTOP)
    farm.publisher.send("add", 1, 2, queue="frozen", count=20)
    scrape = farm.waits_for("frozen", "stalled")
    assert scrape.value("celery_worker_replied", worker="frozen@test") == 1
    assert scrape.value("celery_worker_active_tasks", worker="frozen@test") == 0
    for child in children:
        child.send_signal(signal.SIGCONT)
    thawed = farm.waits_for("frozen", "up")
    assert (thawed.value("celery_worker_processed_total", worker="frozen@test") or 0) > 0


def test_busy_and_idle_workers_are_never_stalled(farm: Farm) -> None:
    """Workers with messages that start no task for a long time, for legitimate reasons."""
    send = farm.publisher.send
    send("sleep", 600, queue="full", count=20)
    send("add", 1, 2, queue="limited", count=20)
    send("add", 1, 2, queue="idle", count=30, countdown=3600)
    send("sleep", 600, queue="uncontrolled", count=4)
    farm.waits_for("full", "busy")
    wait_for(
        lambda: (
            farm.local.scrape().value("celery_worker_processed_total", worker="limited@test") == 1
        )
    )
    farm.stay({"full": "busy", "limited": "up", "idle": "up", "uncontrolled": "up"})


def test_worker_with_long_tasks_in_all_slots_is_busy(farm: Farm) -> None:
    scrape = farm.waits_for("full", "busy")
    assert scrape.value("celery_worker_up", worker="full@test") == 1
    assert scrape.value("celery_worker_pool_slots", worker="full@test") == 2
    assert scrape.value("celery_worker_active_tasks", worker="full@test") == 2
    assert scrape.value("celery_task_running", task="project.sleep") == 2
    oldest = scrape.value(
        "celery_task_oldest_running_start_timestamp_seconds", task="project.sleep"
    )
    started = scrape.by("worker", "celery_worker_start_timestamp_seconds")["full@test"]
    assert oldest is not None
    assert oldest > started - 2


def test_worker_without_remote_control_has_a_state_from_heartbeats(farm: Farm) -> None:
    """All is by its heartbeats."""
    scrape = farm.local.scrape()
    assert scrape.value("celery_worker_up", worker="uncontrolled@test") == 1
    assert scrape.value("celery_worker_replied", worker="uncontrolled@test") == 0
    assert (scrape.value("celery_worker_active_tasks", worker="uncontrolled@test") or 0) >= 1
    assert scrape.value("celery_worker_restarts_total", worker="uncontrolled@test") == 0
    assert scrape.value("celery_worker_instances", worker="uncontrolled@test") is None


def test_no_restart_was_counted(farm: Farm) -> None:
    scrape = farm.local.scrape()
    assert set(scrape.by("worker", "celery_worker_restarts_total").values()) == {0}
    assert set(scrape.by("worker", "celery_worker_instances").values()) == {1}
