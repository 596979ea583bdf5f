"""New counters over HTTP: each connection with Prometheus's header gets 0 first."""

from __future__ import annotations

import threading

import urllib3

from celery_vitals.metrics.base import MetricGroup
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.tables import ValueTable
from tests.support.servers.waiting import wait_for
from tests.support.web_fakes import FakeCollector

from .conftest import Running, Start

FAILED = MetricGroup("tasks").counter("celery_task_failed_total", help="Failed.")
HEADERS = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}


def failing(start: Start) -> tuple[Running, ValueTable]:
    """Start a server with one counter."""
    collector = FakeCollector()
    table = ValueTable(FAILED, CardinalityLimiter({}, 10, threading.Lock(), collector.births))
    collector.families = [table.family()]
    return start(collector), table


def value(running: Running, pool: urllib3.PoolManager, **headers: str) -> float | None:
    """Scrape; None while the series is absent."""
    text = pool.request("GET", running.url + "/metrics", headers=headers).data.decode()
    values = [line.split()[1] for line in text.splitlines() if line.startswith(FAILED.name)]
    return float(values[0]) if values else None


def test_each_scraper_gets_zero_before_the_value_and_others_get_the_value(start: Start) -> None:
    running, table = failing(start)
    with urllib3.PoolManager() as first, urllib3.PoolManager() as second:
        assert value(running, first, **HEADERS) is None
        assert value(running, second, **HEADERS) is None
        table.series().value += 200
        assert value(running, first, **HEADERS) == 0
        assert value(running, running.pool) == 200
        assert value(running, first, **HEADERS) == 0
        assert value(running, second, **HEADERS) == 0
        assert value(running, first, **HEADERS) == 200
        assert value(running, second, **HEADERS) == 200
        table.series().value += 1
        assert value(running, first, **HEADERS) == 201


def test_without_prometheus_no_value_is_held(start: Start) -> None:
    running, table = failing(start)
    assert value(running, running.pool) is None
    table.series().value += 3
    assert value(running, running.pool) == 3


def test_a_scraper_that_opens_a_connection_for_each_scrape_gets_zero_once(start: Start) -> None:
    running, table = failing(start)

    def scrape() -> float | None:
        with urllib3.PoolManager() as pool:
            found = value(running, pool, **HEADERS)
        wait_for(lambda: not running.server._server.open_connections())
        return found

    assert scrape() is None
    table.series().value += 200
    assert [scrape() for _ in range(3)] == [0, 200, 200]
