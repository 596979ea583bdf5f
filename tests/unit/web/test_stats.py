"""The path /stats."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import jsonschema
import pytest

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.errors import ConfigError
from celery_vitals.events.task_totals import TaskTotals, TotalsList
from celery_vitals.exporter import Collector
from celery_vitals.settings import Settings
from celery_vitals.web.stats import MAX_ROWS
from celery_vitals.web.wsgi import WsgiApp
from tests.support.cases import DECIDED, valid
from tests.support.web_fakes import FakeCollector
from tests.unit.web.conftest import Running, Start
from tests.unit.web.test_embed import Answer
from tests.unit.web.test_lost import HOSTILE


def totals(task: str = "shop.pay", started: int = 3, **parts: Any) -> TaskTotals:
    found = TaskTotals(task, **parts)
    found.counts.update(received=started, started=started, succeeded=started - 1, failed=1)
    found.distributions["runtime"].add((0.1, 1.0), (1, started - 2, 0), 1.25)
    found.times["last_succeeded"] = DECIDED
    return found


def listed(*tasks: TaskTotals, **parts: Any) -> TotalsList:
    since = dict.fromkeys(("counted_since", "watched_since", "connected_since"), DECIDED)
    given: dict[str, Any] = {"stream_up": True, **since, **parts}
    return TotalsList({one.task: one for one in tasks}, **given)


def serving(start: Start, counted: TotalsList, **options: Any) -> Running:
    collector = FakeCollector()
    collector.counted = counted
    return start(collector, **options)


def content(server: Running, query: str = "") -> dict[str, Any]:
    answer = server.get(f"/stats{query}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.data.count(b"\n") == 1
    return valid(answer.data, "stats")


def test_a_task_has_the_documented_fields(start: Start) -> None:
    found = content(serving(start, listed(totals(waiting=2, held=1, running=4))))
    (task,) = found["tasks"]
    assert task == {
        "task": "shop.pay",
        "sent": None,
        "received": 3, "started": 3, "succeeded": 2, "failed": 1, "retried": 0, "revoked": 0,
        "rejected": 0, "requeued": 0, "retries_exhausted": 0, "unregistered": 0, "lost": 0,
        "found": 0, "redelivered": 0, "overlapping": 0, "repeated": 0, "end_unknown": 0,
        "running": 4,
        "waiting": None,
        "held": 1,
        "orphaned": 0,
        "runtime": {
            "count": 2,
            "sum": 1.25,
            "mean": 0.625,
            "p50": {"estimate": 0.1, "lower": 0.0, "upper": 0.1},
            "p95": {"estimate": 0.91, "lower": 0.1, "upper": 1.0},
            "p99": {"estimate": 0.982, "lower": 0.1, "upper": 1.0},
        },
        "failed_runtime": None,
        "wait": None,
        "last_sent": None,
        "last_succeeded": "2027-01-15T08:00:00Z",
        "last_failed": None,
    }  # fmt: skip
    assert found["total"] == {name: value for name, value in task.items() if name != "task"}
    assert (found["count"], found["omitted"]) == (1, 0)
    assert found["since"] == found["watching"]["since"] == "2027-01-15T08:00:00Z"


def test_the_schema_refuses_other_responses(start: Start) -> None:
    body = serving(start, listed(totals())).get("/stats").data
    for good, bad in (
        (b'"retried": 0', b'"retried": -1'),
        (b'"held": 0', b'"reserved": 0'),
        (b'"estimate"', b'"value"'),
        (b'"waiting": null', b'"waiting": null, "args": []'),
    ):
        assert good in body
        with pytest.raises(jsonschema.ValidationError):
            valid(body.replace(good, bad), "stats")


def test_what_producers_report_is_known_where_they_do(start: Start) -> None:
    tasks = totals("a", sent_known=True, waiting=2), totals("b", waiting=5)
    found = content(serving(start, listed(*tasks)))
    assert [(one["sent"], one["waiting"]) for one in found["tasks"]] == [(0, 2), (None, None)]


def test_before_the_first_event_nothing_is_known(start: Start) -> None:
    spot = BlindSpot("task_events", "The event stream is not connected yet.")
    found = content(serving(start, TotalsList(blind_spots=(spot,))))
    assert found["total"] is None
    assert (found["since"], found["watching"]["up"], found["tasks"]) == (None, False, [])
    assert found["blind_spots"][0]["subject"] == "task_events"
    found = content(serving(start, listed()))
    assert found["total"]["started"] == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["b", "a", "c"]),
        ("?", ["b", "a", "c"]),
        ("?task=a", ["a"]),
        ("?task=a&task=b&task=a", ["a", "b"]),
        ("?task=nothing", []),
        ("?task=%ff%00", []),
    ],
)
def test_filters(start: Start, query: str, expected: list[str]) -> None:
    found = content(serving(start, listed(totals("a"), totals("b", 9), totals("c"))), query)
    assert [one["task"] for one in found["tasks"]] == expected
    assert (found["count"], found["total"]["started"]) == (3, 15)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("task=", "task: must not be empty"),
        ("limit=3", "unknown parameter (expected one of: task)"),
        ("task[]=a", "unknown parameter"),
        ("%00%0a=%ff", "unknown parameter"),
    ],
)
def test_other_filters_are_refused(start: Start, query: str, problem: str) -> None:
    server = serving(start, listed(totals()))
    answer = server.get(f"/stats?{query}")
    assert answer.status == 400
    assert answer.data.decode().startswith(problem)
    assert answer.data.count(b"\n") == 1
    assert server.collector.totals_read == 0


def test_thousands_of_tasks(start: Start) -> None:
    tasks = (totals("x" * 200 + str(number), number + 3) for number in range(MAX_ROWS + 5))
    server = serving(start, listed(*tasks))
    found = content(server)
    assert (len(found["tasks"]), found["omitted"], found["count"]) == (MAX_ROWS, 5, MAX_ROWS + 5)
    assert found["tasks"][0]["started"] == MAX_ROWS + 7
    fewest = "x" * 200 + "0"
    assert [one["task"] for one in content(server, f"?task={fewest}")["tasks"]] == [fewest]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text(start: Start, text: str) -> None:
    shown = text.encode("utf-8", "replace").decode()
    server = serving(start, listed(totals(shown)))
    assert [one["task"] for one in content(server)["tasks"]] == [shown]
    assert b"<" not in server.get("/stats").data
    assert len(valid(server.get("/stats", fields={"task": shown}).data, "stats")["tasks"]) == 1


def test_concurrent_requests_share_one_reading(start: Start) -> None:
    server = serving(start, listed(totals()))
    server.collector.go_refresh.clear()
    threads = threading.active_count()
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(server.get, "/stats") for _ in range(100)]
        assert server.collector.started.acquire(timeout=5)
        assert threading.active_count() <= threads + 50 + 2
        server.collector.go_refresh.set()
        assert {one.result().status for one in answers} == {200}
    assert server.collector.totals_read <= 3, "one reading a second"


def test_error_is_one_line(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = serving(start, listed())
    server.collector.error = RuntimeError("amqp://user:secret@host")
    answer = server.get("/stats")
    expected = b"Cannot render /stats (see the log). The metrics are not affected.\n"
    assert (answer.status, answer.data) == (500, expected)
    assert "secret" not in caplog.text


def test_disabled_path(start: Start) -> None:
    answer = start(web_stats=False).get("/stats")
    assert answer.status == 404
    assert b"/stats" not in answer.data
    with pytest.raises(ConfigError, match=r"--web.telemetry-path: /stats .* set --no-web.stats"):
        Settings(web_telemetry_path="/stats")


def test_wsgi() -> None:
    fake = FakeCollector()
    fake.counted = listed(totals("a"), totals("b"))
    wsgi = WsgiApp(cast(Collector, fake), Settings())
    answer = Answer(wsgi, "/stats", QUERY_STRING="task=b")
    assert [one["task"] for one in valid(answer.body, "stats")["tasks"]] == ["b"]
    assert answer.headers["cache-control"] == "no-store"
    assert Answer(wsgi, "/stats", "HEAD").body == b""
    assert Answer(wsgi, "/stats", QUERY_STRING="x=1").status == "400 Bad Request"
    without = WsgiApp(cast(Collector, fake), Settings(web_stats=False))
    assert Answer(without, "/stats").status == "404 Not Found"
