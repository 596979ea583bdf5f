"""Labels of task series: name, queue, opt-in labels, cardinality limits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.exporter import Exporter
from tests.support.servers import Broker, Publisher, Worker, publish, wait_for
from tests.support.task_series import SENT_EVENTS, following, until

FIVE_TASKS: tuple[tuple[Any, ...], ...] = (
    ("add", 1, 2),
    ("sleep", 0.0),
    ("busy", 0.0),
    ("bill",),
    ("ignore",),
)
TASK_SERIES = (
    "celery_task_started_total",
    "celery_task_succeeded_total",
    "celery_task_runtime_seconds_count",
    "celery_task_last_succeeded_timestamp_seconds",
    "celery_task_running",
    "celery_task_oldest_running_start_timestamp_seconds",
)


@pytest.fixture(scope="module")
def workers(module_broker: Broker) -> Iterator[dict[str, Worker]]:
    """A worker with one queue and one with two; both send task events, producers send none."""
    one = Worker(module_broker, "threads", "one", queues=("q8",), events=True)
    two = Worker(module_broker, "threads", "two", queues=("left", "right"), events=True)
    with ExitStack() as stack:
        for worker in (one, two):
            stack.callback(worker.close)
            worker.launch()
        for worker in (one, two):
            worker.wait_ready()
        yield {"one": one, "two": two}


@pytest.fixture(scope="module")
def exporter(module_broker: Broker, workers: dict[str, Worker]) -> Iterator[Exporter]:
    with following(module_broker) as exporter:
        time.sleep(1.2)  # what the workers have answered is taken over once a second
        yield exporter


def test_the_queue_is_that_of_the_worker_where_it_consumes_one(
    module_broker: Broker, exporter: Exporter
) -> None:
    publish(module_broker, "add", 1, 2, queue="q8", count=5)
    publish(module_broker, "fail", queue="q8", count=2)
    scrape = until(exporter, 5, "celery_task_succeeded_total", task="project.add")
    scrape = until(exporter, 2, "celery_task_failed_total", task="project.fail")
    for what in ("received", "started", "succeeded"):
        assert scrape.total_by("queue", f"celery_task_{what}_total", task="project.add") == {
            "q8": 5
        }
    assert scrape.total_by("queue", "celery_task_failed_total") == {"q8": 2}
    assert scrape.total_by("queue", "celery_task_runtime_seconds_count") == {"q8": 5}


def test_the_queue_is_unknown_where_the_worker_consumes_two(
    module_broker: Broker, exporter: Exporter
) -> None:
    publish(module_broker, "sleep", 0.01, queue="left", count=3)
    publish(module_broker, "sleep", 0.01, queue="right", count=3)
    scrape = until(exporter, 6, "celery_task_succeeded_total", task="project.sleep")
    assert scrape.total_by("queue", "celery_task_succeeded_total", task="project.sleep") == {
        "unknown": 6
    }
    assert 'queue="celery"' not in scrape.text


def test_the_queue_is_from_the_sent_event_of_the_producer(
    module_broker: Broker, exporter: Exporter
) -> None:
    publish(module_broker, "ignore", queue="left", conf=SENT_EVENTS)
    until(
        exporter, 1, "celery_task_sent_total", task="project.ignore"
    )  # from here on producers are waited for
    with Publisher(module_broker, SENT_EVENTS) as publisher:
        publisher.send("busy", 0.01, queue="left", count=3)
        publisher.send("busy", 0.01, queue="right", count=4)
    scrape = until(exporter, 7, "celery_task_succeeded_total", task="project.busy")
    for what in ("sent", "received", "started", "succeeded"):
        found = scrape.total_by("queue", f"celery_task_{what}_total", task="project.busy")
        assert found == {"left": 3, "right": 4}, what
    assert scrape.total("celery_task_queue_wait_seconds_count", task="project.busy") == 7


def test_the_queue_is_known_before_the_first_scrape(
    module_broker: Broker, workers: dict[str, Worker]
) -> None:
    with Exporter.of(module_broker) as exporter:
        wait_for(lambda: "event stream is live" in exporter.log)
        time.sleep(2)  # a scrape is a quarter of a minute away
        ids = publish(module_broker, "add", 3, 4, queue="q8", count=5)
        wait_for(lambda: all(f"[{one}] succeeded" in workers["one"].log for one in ids))
        scrape = until(exporter, 5, "celery_task_succeeded_total", task="project.add")
        assert scrape.total_by("queue", "celery_task_succeeded_total") == {"q8": 5}


def test_a_task_that_ran_already_has_an_unknown_name_and_the_queue_of_its_worker(
    module_broker: Broker, workers: dict[str, Worker]
) -> None:
    (one,) = publish(module_broker, "sleep", 5, queue="q8")
    (other,) = publish(module_broker, "fail", "late", 5, queue="q8")
    wait_for(
        lambda: (
            f"[{one}] received" in workers["one"].log
            and f"[{other}] received" in workers["one"].log
        )
    )
    with following(module_broker) as exporter:
        assert f"[{one}] succeeded" not in workers["one"].log
        scrape = until(exporter, 1, "celery_task_succeeded_total", task="unknown", queue="q8")
        scrape = until(
            exporter,
            1,
            "celery_task_failed_total",
            task="unknown",
            queue="q8",
            exception="ValueError",
        )
        assert 'task="None"' not in scrape.text
        assert scrape.total_by("task", "celery_task_succeeded_total") == {"unknown": 1}
        assert scrape.total_by("task", "celery_task_runtime_seconds_count") == {"unknown": 1}
        assert scrape.total("celery_task_running") == 0


def test_the_worker_and_a_keyword_argument_are_labels_where_that_is_wanted(
    module_broker: Broker, workers: dict[str, Worker]
) -> None:
    labels = (
        "--task-labels",
        "worker",
        "--task-label",
        "tenant=kwargs.customer",
        "--max-label-values",
        "2",
    )
    with following(module_broker, *labels) as exporter, Publisher(module_broker) as publisher:
        time.sleep(1.2)  # as above
        for customer, count in (("acme", 3), ("O'Hara", 2), ("late", 1), ("later", 1)):
            publisher.send(
                "bill", queue="q8", kwargs={"customer": customer, "amount": 1}, count=count
            )
        publisher.send("bill", queue="q8", count=4)
        publisher.send("bill", queue="left", kwargs={"amount": 1, "customer": "acme"}, count=5)
        scrape = until(exporter, 16, "celery_task_succeeded_total", task="project.bill")
        succeeded = {"task": "project.bill", "queue": "q8", "worker": "one@test"}
        found = scrape.total_by("tenant", "celery_task_succeeded_total", **succeeded)
        assert found.pop("acme") == 3
        # No argument is a value too, and may have come before the cap was reached or after it.
        assert sum(found.values()) == 8
        assert len(found) <= 3
        assert "_other" in found
        left = {"queue": "unknown", "worker": "two@test", "tenant": "acme"}
        assert scrape.total("celery_task_succeeded_total", task="project.bill", **left) == 5
        assert (
            scrape.total("celery_task_runtime_seconds_count", worker="two@test", tenant="acme") == 5
        )
        assert scrape.total("celery_exporter_series_folded_total") > 0


@pytest.mark.parametrize(
    ("argument", "with_app", "by_position", "by_keyword"),
    [
        ("args.0", False, "acme", ""),
        ("kwargs.customer", False, "", "acme"),
        ("args.0", True, "acme", "acme"),
        ("kwargs.customer", True, "acme", "acme"),
        ("args.customer", True, "acme", "acme"),
    ],
)
def test_a_positional_argument_is_a_label_and_by_name_where_the_app_is_known(
    module_broker: Broker,
    workers: dict[str, Worker],
    argument: str,
    with_app: bool,
    by_position: str,
    by_keyword: str,
) -> None:
    options = [
        "--task-label",
        f"tenant={argument}",
        *(["--app", "project.app"] if with_app else []),
    ]
    with following(module_broker, *options) as exporter, Publisher(module_broker) as publisher:
        publisher.send("bill", "acme", 5, queue="q8", count=3)
        publisher.send("bill", queue="q8", kwargs={"amount": 5, "customer": "acme"}, count=2)
        scrape = until(exporter, 5, "celery_task_succeeded_total", task="project.bill")
        expected: dict[str, float] = {}
        for value, count in ((by_position, 3), (by_keyword, 2)):
            expected[value] = expected.get(value, 0) + count
        assert scrape.total_by("tenant", "celery_task_succeeded_total") == expected


def test_names_over_the_cap_are_counted_together(
    module_broker: Broker, workers: dict[str, Worker]
) -> None:
    with (
        following(module_broker, "--max-task-names", "3") as exporter,
        Publisher(module_broker) as publisher,
    ):
        for number, (task, *arguments) in enumerate(FIVE_TASKS, 1):
            publisher.send(task, *arguments, queue="q8", count=2)
            until(exporter, 2 * number, "celery_task_started_total")
        scrape = until(exporter, 8, "celery_task_succeeded_total")
        found = scrape.total_by("task", "celery_task_started_total")
        assert found == {"project.add": 2, "project.sleep": 2, "project.busy": 2, "_other": 4}
        assert (
            scrape.total("celery_exporter_series_folded_total", metric="celery_task_started_total")
            > 0
        )
        names = {
            dict(labels).get("task", "")
            for family in TASK_SERIES
            for labels in scrape.series(family)
        }
        assert names <= {"project.add", "project.sleep", "project.busy", "_other", "unknown"}
