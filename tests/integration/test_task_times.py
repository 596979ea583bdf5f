"""Times are right with wrong clocks and any time zone of workers and producers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.exporter import Exporter
from tests.support.scrape import Scrape
from tests.support.servers import Broker, Publisher, Worker, wait_for
from tests.support.servers.celery_children import SUPPORT
from tests.support.task_series import (
    SENT_EVENTS,
    event_stream_is_up,
    following,
    tasks_of,
    until,
)

HOURS = 7200.0
OFFSETS = {"ahead": HOURS, "behind": -HOURS, "newyork": 0.0, "local": 0.0}
# Replaces the clock and the host name in the process of a worker, Celery's events included.
OTHER_CLOCK = """
import os, socket, time
_time, _shift = time.time, float(os.environ["CLOCK_SHIFT"])
time.time = lambda: _time() + _shift
socket.gethostname = lambda: f"machine{_shift:g}"
"""


def shifted(folder: Path, seconds: float) -> dict[str, str]:
    """The environment of a process whose clock is so much ahead."""
    (folder / "sitecustomize.py").write_text(OTHER_CLOCK)
    path = [str(folder), str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "CLOCK_SHIFT": str(seconds)}


@pytest.fixture(scope="module")
def workers(
    module_broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Worker]]:
    """Two workers with a wrong clock, one in another time zone, one without UTC."""
    folder = tmp_path_factory.mktemp("clock")
    no_remote_control = {**SENT_EVENTS, "worker_enable_remote_control": False}
    zone = {"enable_utc": False, "timezone": "Asia/Kolkata"}
    workers = {
        "ahead": Worker(
            module_broker,
            "threads",
            "ahead",
            queues=("ahead",),
            events=True,
            conf=no_remote_control,
            env=shifted(folder, HOURS),
        ),
        "behind": Worker(
            module_broker,
            "threads",
            "behind",
            queues=("behind",),
            events=True,
            conf=no_remote_control,
            env=shifted(folder, -HOURS),
        ),
        "newyork": Worker(
            module_broker,
            "threads",
            "newyork",
            queues=("newyork", "celery"),
            events=True,
            conf={"timezone": "America/New_York"},
            env={"TZ": "America/New_York"},
        ),
        "local": Worker(
            module_broker, "threads", "local", queues=("local",), events=True, conf=zone
        ),
    }
    with ExitStack() as stack:
        for worker in workers.values():
            stack.callback(worker.close)
            worker.launch()
        for worker in workers.values():
            worker.wait_ready()
        yield workers


@pytest.fixture(scope="module")
def exporter(module_broker: Broker, workers: dict[str, Worker]) -> Iterator[Exporter]:
    with following(module_broker, "--worker-timeout", "5") as exporter:
        # A clock is known from the first heartbeat on.
        wait_for(
            lambda: (
                len(tasks_of(exporter).series("celery_worker_clock_offset_seconds")) == len(workers)
            )
        )
        yield exporter


@pytest.fixture(scope="module")
def publisher(module_broker: Broker) -> Iterator[Publisher]:
    with Publisher(module_broker, SENT_EVENTS) as publisher:
        yield publisher


def moment(scrape: Scrape, name: str, **labels: str) -> float:
    value = scrape.value(f"celery_{name}_timestamp_seconds", **labels)
    assert value is not None, name
    return value


@pytest.mark.parametrize("name", OFFSETS)
def test_waits_and_runtimes_are_right_whatever_the_worker_s_clock(
    exporter: Exporter, publisher: Publisher, name: str
) -> None:
    publisher.send("sleep", 0.2, queue=name, count=3)
    publisher.send("fail", "boom", 1, queue=name)
    until(exporter, 1, "celery_task_failed_total", queue=name)
    scrape = until(exporter, 3, "celery_task_succeeded_total", task="project.sleep", queue=name)
    assert scrape.by("worker", "celery_worker_clock_offset_seconds")[
        f"{name}@test"
    ] == pytest.approx(OFFSETS[name], abs=1)
    assert scrape.total("celery_task_queue_wait_seconds_count", queue=name) == 4
    assert 0 <= scrape.total("celery_task_queue_wait_seconds_sum", queue=name) < 3
    assert scrape.total("celery_task_runtime_seconds_sum", queue=name) == pytest.approx(
        0.6, abs=0.4
    )
    assert scrape.total("celery_task_failed_runtime_seconds_sum", queue=name) == pytest.approx(
        1, abs=0.4
    )
    now = time.time()
    assert moment(scrape, "task_last_succeeded", task="project.sleep") == pytest.approx(now, abs=3)
    assert moment(scrape, "task_last_failed", task="project.fail") == pytest.approx(now, abs=3)
    assert moment(scrape, "task_last_sent", task="project.fail") == pytest.approx(now, abs=4)


@pytest.mark.parametrize("name", OFFSETS)
def test_an_eta_is_understood_whatever_the_time_zone(
    exporter: Exporter, module_broker: Broker, name: str
) -> None:
    if OFFSETS[name]:
        pytest.skip("Celery itself holds a task with an ETA back by the worker's clock")
    conf = (
        {**SENT_EVENTS, "enable_utc": False, "timezone": "Asia/Kolkata"}
        if name == "local"
        else SENT_EVENTS
    )
    before = tasks_of(exporter).total("celery_task_queue_wait_seconds_sum", task="project.bill")
    with Publisher(module_broker, conf) as publisher:
        publisher.send("bill", queue=name, countdown=2)
    scrape = until(
        exporter, 1, "celery_task_queue_wait_seconds_count", task="project.bill", queue=name
    )
    assert 0 <= scrape.total("celery_task_queue_wait_seconds_sum", task="project.bill") - before < 1


def test_a_producer_s_wrong_clock_does_not_count_as_waiting(
    exporter: Exporter, publisher: Publisher
) -> None:
    publisher.send(
        "parent", queue="ahead", count=3
    )  # each of which sends one, two hours ahead of its time
    publisher.send("parent", queue="behind", count=3)
    scrape = until(exporter, 6, "celery_task_succeeded_total", task="project.add", queue="celery")
    assert scrape.total("celery_task_queue_wait_seconds_count", task="project.add") == 6
    assert 0 <= scrape.total("celery_task_queue_wait_seconds_sum", task="project.add") < 3
    assert moment(scrape, "task_last_sent", task="project.add") == pytest.approx(time.time(), abs=3)


def test_running_tasks_have_the_start_time_of_the_oldest(
    exporter: Exporter, publisher: Publisher
) -> None:
    began = time.time()
    publisher.send("late", 4, queue="behind")
    wait_for(lambda: tasks_of(exporter).value("celery_task_running", task="project.late") == 1)
    time.sleep(1)
    publisher.send("late", 2, queue="newyork", count=2)
    scrape = until(exporter, 3, "celery_task_running", task="project.late")
    oldest = moment(scrape, "task_oldest_running_start", task="project.late")
    assert oldest == pytest.approx(began, abs=0.9)
    scrape = until(exporter, 0, "celery_task_running", task="project.late")
    assert (
        scrape.value("celery_task_oldest_running_start_timestamp_seconds", task="project.late")
        is None
    )


def test_oldest_waiting_task_is_exported_until_it_starts(
    exporter: Exporter, publisher: Publisher
) -> None:
    name = "celery_queue_oldest_message_timestamp_seconds"
    publisher.send("add", 1, 2, queue="parked", countdown=3600)
    began = time.time()
    publisher.send("add", 1, 2, queue="parked")
    time.sleep(1)
    publisher.send("add", 1, 2, queue="parked", count=2)
    scrape = until(exporter, 4, "celery_task_sent_total", queue="parked")
    assert moment(scrape, "queue_oldest_message", queue="parked") == pytest.approx(began, abs=0.5)
    assert scrape.value(name, queue="newyork") is None
    connection = publisher._connection
    publisher.app.control.add_consumer(
        "parked", destination=["newyork@test"], connection=connection
    )
    until(exporter, 3, "celery_task_succeeded_total", queue="parked")
    wait_for(lambda: tasks_of(exporter).value(name, queue="parked") is None)


def test_workers_with_a_wrong_clock_stay_up_by_their_heartbeats(exporter: Exporter) -> None:
    scrape = exporter.scrape()
    assert scrape.by("worker", "celery_worker_up") == dict.fromkeys(
        (f"{name}@test" for name in OFFSETS), 1
    )
    for worker in ("ahead@test", "behind@test"):
        assert (
            scrape.value("celery_worker_last_seen_timestamp_seconds", worker=worker, source="reply")
            is None
        )
        seen = scrape.value(
            "celery_worker_last_seen_timestamp_seconds", worker=worker, source="heartbeat"
        )
        assert seen == pytest.approx(time.time(), abs=5)


def test_buckets_follow_the_options_for_all_tasks_and_for_one(
    module_broker: Broker, publisher: Publisher
) -> None:
    options = (
        "--runtime-buckets",
        "0.5,3",
        "--task-runtime-buckets",
        "project.sleep=0.2,1",
        "--wait-buckets",
        "1,5",
    )
    with Exporter.of(module_broker, *options) as exporter:
        wait_for(lambda: event_stream_is_up(exporter))
        publisher.send("sleep", 0.4, queue="newyork")
        publisher.send("busy", 0.01, queue="newyork")
        scrape = until(exporter, 2, "celery_task_succeeded_total", queue="newyork")

    def buckets(name: str, task: str) -> dict[str, float]:
        series = scrape.series(f"celery_task_{name}_seconds_bucket")
        return {dict(found)["le"]: n for found, n in series.items() if dict(found)["task"] == task}

    assert buckets("runtime", "project.sleep") == {"0.2": 0, "1.0": 1, "+Inf": 1}
    assert buckets("runtime", "project.busy") == {"0.5": 1, "3.0": 1, "+Inf": 1}
    assert buckets("queue_wait", "project.sleep") == {"1.0": 1, "5.0": 1, "+Inf": 1}
