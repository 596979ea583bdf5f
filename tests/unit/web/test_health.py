"""The paths /health, /worker and /queue: status codes, queries, errors, and shared rounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast
from urllib.parse import quote

import pytest

from celery_vitals.exporter import Collector
from celery_vitals.settings import Settings
from celery_vitals.status import ClusterStatus
from celery_vitals.web.wsgi import WsgiApp
from celery_vitals.workers.state import State
from tests.support import health
from tests.support.schemas import valid_json
from tests.support.web_fakes import FakeCollector
from tests.unit.web.conftest import Running, Start

UNSERVED = health.healthy(queues=(health.queue(length=2, workers=0, consumers=0),))
DEGRADED = health.failed("backend")
UNKNOWN = health.failed("queues", queues=())
PENDING = health.healthy(
    collectors=tuple(health.run(name, None) for name in health.NAMES),
    workers=(),
    queues=(),
    workers_known=False,
)
NAMES = ["w@h", "a/b@h", "/", "w ö?#%2F@h", "../x", "w@h/"]


@pytest.fixture
def fake() -> FakeCollector:
    fake = FakeCollector()
    fake.verdict_at = health.NOW
    fake.state = health.healthy()
    return fake


def content(web: Running, path: str, status: int, schema: str, **options: Any) -> dict[str, Any]:
    answer = web.get(path, **options)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    return valid_json(answer.data, schema)


# /health


@pytest.mark.parametrize(
    ("status", "word", "code", "strict"),
    [
        (health.healthy(), "healthy", 200, 200),
        (DEGRADED, "degraded", 200, 503),
        (UNSERVED, "unhealthy", 503, 503),
        (UNKNOWN, "unknown", 200, 503),
        (PENDING, "unknown", 200, 503),
        (health.failed("broker"), "unhealthy", 503, 503),
        (health.healthy(tasks=None, backend="", workers=(), queues=()), "unhealthy", 503, 503),
    ],
)
def test_status_code_is_that_of_the_verdict(
    start: Start, fake: FakeCollector, status: ClusterStatus, word: str, code: int, strict: int
) -> None:
    fake.state = status
    web = start(fake)
    for query, expected in (("", code), ("?strict=0", code), ("?strict=1", strict)):
        assert content(web, f"/health{query}", expected, "health")["status"] == word


def test_document_is_bounded_and_the_worst_are_listed(start: Start, fake: FakeCollector) -> None:
    queues = tuple(health.queue(f"q{place:04}", length=place) for place in range(2500))
    fake.state = health.healthy(queues=queues)
    document = content(start(fake), "/health", 200, "health")
    assert document["queues"]["omitted"] == document["queues"]["count"] - 1000 == 1500
    assert document["queues"]["list"][0]["name"] == "q2499"
    assert (len(document["findings"]), document["omitted_findings"]) == (1000, 499)


@pytest.mark.parametrize("query", ["?strict=2", "?strict=1&strict=0", "?stric=1", "?strict=1&x"])
@pytest.mark.parametrize("path", ["/health", "/worker/w@h", "/queue/celery"])
def test_invalid_query_is_rejected(
    start: Start, fake: FakeCollector, path: str, query: str
) -> None:
    assert "strict" in content(start(fake), path + query, 400, "error")["error"]


@pytest.mark.parametrize(
    ("path", "age", "started", "waits"),
    [
        ("/health", 0.0, 0, 0),
        ("/health", 4.9, 0, 0),
        ("/health", 6.0, 1, 0),
        ("/health", 14.9, 1, 0),
        ("/health", 16.0, 0, 1),
        ("/health", None, 0, 1),
        ("/queue/celery", 14.9, 0, 0),
        ("/queue/celery", 16.0, 0, 1),
        ("/worker/w@h", 59.0, 0, 0),
        ("/worker/w@h", 61.0, 0, 1),
    ],
)
def test_old_results_are_refreshed_and_awaited_only_when_they_are_too_old(
    start: Start, fake: FakeCollector, path: str, age: float | None, started: int, waits: int
) -> None:
    fake.age = age
    assert start(fake).get(path).status == 200
    assert (len(fake.started_refreshes), len(fake.refreshed)) == (started, waits)


def test_failure_of_the_verdict_is_reported_without_its_text(
    start: Start, fake: FakeCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(max_age: float = 1.0) -> None:
        raise RuntimeError("redis://:secret@h")

    monkeypatch.setattr(fake, "observe", fail)
    web = start(fake)
    for path in ("/health", "/worker/w@h", "/queue/celery"):
        assert "secret" not in content(web, path, 500, "error")["error"]


# /health/live and /health/ready


def test_liveness_depends_on_nothing(start: Start, fake: FakeCollector) -> None:
    fake.state, fake.age = health.failed("broker"), None
    answer = start(fake).get("/health/live")
    assert (answer.status, answer.json()) == (200, {"status": "alive"})
    assert fake.refreshed == fake.started_refreshes == []


def test_ready_once_every_collector_has_a_result(start: Start, fake: FakeCollector) -> None:
    web, fake.age = start(fake), None
    answer = web.get("/health/ready")
    assert (answer.status, answer.json()) == (503, {"status": "starting"})
    assert len(fake.started_refreshes) == 1
    fake.state, fake.age = health.failed("broker"), 500.0
    answer = web.get("/health/ready")
    assert (answer.status, answer.json()) == (200, {"status": "ready"})
    assert web.get("/health/ready?x=1").status == 400


# /worker and /queue


@pytest.mark.parametrize(
    ("state", "word", "code", "strict"),
    [
        (State.UP, "healthy", 200, 200),
        (State.BUSY, "healthy", 200, 200),
        (State.DRAINING, "healthy", 200, 200),
        (State.NOT_CONSUMING, "degraded", 200, 503),
        (State.STALLED, "degraded", 200, 503),
        (State.GONE, "unhealthy", 503, 503),
    ],
)
def test_worker_in_each_state(
    start: Start, fake: FakeCollector, state: State, word: str, code: int, strict: int
) -> None:
    up, offline = state not in (State.GONE, State.DRAINING), state is State.DRAINING
    one = health.worker(state=state, up=up, offline=offline)
    fake.state = health.healthy(workers=(health.worker("other@h"), one))
    web = start(fake)
    for query, expected in (("", code), ("?strict=1", strict)):
        document = content(web, f"/worker/w@h{query}", expected, "worker")
        assert (document["status"], document["worker"]["state"]) == (word, state.value)


@pytest.mark.parametrize(
    ("queue", "word", "code", "strict"),
    [
        (health.queue(), "healthy", 200, 200),
        (health.queue(length=None), "unknown", 200, 200),
        (health.queue(length=5000), "degraded", 200, 503),
        (health.queue(length=1, workers=0, consumers=0), "unhealthy", 503, 503),
    ],
)
def test_queue_in_each_state(
    start: Start, fake: FakeCollector, queue: Any, word: str, code: int, strict: int
) -> None:
    fake.state = health.healthy(queues=(health.queue("other"), queue))
    web = start(fake)
    for query, expected in (("", code), ("?strict=1", strict)):
        document = content(web, f"/queue/celery{query}", expected, "queue")
        assert (document["status"], document["queue"]["name"]) == (word, "celery")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wsgi", [False, True])
def test_names_may_contain_any_character(
    start: Start, fake: FakeCollector, name: str, wsgi: bool
) -> None:
    fake.state = health.healthy(workers=(health.worker(name),), queues=(health.queue(name),))
    for path in ("/worker/", "/queue/"):
        if wsgi:
            body = wsgi_body(fake, path + name)
        else:
            body = start(fake).get(path + quote(name, safe="")).data
        assert valid_json(body, path.strip("/"))[path.strip("/")]["name"] == name


def wsgi_body(fake: FakeCollector, path: str) -> bytes:
    app = WsgiApp(cast(Collector, fake), Settings())
    raw = path.encode().decode("latin-1")
    env = {"REQUEST_METHOD": "GET", "PATH_INFO": raw, "QUERY_STRING": ""}
    return b"".join(app(env, lambda status, headers: None))


@pytest.mark.parametrize("path", ["/worker/absent", "/worker/", "/worker/w@h/"])
def test_unknown_worker_is_answered_with_the_known_names(
    start: Start, fake: FakeCollector, path: str
) -> None:
    document = content(start(fake), path, 404, "error")
    assert (document["known"], document["omitted"]) == (["w@h"], 0)


def test_unknown_queue_is_answered_with_the_known_names(start: Start, fake: FakeCollector) -> None:
    assert content(start(fake), "/queue/absent", 404, "error")["known"] == ["celery"]
    assert b'"known": ["celery"]' in wsgi_body(fake, "/queue/absent")


@pytest.mark.parametrize("status", [PENDING, health.failed("workers", "queues", queues=())])
def test_name_is_unknown_and_not_absent_while_nothing_is_observed(
    start: Start, fake: FakeCollector, status: ClusterStatus
) -> None:
    fake.state = replace(status, workers=())
    web = start(fake)
    for what in ("worker", "queue"):
        for query in ("", "?strict=1"):
            document = content(web, f"/{what}/any{query}", 200, what)
            assert (document["status"], document[what]) == ("unknown", None)


def test_worker_is_unknown_while_the_broker_is_down(start: Start, fake: FakeCollector) -> None:
    fake.state = health.failed("broker", "workers", "queues", workers_known=False)
    document = content(start(fake), "/worker/w@h?strict=1", 200, "worker")
    assert (document["status"], document["worker"]["up"]) == ("unknown", True)


# Errors


def test_errors_are_json_where_json_is_expected(start: Start, fake: FakeCollector) -> None:
    web = start(fake)
    for path in ("/health/nowhere", "/worker", "/queue"):
        assert "Not found" in content(web, path, 404, "error")["error"]
    assert content(web, "/health", 405, "error", method="POST")["error"]
    asked = {"headers": {"Accept": "application/json"}}
    assert "Not found" in content(web, "/nowhere", 404, "error", **asked)["error"]
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    assert web.get("/nowhere", headers=browser).headers["Content-Type"].startswith("text/plain")
    assert web.get("/health", method="HEAD").status == 200
