"""A real Prometheus scrapes the exporter."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.support.exporter import Exporter
from tests.support.servers import Broker, PrometheusServer, Worker, wait_for


def test_prometheus_scrapes_without_an_error_and_answers_from_it(broker: Broker) -> None:
    with Worker(broker, "threads", "w"), Exporter.of(broker) as exporter:
        target = urlsplit(exporter.address).netloc
        with PrometheusServer([target], interval=1.0) as prometheus:
            wait_for(
                lambda: prometheus.query("count_over_time(celery_worker_up[1m]) >= 8"), timeout=30
            )

            def answer(expression: str) -> list[float]:
                return [value for _, value in prometheus.query(expression)]

            assert answer("min_over_time(up[1m])") == [1]
            assert answer("min_over_time(celery_worker_up[1m])") == [1]
            # The time that Prometheus gives, 1 s, less the offset.
            [budget] = answer("celery_scrape_timeout_seconds")
            assert 0.4 < budget <= 0.5
            assert [one["lastError"] for one in prometheus.targets()] == [""]
