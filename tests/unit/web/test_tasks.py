"""The path /tasks."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from celery_vitals.collectors.task_list import TaskList, WorkerTasks
from celery_vitals.errors import ConfigError
from celery_vitals.exporter import Collector
from celery_vitals.settings import Settings
from celery_vitals.web.tasks import MAX_AGE, MAX_ROWS
from celery_vitals.web.wsgi import WsgiApp
from celery_vitals.workers.task_lists import ListedTask, TaskState
from tests.support.cases import DECIDED, valid
from tests.support.web_fakes import FakeCollector
from tests.unit.web.conftest import Running, Start
from tests.unit.web.test_embed import Answer
from tests.unit.web.test_lost import HOSTILE


def task(number: int = 0, **parts: Any) -> ListedTask:
    given: dict[str, Any] = {
        "state": TaskState.RUNNING, "worker": "w@one", "task": "shop.pay", "uuid": f"id-{number}",
        "queue": "mail", "at": DECIDED,
    }  # fmt: skip
    return ListedTask(**{**given, **parts})


def scheduled(at: str = "2027-01-15T09:00:00.5+01:00", **parts: Any) -> ListedTask:
    return task(9, state=TaskState.SCHEDULED, at=at, **parts)


def listed(*tasks: ListedTask, **parts: Any) -> TaskList:
    workers = WorkerTasks("w@one", True, 2, 1), WorkerTasks("w@two")
    return TaskList(**{"at": DECIDED, "workers": workers, "tasks": tasks, **parts})


def serving(start: Start, found: TaskList, **options: Any) -> Running:
    collector = FakeCollector()
    collector.listed = found
    return start(collector, **options)


def content(server: Running, query: str = "") -> dict[str, Any]:
    answer = server.get(f"/tasks{query}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    return valid(answer.data, "tasks")


def test_the_documented_fields(start: Start) -> None:
    found = content(serving(start, listed(task(), scheduled(queue="", by_events=True))))
    assert found.pop("age_seconds") >= 0
    assert found == {
        "time": "2027-01-15T08:00:00Z",
        "complete": False,
        "reason": None,
        "counts": {"running": 2, "scheduled": 1},
        "workers": [
            {
                "worker": "w@one", "replied": True, "source": "worker", "running": 2,
                "scheduled": 1,
            },
            {
                "worker": "w@two", "replied": False, "source": None, "running": None,
                "scheduled": None,
            },
        ],
        "discarded_replies": 0,
        "dropped": 0,
        "omitted": 0,
        "tasks": [
            {
                "state": "running", "worker": "w@one", "task": "shop.pay", "id": "id-0",
                "queue": "mail", "started": "2027-01-15T08:00:00Z", "eta": None,
                "source": "worker",
            },
            {
                "state": "scheduled", "worker": "w@one", "task": "shop.pay", "id": "id-9",
                "queue": None, "started": None, "eta": "2027-01-15T08:00:00Z",
                "source": "events",
            },
        ],
    }  # fmt: skip


def test_complete_only_if_all_replied_and_all_was_read(start: Start) -> None:
    replied = (WorkerTasks("w@one", True, 0, 0),)
    for parts, complete in (
        ({}, True),
        ({"reason": "x"}, False),
        ({"dropped": 1}, False),
        ({"discarded": 1}, False),
        ({"workers": (*replied, WorkerTasks("w@two"))}, False),
    ):
        found = listed(**{"workers": replied, **parts})
        assert content(serving(start, found))["complete"] is complete


def test_before_the_first_round_nothing_is_known(start: Start) -> None:
    found = content(serving(start, TaskList()))
    assert (found["time"], found["age_seconds"], found["complete"]) == (None, None, False)
    assert found["counts"] == {"running": None, "scheduled": None}


@pytest.mark.parametrize(
    ("query", "expected", "counts"),
    [
        ("", ["id-0", "id-1", "id-9"], (2, 1)),
        ("?worker=w@one", ["id-0", "id-9"], (2, 1)),
        ("?worker=w@two", ["id-1"], (None, None)),
        ("?worker=w@one&worker=w@two", ["id-0", "id-1", "id-9"], (2, 1)),
        ("?task=a&queue=mail", ["id-1"], (1, 0)),
        ("?state=scheduled", ["id-9"], (0, 1)),
        ("?state=scheduled&state=running", ["id-0", "id-1", "id-9"], (2, 1)),
        ("?task=shop", [], (0, 0)),
        ("?task=%ff%00", [], (0, 0)),
    ],
)
def test_filters(
    start: Start, query: str, expected: list[str], counts: tuple[int | None, int | None]
) -> None:
    server = serving(start, listed(task(), task(1, worker="w@two", task="a"), scheduled()))
    found = content(server, query)
    assert [one["id"] for one in found["tasks"]] == expected
    assert tuple(found["counts"].values()) == counts


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("state=waiting", "state: unknown state (expected one of: running, scheduled)"),
        ("state=RUNNING", "state: unknown state"),
        ("task=", "task: must not be empty"),
        ("limit=3", "unknown parameter (expected one of: worker, task, queue, state)"),
        ("%00%0a=%ff", "unknown parameter"),
    ],
)
def test_other_filters_are_refused_without_a_round(start: Start, query: str, problem: str) -> None:
    server = serving(start, listed())
    answer = server.get(f"/tasks?{query}")
    assert (answer.status, answer.data.count(b"\n")) == (400, 1)
    assert answer.data.decode().startswith(problem)
    assert server.collector.lists_refreshed == []


def test_more_tasks_than_a_response_has(start: Start) -> None:
    found = content(serving(start, listed(*map(task, range(MAX_ROWS + 5)), dropped=3)))
    assert (len(found["tasks"]), found["omitted"], found["dropped"]) == (MAX_ROWS, 5, 3)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text(start: Start, text: str) -> None:
    one = task(worker=text, task=text, uuid=text, queue=text, arguments=(text[:200], ""))
    server = serving(start, listed(one, workers=(WorkerTasks(text, True, 1, 0),)))
    (row,) = content(server)["tasks"]
    shown = text.encode("utf-8", "replace").decode()
    assert (row["id"], row["args"]) == (shown, shown[:200])
    assert b"<" not in server.get("/tasks").data


def test_concurrent_requests_share_one_refresh(start: Start) -> None:
    server = serving(start, listed(task()))
    server.collector.go_refresh.clear()
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(server.get, "/tasks") for _ in range(50)]
        assert server.collector.started.acquire(timeout=5)
        time.sleep(0.5)
        assert server.collector.lists_refreshed == [MAX_AGE]
        server.collector.go_refresh.set()
        assert {one.result().status for one in answers} == {200}


@pytest.mark.parametrize("eta", ["", "x", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00Z"])
def test_invalid_eta_is_unknown(start: Start, eta: str) -> None:
    (row,) = content(serving(start, listed(scheduled(at=eta) if eta else task(at=None))))["tasks"]
    assert row["eta"] is None


def test_disabled_path(start: Start) -> None:
    answer = start(web_tasks=False).get("/tasks")
    assert answer.status == 404
    assert b"/tasks" not in answer.data
    with pytest.raises(ConfigError, match=r"--web.telemetry-path: /tasks .* set --no-web.tasks"):
        Settings(web_telemetry_path="/tasks")


def test_wsgi() -> None:
    fake = FakeCollector()
    fake.listed = listed(task(), scheduled())
    wsgi = WsgiApp(cast(Collector, fake), Settings())
    answer = Answer(wsgi, "/tasks", QUERY_STRING="state=running")
    assert [one["id"] for one in valid(answer.body, "tasks")["tasks"]] == ["id-0"]
    assert fake.lists_refreshed == [MAX_AGE]
    assert Answer(wsgi, "/tasks", QUERY_STRING="x=1").status == "400 Bad Request"
