"""`/metrics`: formats, compression, selection of collectors, deadline, limits, errors."""

from __future__ import annotations

import gzip
import logging
import threading
import time
from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from celery_vitals.web.negotiation import accepts_gzip, budget
from tests.support.web_fakes import FakeCollector
from tests.unit.web.conftest import Start

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def names(families: Iterable[Metric]) -> set[str]:
    return {family.name for family in families}


def test_text_is_the_default(start: Start) -> None:
    answer = start().get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert {
        "celery_broker_up",
        "process_cpu_seconds",
        "python_info",
        "python_gc_collections",
    } <= names(parse_text(answer.data.decode()))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("nonsense", "text/plain; version=0.0.4"),
        ("text/plain;version=x.y", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=a",
            "",
        ),  # which format depends on the version of prometheus_client
    ],
)
def test_invalid_accept_header_gets_text_format(start: Start, accept: str, kind: str) -> None:
    answer = start().get("/metrics", headers={"Accept": accept})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(kind)
    assert b"celery_broker_up 1.0" in answer.data


def test_openmetrics(start: Start) -> None:
    answer = start().get("/metrics", headers={"Accept": OPENMETRICS})
    assert answer.headers["Content-Type"].startswith(
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert "celery_broker_up" in names(parse_openmetrics(answer.data.decode()))  # type: ignore[no-untyped-call]


def test_gzip(start: Start) -> None:
    server = start()
    answer = server.get("/metrics", headers={"Accept-Encoding": "gzip"}, decode_content=False)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b"celery_broker_up 1.0" in gzip.decompress(answer.data)
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert (
        "Content-Encoding"
        not in server.get("/metrics", headers={"Accept-Encoding": "gzip;q=0"}).headers
    )


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip; q=0.2, identity", False),
        ("gzip;q=0.8, identity; q=0.5", True),
        ("gzip;q=much", False),
        ("br", False),
        (",,", False),
    ],
)
def test_which_accept_encodings_mean_gzip(header: str, expected: bool) -> None:
    assert accepts_gzip(header) is expected


def test_head_has_the_headers_and_no_body(start: Start) -> None:
    server = start(web_disable_exporter_metrics=True)
    head, get = server.get("/metrics", "HEAD"), server.get("/metrics")
    assert (head.status, head.data) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert head.headers["Content-Length"] == str(len(get.data))


def test_the_path_of_the_metrics_is_a_setting(start: Start) -> None:
    server = start(web_telemetry_path="/celery/vitals")
    assert b"celery_broker_up" in server.get("/celery/vitals").data
    assert server.get("/metrics").status == 404
    assert b'href="./celery/vitals"' in server.get("/").data


def test_metrics_at_the_root_replace_the_page(start: Start) -> None:
    assert b"celery_broker_up" in start(web_telemetry_path="/").get("/").data


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", None),
        ("?collect[]=queues&collect[]=broker", ("broker", "queues")),
        ("?collect%5B%5D=broker&collect[]=broker", ("broker",)),
        ("?exclude[]=workers", ("broker", "backend", "queues")),
        ("?" + "&".join(f"exclude[]={name}" for name in FakeCollector.names), ()),
        ("?other=1", None),
    ],
)
def test_collectors_are_selected(
    start: Start, query: str, expected: tuple[str, ...] | None
) -> None:
    server = start()
    assert server.get("/metrics" + query).status == 200
    assert server.collector.asked[0][1] == expected


@pytest.mark.parametrize(
    "query",
    ["?collect[]=brokers", "?exclude[]=", "?collect[]=broker&exclude[]=queues", "?collect[]=a%0Ab"],
)
def test_invalid_collector_selection_is_one_line(start: Start, query: str) -> None:
    server = start()
    answer = server.get("/metrics" + query)
    assert answer.status == 400
    assert answer.data.count(b"\n") == 1
    assert b"(expected one of: broker, backend, workers, queues)" in answer.data
    assert server.collector.asked == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("10", 9.5),
        ("3.25", 2.75),
        (" 3 ", 2.5),
        ("0.2", 0.1),
        ("0.0001", 0.1),
        ("1e300", 3599.5),
        (None, 5.0),
        ("", 5.0),
        ("soon", 5.0),
        ("0", 5.0),
        ("-3", 5.0),
        ("nan", 5.0),
        ("inf", 5.0),
    ],
)
def test_the_budget_comes_from_the_header(header: str | None, expected: float) -> None:
    assert budget(header, default=5.0, offset=0.5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("header", "expected"), [("8", 6.0), ("0.01", 0.1), ("garbage", 3.0), (None, 3.0)]
)
def test_the_collector_gets_the_deadline(start: Start, header: str | None, expected: float) -> None:
    server = start(timeout=3.0, timeout_offset=2.0)
    headers = {"X-Prometheus-Scrape-Timeout-Seconds": header} if header else {}
    assert server.get("/metrics", headers=headers).status == 200
    remaining = server.collector.asked[0][0]
    assert expected - 0.1 < remaining <= expected or (expected == 0.1 and 0 <= remaining <= 0.1)


