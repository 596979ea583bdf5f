"""Tasks that share an id: every execution is counted, under its own name and queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.exporter import Exporter
from tests.support.servers import Broker, Publisher, Worker, wait_for
from tests.support.task_series import FAST, SENT_EVENTS, following, tasks_of, until

SENT, STARTED = "celery_task_sent_total", "celery_task_started_total"
SUCCEEDED, FAILED = "celery_task_succeeded_total", "celery_task_failed_total"
MISSED = "celery_exporter_events_missed_total"
QUEUES = ("celery", "elsewhere")


@pytest.fixture(scope="module", params=[True, False], ids=["sent events", "no sent events"])
def sent_events(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def exporter(module_broker: Broker, sent_events: bool) -> Iterator[Exporter]:
    """An exporter, and a prefork worker with four slots for each of two queues."""
    conf = SENT_EVENTS if sent_events else {}
    options: dict[str, Any] = {"concurrency": 4, "events": True, "conf": conf, "args": FAST}
    with (
        Worker(module_broker, "prefork", "one", queues=QUEUES[:1], **options),
        Worker(module_broker, "prefork", "two", queues=QUEUES[1:], **options),
        following(module_broker) as exporter,
    ):
        yield exporter


@pytest.fixture
def publisher(module_broker: Broker, sent_events: bool) -> Iterator[Publisher]:
    with Publisher(module_broker, SENT_EVENTS if sent_events else {}) as publisher:
        yield publisher


def test_one_id_for_twenty_executions(exporter: Exporter, publisher: Publisher) -> None:
    publisher.send("sleep", 0.1, count=20, task_id="nightly")
    publisher.send("fail", count=20, task_id="hourly")
    until(exporter, 20, SUCCEEDED, task="project.sleep", queue="celery")
    scrape = until(exporter, 20, FAILED, task="project.fail", queue="celery")
    assert scrape.total(STARTED, task="project.sleep", queue="celery") == 20
    assert scrape.total(STARTED, task="project.fail", queue="celery") == 20
    runtime = scrape.total("celery_task_runtime_seconds_sum", task="project.sleep")
    assert runtime == pytest.approx(2.0, abs=1.5)
    assert scrape.total(MISSED) == 0


def test_one_id_on_two_workers_at_once(exporter: Exporter, publisher: Publisher) -> None:
    for queue in QUEUES:
        publisher.send("late", 1, queue=queue, count=2, task_id="twice")
    until(exporter, 4, "celery_task_running", task="project.late")
    until(exporter, 4, SUCCEEDED, task="project.late")
    scrape = until(exporter, 0, "celery_task_running", task="project.late")
    assert scrape.total_by("queue", SUCCEEDED, task="project.late") == dict.fromkeys(QUEUES, 2)


def test_replaced_tasks(exporter: Exporter, publisher: Publisher) -> None:
    kinds = {"bill": "project.bill", "chain": "project.bill", "group": "celery.accumulate"}
    if publisher.app.conf.result_backend.startswith("rpc"):
        del kinds["group"]  # it becomes a chord, which this result backend does not have
    for by, inner in kinds.items():
        expect_replaced(exporter, publisher, by, inner)


def expect_replaced(exporter: Exporter, publisher: Publisher, by: str, inner: str) -> None:
    before, outer = tasks_of(exporter), "project.replace"
    publisher.send("replace", by, 0.3, count=5, ignore_result=False)
    count = 5 if by != "chain" else 10
    until(exporter, before.total(SUCCEEDED, task=inner) + count, SUCCEEDED, task=inner)
    scrape = until(exporter, before.total(STARTED, task=outer) + 5, STARTED, task=outer)
    assert scrape.total(SUCCEEDED, task=outer) == scrape.total(FAILED, task=outer) == 0
    assert scrape.total(STARTED, task=inner) == scrape.total(SUCCEEDED, task=inner)
    assert scrape.total("celery_task_runtime_seconds_count", task=outer) == 0
    assert scrape.total("celery_task_runtime_seconds_sum", task=inner) < 1
    wait_for(lambda: tasks_of(exporter).total("celery_task_running") == 0)


@pytest.mark.parametrize("replaced", [False, True])
def test_retries_in_another_queue(
    exporter: Exporter, publisher: Publisher, sent_events: bool, replaced: bool
) -> None:
    before = tasks_of(exporter)
    publisher.send("move", "elsewhere", replaced, count=5)
    end = "project.bill" if replaced else "project.move"
    until(exporter, before.total(SUCCEEDED, task=end) + 5, SUCCEEDED, task=end)
    scrape = tasks_of(exporter)
    for metric in (STARTED, *([SENT] if sent_events else [])):
        counts = [
            scrape.total(metric, task="project.move", queue=queue)
            - before.total(metric, task="project.move", queue=queue)
            for queue in QUEUES
        ]
        assert counts == [5, 5], metric
    wait_for(lambda: tasks_of(exporter).total("celery_task_running") == 0)
    wait_for(lambda: tasks_of(exporter).value("celery_exporter_tasks_in_flight") == 0, 20)
