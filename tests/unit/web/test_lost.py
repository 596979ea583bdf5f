"""The path /lost, and the section of the status page."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.errors import ConfigError
from celery_vitals.events.cases import MAX_CASES, Case, CaseKind, CaseList
from celery_vitals.exporter import Collector
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.monitor import HealthMonitor
from celery_vitals.settings import Settings
from celery_vitals.web.lost import lost_executions
from celery_vitals.web.pages import Page
from celery_vitals.web.wsgi import WsgiApp
from tests.support.cases import DECIDED, case, case_list, valid
from tests.support.web_fakes import FakeCollector, cluster_status, healthy_status
from tests.unit.web.conftest import Running, Start
from tests.unit.web.test_auth import basic, hashed
from tests.unit.web.test_embed import Answer
from tests.unit.web.test_page import NOW, Checker

HOSTILE = [
    "<script>alert(1)</script>\"'&",
    "two\nlines\r\n\t\0\x1b[31m\x7f\x9b",
    "lone \ud800 surrogates \udfff",
    "x" * 255,
    "\u202ereversed \N{SNOWMAN} \N{PILE OF POO}",
    '","found":true,"x":"',
]
OF_TWO_KINDS = case_list(
    case(1), case(2, CaseKind.POISON, task="shop.ship"), case(3, task="shop.ship")
)


def serving(start: Start, listed: CaseList, **options: Any) -> Running:
    collector = FakeCollector()
    collector.state = cluster_status(cases=listed)
    return start(collector, **options)


def hostile(text: str) -> Case:
    return case(
        uuid=text, task=text, queue=text, worker=text, reason=text, evidence=text, found=True
    )


def page_of(listed: CaseList, **options: Any) -> str:
    status = replace(healthy_status(NOW), cases=listed)
    verdict = HealthMonitor(HealthLimits()).verdict(status, NOW)
    return Page(Settings(**options)).render(status, verdict, NOW)


def test_a_case_has_the_documented_fields(start: Start) -> None:
    answer = serving(start, case_list(case(), dropped=3)).get("/lost")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.data.endswith(b"}\n")
    assert valid(answer.data) == {
        "watching": {
            "up": True,
            "since": "2027-01-15T07:00:00Z",
            "connected_since": "2027-01-15T07:00:00Z",
        },
        "blind_spots": [],
        "counts": {"lost": 1, "redelivered": 0, "overlapping": 0, "repeated": 0, "poison": 0},
        "dropped": 3,
        "cases": [
            {
                "kind": "lost",
                "id": "id-0",
                "task": "shop.pay",
                "queue": "mail",
                "worker": "w@one",
                "started": "2027-01-15T07:59:00Z",
                "decided": "2027-01-15T08:00:00Z",
                "reason": "worker_gone",
                "evidence": "The worker sent its offline event while the task ran.",
                "found": False,
            }
        ],
    }


def test_the_schema_refuses_other_responses(start: Start) -> None:
    body = serving(start, case_list(case())).get("/lost").data
    for good, bad in ((b'"lost", "id"', b'"gone", "id"'), (b'"id"', b'"uuid"'), (b"Z", b"+01:00")):
        assert good in body
        with pytest.raises(jsonschema.ValidationError):
            valid(body.replace(good, bad))


def test_unknown_values_are_null(start: Start) -> None:
    nothing = case(kind=CaseKind.POISON, task="", queue="", worker="", started_at=0.0)
    (found,) = valid(serving(start, case_list(nothing)).get("/lost").data)["cases"]
    assert [name for name, value in found.items() if value is None] == [
        "task", "queue", "worker", "started", "reason",
    ]  # fmt: skip


def test_an_empty_list_shows_whether_anything_was_observed(start: Start) -> None:
    spot = BlindSpot("task_events", "The event stream is not connected yet.")
    answers = [
        valid(serving(start, listed).get("/lost").data)
        for listed in (
            CaseList(blind_spots=(spot,)),
            case_list(stream_up=False, connected_since=None, blind_spots=(spot,)),
            case_list(connected_since=DECIDED - 60),
            case_list(),
        )
    ]
    assert [one["watching"]["up"] for one in answers] == [False, False, True, True]
    assert [one["watching"]["since"] is None for one in answers] == [True, False, False, False]
    assert [one["watching"]["connected_since"] for one in answers] == [
        None, None, "2027-01-15T07:59:00Z", "2027-01-15T07:00:00Z",
    ]  # fmt: skip
    assert answers[0]["blind_spots"] == [
        {"subject": "task_events", "reason": spot.reason, "setting": None}
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["id-1", "id-2", "id-3"]),
        ("?", ["id-1", "id-2", "id-3"]),
        ("?kind=lost", ["id-1", "id-3"]),
        ("?kind=poison&kind=lost", ["id-1", "id-2", "id-3"]),
        ("?kind=overlapping", []),
        ("?task=shop.ship", ["id-2", "id-3"]),
        ("?task=shop.ship&task=shop.pay", ["id-1", "id-2", "id-3"]),
        ("?task=shop.ship&kind=lost", ["id-3"]),
        ("?task=shop", []),
        ("?task=%ff%00", []),
    ],
)
def test_filters(start: Start, query: str, expected: list[str]) -> None:
    content = valid(serving(start, OF_TWO_KINDS).get(f"/lost{query}").data)
    assert [one["id"] for one in content["cases"]] == expected
    assert sum(content["counts"].values()) == len(expected)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        (
            "kind=gone",
            "kind: unknown kind"
            " (expected one of: lost, redelivered, overlapping, repeated, poison)",
        ),
        ("kind=", "kind: unknown kind"),
        ("kind=LOST", "kind: unknown kind"),
        ("kind=lost&kind=x", "kind: unknown kind"),
        ("kind=lost,poison", "kind: unknown kind"),
        ("task=", "task: must be the name of a task"),
        ("limit=3", "unknown parameter (expected one of: kind, task)"),
        ("kind[]=lost", "unknown parameter"),
        ("kind=lost&x", "unknown parameter"),
        ("%00%0a=%ff", "unknown parameter"),
    ],
)
def test_other_filters_are_refused(start: Start, query: str, problem: str) -> None:
    answer = serving(start, OF_TWO_KINDS).get(f"/lost?{query}")
    assert answer.status == 400
    assert answer.data.decode().startswith(problem)
    assert answer.data.count(b"\n") == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text_in_json_and_in_the_page(start: Start, text: str) -> None:
    collector = FakeCollector()
    collector.state = replace(healthy_status(NOW), cases=case_list(hostile(text)))
    server = start(collector)
    body = server.get("/lost").data
    (found,) = valid(body)["cases"]
    shown = text.encode("utf-8", "replace").decode()
    assert found["id"] == found["task"] == found["evidence"] == shown
    assert body.count(b"\n") == 1
    msgspec.json.decode(body)  # refuses lone surrogates and control characters
    page = server.get("/")
    assert page.status == 200
    assert b"<script" not in page.data
    shown_on_page = Checker(page.data.decode()).text
    assert all(part in shown_on_page for part in shown.split())
    query = {"task": shown}
    assert len(valid(server.get("/lost", fields=query).data)["cases"]) == 1


texts = st.text(st.characters(exclude_categories=()), min_size=1, max_size=40)


@given(texts, st.floats(0, 4e9))
def test_any_name_makes_valid_json(text: str, at: float) -> None:
    listed = case_list(replace(hostile(text), started_at=at))
    (found,) = valid(lost_executions(listed, QueryParams("")))["cases"]
    assert found["worker"] == text.encode("utf-8", "replace").decode()


def test_thousand_cases(start: Start) -> None:
    cases = [case(number, task="y" * 255, evidence="e" * 255) for number in range(MAX_CASES)]
    server = serving(start, case_list(*cases, dropped=5))
    content = valid(server.get("/lost").data)
    assert [one["id"] for one in content["cases"]] == [f"id-{n}" for n in range(MAX_CASES)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.get("/lost").data, range(32)))
    assert len(set(answers)) == 1


def test_the_list_is_served_while_a_scrape_waits(start: Start) -> None:
    server = serving(start, case_list(case()), web_max_requests=1)
    server.collector.go.clear()
    scrape = threading.Thread(target=server.get, args=("/metrics",))
    scrape.start()
    assert server.collector.started.acquire(timeout=5)
    assert server.get("/lost").status == 200
    assert server.get("/lost", "HEAD").data == b""
    server.collector.go.set()
    scrape.join(10)
    assert server.collector.refreshed == [], "it probes nothing"


def test_the_list_needs_the_same_user(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users: {{alice: {hashed('right')}}}")
    server = serving(start, case_list(case()), web_config_file=file)
    assert (server.get("/lost").status, server.get("/lost").data) == (401, b"Unauthorized\n")
    assert server.get("/lost", headers=basic("alice", "right")).status == 200


def test_disabled_list_is_neither_served_nor_on_the_page(start: Start) -> None:
    server = serving(start, case_list(case()), web_lost=False)
    answer = server.get("/lost")
    assert answer.status == 404
    assert b"/lost" not in answer.data
    assert b"/stats, /worker/NAME" in answer.data
    page = server.get("/").data
    assert b'"lost"' not in page
    assert b"./lost" not in page
    assert b"id-0" not in page


def test_wsgi_serves_the_list() -> None:
    fake = FakeCollector()
    fake.state = cluster_status(cases=OF_TWO_KINDS)
    wsgi = WsgiApp(cast(Collector, fake), Settings())
    answer = Answer(wsgi, "/lost", QUERY_STRING="kind=poison")
    assert [one["id"] for one in valid(answer.body)["cases"]] == ["id-2"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["cache-control"] == "no-store"
    assert Answer(wsgi, "/lost", "HEAD").body == b""
    assert Answer(wsgi, "/lost", "POST").status == "405 Method Not Allowed"
    assert Answer(wsgi, "/lost", QUERY_STRING="kind=x").status == "400 Bad Request"
    without = WsgiApp(cast(Collector, fake), Settings(web_lost=False))
    assert Answer(without, "/lost").status == "404 Not Found"


def test_metrics_cannot_have_the_path_of_the_list(start: Start) -> None:
    with pytest.raises(ConfigError, match=r"--web.telemetry-path: /lost .* set --no-web.lost"):
        Settings(web_telemetry_path="/lost")
    server = start(web_telemetry_path="/lost", web_lost=False)
    assert b"celery_broker_up" in server.get("/lost").data


def test_page_without_cases() -> None:
    found = Checker(page_of(CaseList())).text
    assert "Lost and repeated Not observed: no task events have been received." in found
    found = Checker(page_of(case_list())).text
    assert "Lost and repeated None since 60 min ago ." in found
    found = Checker(page_of(case_list(stream_up=False))).text
    assert "None since 60 min ago ; no task events are received now." in found


def test_page_shows_the_newest_cases_and_links_the_list() -> None:
    cases = [case(number, list(CaseKind)[number % 5]) for number in range(1000)]
    page = page_of(case_list(*cases))
    assert re.findall(r">(id-\d+)<", page) == [f"id-{number}" for number in range(20)]
    found = Checker(page).text
    assert "980 more not shown. All cases as JSON: /lost ." in found
    assert page.count('href="./lost"') == 2
    assert "shop.pay id-0 ✗ lost worker_gone mail w@one 60 s ago" in found
    assert "id-1 • redelivered mail" in found
    for kind in ("overlapping", "repeated", "poison"):
        assert f"✗ {kind}" in found
    assert "more not shown" not in Checker(page_of(case_list(*cases[:20]))).text


def test_page_of_a_found_execution_and_an_unknown_start() -> None:
    found = Checker(page_of(case_list(case(found=True, started_at=0.0)))).text
    assert "• lost, found later worker_gone mail w@one unknown The worker" in found


def test_the_schema_lists_every_kind() -> None:
    content = json.loads(lost_executions(case_list(), QueryParams("")))
    assert list(content["counts"]) == [kind.value for kind in CaseKind]
