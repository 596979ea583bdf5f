from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from celery_vitals.demo.brokers import free_port
from celery_vitals.demo.scrape import ScrapeError, fetch, parse
from tests.support.demo_samples import GOOD


def test_a_complete_scrape_meets_all_conditions() -> None:
    assert parse(GOOD, 0.01).missing() == []


@pytest.mark.parametrize(
    ("line", "instead", "problem"),
    [
        ("celery_broker_up 1", "celery_broker_up 0", "celery_broker_up is not 1"),
        ("celery_result_backend_up 1", "", "celery_result_backend_up is not 1"),
        (
            'celery_worker_up{worker="media@demo"} 1',
            'celery_worker_up{worker="media@demo"} 0',
            "celery_worker_up is 1 for 1 workers (expected 2)",
        ),
        (
            'celery_worker_pool_slots{worker="media@demo"} 4',
            "",
            "celery_worker_pool_slots is missing for a worker",
        ),
        (
            'celery_queue_length{queue="reports"} 5',
            "",
            'celery_queue_length{queue="reports"} is not above 0',
        ),
        (
            'celery_queue_workers{queue="reports"} 0',
            "",
            'celery_queue_workers{queue="reports"} is not 0',
        ),
    ],
)
def test_unmet_conditions_are_listed(line: str, instead: str, problem: str) -> None:
    assert line in GOOD
    assert problem in parse(GOOD.replace(line, instead), 0.01).missing()


def test_celery_text_has_only_the_celery_metrics() -> None:
    text = parse(GOOD, 0.01).celery_text
    assert "process_" not in text
    assert text.startswith("# HELP celery_broker_up ")
    assert (
        text.count("\n") == GOOD.count("\n") - 3
    )  # HELP, TYPE and sample of process_cpu_seconds_total


def test_samples_are_found_by_labels() -> None:
    scrape = parse(GOOD, 0.01)
    assert scrape.value("celery_queue_length", queue="reports") == 5
    assert scrape.value("celery_queue_length", queue="nowhere") is None
    assert scrape.by("celery_worker_tasks_accepted_total", "worker") == {
        "orders@demo": 12,
        "media@demo": 2,
    }
    assert scrape.info("celery_worker_info", "worker")["media@demo"] == {
        "pool": "threads",
        "version": "5.7.0",
    }


class _Server:
    status, text = 200, GOOD
    asked: dict[str, str]


@pytest.fixture
def server() -> Iterator[tuple[_Server, int]]:
    answers = _Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.asked = dict(self.headers)
            self.send_response(answers.status)
            self.end_headers()
            self.wfile.write(answers.text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.05,))
        thread.start()
        yield answers, web.server_port
        web.shutdown()
        thread.join()


def test_fetch_sends_the_scrape_timeout_and_ignores_proxies(
    server: tuple[_Server, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    answers, port = server
    scrape = fetch(port, timeout=3)
    assert scrape.text == GOOD
    assert 0 < scrape.seconds < 3
    assert answers.asked["X-Prometheus-Scrape-Timeout-Seconds"] == "3"


def test_an_error_status_raises_scrape_error(server: tuple[_Server, int]) -> None:
    server[0].status = 503
    with pytest.raises(ScrapeError, match="/metrics returned status 503"):
        fetch(server[1])


def test_a_malformed_exposition_raises_scrape_error(server: tuple[_Server, int]) -> None:
    server[0].text = "<html>hello</html>"
    with pytest.raises(ScrapeError, match="no exposition"):
        fetch(server[1])


def test_a_refused_connection_raises_scrape_error() -> None:
    with pytest.raises(ScrapeError, match="no response"):
        fetch(free_port())