def test_scrapes_over_the_limit_are_rejected_and_healthy_still_responds(start: Start) -> None:
    server = start(web_max_requests=2)
    server.collector.go.clear()
    statuses: list[int] = []
    clients = [
        threading.Thread(target=lambda: statuses.append(server.get("/metrics").status))
        for _ in range(2)
    ]
    for client in clients:
        client.start()
        assert server.collector.started.acquire(timeout=5)
    before = time.monotonic()
    busy = server.get("/metrics")
    assert (busy.status, busy.data.count(b"\n")) == (503, 1)
    assert b"--web.max-requests" in busy.data
    assert server.get("/-/healthy").data == b"ok\n"
    assert server.get("/").status == 200
    assert time.monotonic() - before < 1
    server.collector.go.set()
    for client in clients:
        client.join(5)
    assert statuses == [200, 200]
    assert server.get("/metrics").status == 200


def test_slot_is_held_by_the_scrape_not_by_the_client(start: Start) -> None:
    server = start(web_max_requests=1)
    server.collector.go.clear()
    with pytest.raises(Exception, match="timed out"):
        server.get("/metrics", timeout=0.3)
    assert server.get("/metrics").status == 503
    server.collector.go.set()
    until = time.monotonic() + 5
    while server.get("/metrics").status == 503 and time.monotonic() < until:
        time.sleep(0.02)
    assert server.get("/metrics").status == 200


def test_without_threads_a_scrape_is_rejected_and_its_slot_released(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(web_max_requests=1)

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("celery_vitals.web.threads.threading.Thread.start", refuse)
        assert [server.get("/metrics").status for _ in range(2)] == [503, 503]
    assert server.get("/metrics").status == 200


def test_process_metrics_can_be_disabled(start: Start) -> None:
    assert start(web_disable_exporter_metrics=True).get("/metrics").data == (
        b"# HELP celery_broker_up Whether the broker answers.\n"
        b"# TYPE celery_broker_up gauge\n"
        b"celery_broker_up 1.0\n"
    )


def test_exception_keeps_other_samples_and_is_logged_once(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "celery_vitals")
    server = start()
    server.collector.error = ValueError("redis://:hunter2@broker/0")
    for _ in range(3):
        answer = server.get("/metrics")
        assert answer.status == 200
        assert {"celery_broker_up", "process_cpu_seconds"} <= names(
            parse_text(answer.data.decode())
        )
    assert sum("scrape failed" in line for line in caplog.messages) == 1
    assert "ValueError in scrape (web_fakes.py:" in caplog.text
    assert "hunter2" not in caplog.text
    server.collector.error = None
    server.get("/metrics")
    assert "scrape recovered" in caplog.messages
    server.collector.error = ValueError()
    server.get("/metrics")
    assert sum("scrape failed" in line for line in caplog.messages) == 2


def test_failed_process_collector_keeps_the_others(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> Iterable[Metric]:
        raise OSError("no /proc")

    monkeypatch.setattr("prometheus_client.ProcessCollector.collect", broken)
    found = names(parse_text(start().get("/metrics").data.decode()))
    assert {"celery_broker_up", "python_info", "python_gc_collections"} <= found
    assert "process_cpu_seconds" not in found


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_family_that_cannot_be_encoded_is_skipped(
    start: Start, accept: str, caplog: pytest.LogCaptureFixture
) -> None:
    collector = FakeCollector()
    bad = CounterMetricFamily("celery_bad", "Its value is no number.")
    bad.add_metric([], "many")  # type: ignore[arg-type]
    collector.families = [bad, GaugeMetricFamily("celery_good", "Good.", 1)]
    server = start(collector)
    for _ in range(2):
        answer = server.get("/metrics", headers={"Accept": accept})
        assert answer.status == 200
        assert b"celery_good 1.0" in answer.data
        assert b"celery_bad" not in answer.data
    assert sum("encoding celery_bad failed" in line for line in caplog.messages) == 1
