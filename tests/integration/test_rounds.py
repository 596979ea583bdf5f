"""Rounds of probes: which requests of the page and of Prometheus servers share one."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import urllib3

from tests.support.broker_inventory import broadcasts_on
from tests.support.exporter import Exporter
from tests.support.scrape import Scrape, scrape_url
from tests.support.servers import (
    Broker,
    PrometheusServer,
    Worker,
    publish,
    wait_for,
)

SLACK = 1.5
"""Seconds: what a busy machine may add to a deadline."""


@contextmanager
def exporter_of(broker: Broker) -> Iterator[Exporter]:
    """Start an exporter with the default of `--min-interval`, which publishes no canary."""
    with Exporter.of(broker, "--no-collector.tasks", min_interval=None) as exporter:
        yield exporter


def test_page_shows_the_cluster_before_any_scrape(broker: Broker) -> None:
    with Worker(broker, "solo", "w"), Exporter.of(broker) as exporter:
        publish(broker, "add", 1, 2, queue="waiting", count=3)
        status, page = exporter.get("/")
        assert status == 200
        for text in ("Broker: up", "Result backend: up", "1 worker up", ">w@test<", ">waiting<"):
            assert text in page
        assert "not run yet" not in page


def test_reloading_the_page_in_several_tabs_causes_one_round(broker: Broker) -> None:
    with (
        Worker(broker, "solo", "w", heartbeat=False),
        exporter_of(broker) as exporter,
        broadcasts_on(broker) as count,
    ):
        before = count()
        exporter.get("/")
        first = count()
        assert first > before
        with ThreadPoolExecutor(8) as tabs:
            for _ in range(4):
                pages = list(tabs.map(lambda _: exporter.get("/"), range(8)))
                assert {status for status, _ in pages} == {200}
                time.sleep(1)
        head = urllib3.request("HEAD", f"{exporter.address}/", timeout=5)
        assert (head.status, head.data) == (200, b"")
        assert count() == first


def test_page_answers_in_time_while_the_broker_hangs(broker: Broker) -> None:
    with Exporter.of(broker, "--timeout", "2") as exporter:
        with broker.server.paused(), ThreadPoolExecutor(6) as tabs:
            pages = list(tabs.map(lambda _: scrape_url(f"{exporter.address}/"), range(6)))
            assert {page.status for page in pages} == {200}
            assert max(page.seconds for page in pages) < 2 + SLACK
            assert all("Broker: down, timeout" in page.text for page in pages)
            again = scrape_url(f"{exporter.address}/")
            assert again.seconds < SLACK
            scrape = exporter.scrape(timeout=2)
            assert scrape.value("celery_broker_up") == 0
            assert scrape.seconds < 2 + SLACK
        wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)


def scrape_regularly(
    url: str, interval: float, first: float, until: float, ages: list[float]
) -> None:
    """Scrape over one connection, as Prometheus does; append the ages of the queue lengths."""
    with urllib3.HTTPConnectionPool(urlsplit(url).hostname or "", urlsplit(url).port) as pool:
        for number in itertools.count():
            at = first + number * interval
            if at > until:
                return
            time.sleep(max(0.0, at - time.monotonic()))
            text = pool.request("GET", "/metrics", timeout=5).data.decode()
            scrape = Scrape(200, text, 0.0)
            name = "celery_probe_last_success_timestamp_seconds"
            ages.append(time.time() - (scrape.value(name, collector="queues") or 0.0))


@pytest.mark.parametrize("phase", [1.2, 1.8])
def test_two_servers_cause_as_many_rounds_as_one(broker: Broker, phase: float) -> None:
    interval, rounds = 3.0, 3
    with (
        Worker(broker, "solo", "w", heartbeat=False),
        exporter_of(broker) as exporter,
        broadcasts_on(broker) as count,
    ):
        exporter.scrape()
        ages: list[float] = []
        start = time.monotonic() + 1.1
        # The first two scrapes of each connection make its interval known.
        settled = start + phase + interval + 0.5
        until = settled + rounds * interval
        threads = [
            threading.Thread(
                target=scrape_regularly, args=(exporter.address, interval, first, until, ages)
            )
            for first in (start, start + phase)
        ]
        for thread in threads:
            thread.start()
        time.sleep(max(0.0, settled - time.monotonic()))
        before = count()
        for thread in threads:
            thread.join()
        assert 0 < count() - before <= rounds
        assert max(ages) < interval / 2 + SLACK


def test_prometheus_servers_cause_no_more_than_two_rounds_per_interval(
    redis_broker: Broker,
) -> None:
    interval, seconds, servers = 6.0, 24.0, 12
    with Worker(redis_broker, "solo", "w", heartbeat=False), exporter_of(redis_broker) as exporter:
        target = urlsplit(exporter.address).netloc
        # Each job has its own phase and its own connection.
        jobs = [
            {"job_name": f"job-{number}", "static_configs": [{"targets": [target]}]}
            for number in range(servers - 1)
        ]
        with (
            PrometheusServer([target], interval=interval, jobs=jobs) as prometheus,
            broadcasts_on(redis_broker) as count,
        ):
            settled = "count_over_time(up[1m]) >= 2"
            wait_for(lambda: len(prometheus.query(settled)) == servers, timeout=60)
            before, started = count(), time.monotonic()
            time.sleep(seconds)
            assert count() - before <= 2 * ((time.monotonic() - started) / interval + 1)
            assert [one["lastError"] for one in prometheus.targets()] == [""] * servers
