"""The path /health: status codes, queries, and how it shares rounds of probes."""

from __future__ import annotations

import json

import pytest

from celery_vitals.status import ClusterStatus
from tests.support import health
from tests.support.web_fakes import FakeCollector
from tests.unit.web.conftest import Start

UNSERVED = health.healthy(queues=(health.queue(length=2, workers=0, consumers=0),))
DEGRADED = health.failed("backend")
UNKNOWN = health.failed("queues")


@pytest.fixture
def fake() -> FakeCollector:
    fake = FakeCollector()
    fake.verdict_at = health.NOW
    fake.state = health.healthy()
    return fake


@pytest.mark.parametrize(
    ("status", "word", "code", "strict"),
    [
        (health.healthy(), "healthy", 200, 200),
        (DEGRADED, "degraded", 200, 503),
        (UNSERVED, "unhealthy", 503, 503),
        (UNKNOWN, "unknown", 200, 200),
    ],
)
def test_status_code_is_that_of_the_verdict(
    start: Start, fake: FakeCollector, status: ClusterStatus, word: str, code: int, strict: int
) -> None:
    fake.state = status
    web = start(fake)
    for query, expected in (("", code), ("?strict=0", code), ("?strict=1", strict)):
        answer = web.get(f"/health{query}")
        assert answer.status == expected
        assert json.loads(answer.data)["status"] == word
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("query", ["?strict=2", "?strict=1&strict=0", "?stric=1", "?strict=1&x"])
def test_invalid_query_is_rejected(start: Start, fake: FakeCollector, query: str) -> None:
    assert start(fake).get(f"/health{query}").status == 400


@pytest.mark.parametrize(
    ("age", "started", "waits"),
    [(0.0, 0, 0), (4.9, 0, 0), (6.0, 1, 0), (14.9, 1, 0), (16.0, 1, 1), (None, 1, 1)],
)
def test_old_results_are_refreshed_and_awaited_only_when_they_are_too_old(
    start: Start, fake: FakeCollector, age: float | None, started: int, waits: int
) -> None:
    fake.age = age
    assert start(fake).get("/health").status == 200
    assert (len(fake.started_refreshes), len(fake.refreshed)) == (started, waits)
