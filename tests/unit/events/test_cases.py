"""The cases that are kept, and what the exporter reports of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.collectors.tasks import TasksCollector
from celery_vitals.deadline import Deadline
from celery_vitals.events.cases import MAX_CASES, CaseList, Cases
from celery_vitals.exporter import Collector
from celery_vitals.secrets import Secret
from celery_vitals.settings import Settings
from tests.support.cases import case


def test_the_oldest_cases_are_dropped_and_counted() -> None:
    cases = Cases()
    for number in range(MAX_CASES):
        cases.add(case(number))
    assert (len(cases), cases.dropped) == (MAX_CASES, 0)
    for number in (MAX_CASES, MAX_CASES + 1):
        cases.add(case(number))
    assert (len(cases), cases.dropped) == (MAX_CASES, 2)
    assert next(iter(cases)).uuid == "id-2"


@pytest.fixture
def tasks() -> Iterator[TasksCollector]:
    exporter = exporter_of()
    tasks = exporter._collectors["tasks"]
    assert isinstance(tasks, TasksCollector)
    yield tasks
    exporter.close(Deadline.after(5))


def exporter_of(url: str = "memory://", **options: object) -> Collector:
    return Collector(Settings(broker_url=Secret(url), **options))  # type: ignore[arg-type]


def kept_by(tasks: TasksCollector) -> Cases:
    cases: Cases = tasks._processor._tasks.ledger.books.cases
    return cases


def test_the_newest_case_is_first(tasks: TasksCollector) -> None:
    for number in range(3):
        kept_by(tasks).add(case(number))
    assert [one.uuid for one in tasks.cases()] == ["id-0", "id-1", "id-2"]
    assert [one.uuid for one in tasks.case_list().cases] == ["id-2", "id-1", "id-0"]


def test_cases_are_read_while_others_are_added(tasks: TasksCollector) -> None:
    def add() -> None:
        for batch in range(200):
            time.sleep(0)  # or the reader would wait for the lock until the end
            with tasks._processor._lock:
                for number in range(100):
                    kept_by(tasks).add(case(100 * batch + number))

    thread = threading.Thread(target=add)
    thread.start()
    while thread.is_alive():
        numbers = [int(one.uuid[3:]) for one in tasks.cases()]
        assert len(numbers) % 100 == 0, "no part of a batch"
        assert numbers == list(range(*(numbers[0], numbers[-1] + 1) if numbers else (0,)))
    thread.join()


def blind_spots(listed: CaseList) -> dict[str, BlindSpot]:
    return {spot.subject: spot for spot in listed.blind_spots}


def test_stream_that_has_not_been_live_is_a_blind_spot() -> None:
    listed = exporter_of().cases()
    assert (listed.stream_up, listed.watched_since, listed.connected_since) == (False, None, None)
    assert "not connected yet" in blind_spots(listed)["task_events"].reason


def test_disabled_collector_is_a_blind_spot() -> None:
    listed = exporter_of(collectors=frozenset({"broker"})).cases()
    assert blind_spots(listed)["task_events"].setting == "--collector.tasks"
    assert listed.watched_since is None


def test_broker_without_events_is_a_blind_spot() -> None:
    found = blind_spots(exporter_of("sqs://key:secret@").cases())
    assert found["task_events"].reason.startswith("Task events are not received. Amazon SQS")
    assert "broker" not in found, "does not hide a case"
