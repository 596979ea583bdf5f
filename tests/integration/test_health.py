"""The verdict on real brokers and workers: /health, /worker and /queue of a running exporter."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import redis

from tests.support.exporter import Exporter
from tests.support.schemas import valid_json
from tests.support.servers import Broker, Worker, publish, wait_for


def document(exporter: Exporter, path: str = "/health", schema: str = "health") -> dict[str, Any]:
    """Return the response, with its status code as `code`."""
    status, text = exporter.get(path)
    return {**valid_json(text, schema), "code": status}


def codes(exporter: Exporter) -> set[str]:
    return {finding["code"] for finding in document(exporter)["findings"]}


def until(exporter: Exporter, status: str) -> dict[str, Any]:
    """Wait for a status of the verdict; requests start the probes."""
    last: list[dict[str, Any]] = []

    def there() -> bool:
        last[:] = [document(exporter)]
        assert last[0]["status"] == status, last[0]
        return True

    wait_for(there, 40.0, interval=0.2, what=status, ignoring=(AssertionError,))
    return last[0]


def test_cluster_with_work_and_without_enough_workers(broker: Broker) -> None:
    expected = ("--queue", "lonely", "--app", "project.app:app")
    limits = ("--health.min-workers", "2", "--health.queue-min-workers", "celery=2")
    with Worker(broker, "prefork", "one", events=True):
        with Exporter.of(broker, *expected, min_interval=None) as exporter:
            healthy = until(exporter, "healthy")
            assert (healthy["code"], healthy["findings"]) == (200, [])
            assert healthy["workers"]["names"] == ["one@test"]
            publish(broker, "add", 1, 2, queue="lonely")
            unserved = until(exporter, "unhealthy")
            (finding,) = unserved["findings"]
            assert (unserved["code"], finding["code"]) == (503, "queue_unserved")
            assert finding["recommendation"] == "celery -A project.app:app worker -Q lonely"
            assert document(exporter, "/queue/lonely", "queue")["code"] == 503
            assert document(exporter, "/queue/celery", "queue")["status"] == "healthy"
        with Exporter.of(
            broker, *expected, *limits, "--queue-limit", "lonely=0", min_interval=None
        ) as exporter:
            until(exporter, "unhealthy")
            missing = {"workers_missing", "queue_workers_missing"}
            assert codes(exporter) == missing | {"queue_unserved", "queue_over_limit"}


def test_broker_that_stops_is_unhealthy_and_its_workers_unknown(own_broker: Broker) -> None:
    with (
        Worker(own_broker, "prefork", "one", events=True),
        Exporter.of(own_broker, min_interval=None) as exporter,
    ):
        until(exporter, "healthy")
        own_broker.server.stop()
        down = until(exporter, "unhealthy")
        assert [finding["code"] for finding in down["findings"]] == ["broker_down"]
        assert (down["code"], down["broker"]["status"]) == (503, "down")
        name = quote("one@test", safe="")
        worker = document(exporter, f"/worker/{name}?strict=1", "worker")
        assert (worker["code"], worker["status"]) == (200, "unknown")
        assert document(exporter, "/worker/other", "worker")["status"] == "unknown"
        own_broker.server.start()
        until(exporter, "healthy")
        status, text = exporter.get("/worker/other")
        assert (status, valid_json(text, "error")["known"]) == (404, ["one@test"])


def test_killed_worker_is_down(redis_broker: Broker) -> None:
    with (
        Worker(redis_broker, "prefork", "other", events=True),
        Worker(redis_broker, "prefork", "killed", events=True, queues=("celery",)) as worker,
        Exporter.of(redis_broker, "--worker-timeout", "5", min_interval=None) as exporter,
    ):
        until(exporter, "healthy")
        worker.kill()
        degraded = until(exporter, "degraded")
        (finding,) = degraded["findings"]
        assert (finding["code"], finding["subject"]) == ("worker_down", "killed@test")
        assert document(exporter, "/worker/killed@test", "worker")["code"] == 503
        assert document(exporter, "/worker/other@test", "worker")["code"] == 200


def test_many_requests_cost_the_broker_one_round(redis_broker: Broker) -> None:
    with (
        Worker(redis_broker, "prefork", "one", events=True),
        Exporter.of(redis_broker, "--no-collector.tasks", min_interval=None) as exporter,
        redis.Redis.from_url(redis_broker.url) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        until(exporter, "healthy")

        def published() -> int:
            return int(client.info("commandstats").get("cmdstat_publish", {}).get("calls", 0))

        before, started = published(), time.monotonic()
        results = list(threads.map(lambda _: exporter.get("/health")[0], range(200)))
        rounds = 1 + (time.monotonic() - started) / 5
        assert results == [200] * 200
        # A round sends at most three commands; the worker sends its heartbeats every two seconds.
        assert published() - before <= 3 * rounds + rounds * 5 / 2 + 2
