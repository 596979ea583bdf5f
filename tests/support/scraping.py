"""An exporter inside the test process, for tests that need no child process."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import redis
from celery import Celery
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from celery_vitals import Collector, Settings
from celery_vitals.deadline import Deadline
from tests.support.scrape import Scrape
from tests.support.servers import HOST, Broker, RedisServer

STATES = {"up", "busy", "not_consuming", "stalled", "draining", "gone"}


def state(scrape: Scrape, worker: str) -> str:
    """The one state whose value is 1."""
    states = {
        dict(labels)["state"]: value
        for labels, value in scrape.series("celery_worker_state").items()
        if dict(labels)["worker"] == f"{worker}@test"
    }
    assert set(states) == STATES
    assert sorted(states.values()) == [0] * 5 + [1]
    return max(states, key=states.__getitem__)


class LocalExporter:
    """A collector, and its metrics as text."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def scrape(self, seconds: float = 5.0, names: Collection[str] | None = None) -> Scrape:
        """One scrape with so many seconds to live."""
        started = time.monotonic()
        families = list(self.collector.scrape(Deadline.after(seconds), names))
        took = time.monotonic() - started
        return Scrape(
            200, generate_latest(cast(CollectorRegistry, _Given(families))).decode(), took
        )

    def blind_spots(self) -> dict[str, str]:
        """What the last scrapes have found to be unseen, by subject."""
        texts: dict[str, str] = {}
        for blind_spot in self.collector.status().blind_spots:
            texts[blind_spot.subject] = f"{texts.get(blind_spot.subject, '')}{blind_spot.reason} "
        return texts


class _Given:
    """What `generate_latest` wants of a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


@contextmanager
def local_exporter(
    broker: Broker, app: Celery | None = None, **settings: Any
) -> Iterator[LocalExporter]:
    """Look at a broker and its result backend, without a pause between rounds."""
    given: dict[str, Any] = {
        "broker_url": broker.url,
        "result_backend": broker.backend_url,
        "min_interval": 0,
    }
    if broker.management_url:
        given["rabbitmq_management_url"] = broker.management_url
    collector = Collector(Settings(**{**given, **settings}), app)
    try:
        yield LocalExporter(collector)
    finally:
        collector.close(Deadline.after(5.0))


def lengths(scrape: Scrape) -> dict[str, float]:
    """The lengths of all queues."""
    return scrape.by("queue", "celery_queue_length")


@contextmanager
def redis_client(broker: Broker) -> Iterator[redis.Redis]:
    """A connection of the test's own to a database of Redis."""
    assert isinstance(broker.server, RedisServer)
    with broker.server.client(int(broker.namespace or 0)) as connection:
        yield connection


EVERYTHING = {"broker", "backend", "workers", "queues", "tasks"}


def sees_everything(local: LocalExporter, worker: str, **lengths: int) -> bool:
    """Whether a scrape shows broker, backend, the worker, these queues, and that events come."""
    scrape = local.scrape()
    assert scrape.value("celery_broker_up") == 1
    assert scrape.value("celery_result_backend_up") == 1
    assert scrape.by("worker", "celery_worker_up") == {worker: 1}
    shown = scrape.by("queue", "celery_queue_length")
    assert {name: shown.get(name) for name in lengths} == lengths
    assert {
        name for name, ok in scrape.by("collector", "celery_scrape_collector_success").items() if ok
    } == EVERYTHING
    return sum(scrape.by("task", "celery_task_succeeded_total").values()) > 0


def failure_reasons(local: LocalExporter) -> set[str]:
    """Why the broker's collector has failed so far."""
    failures = local.scrape(2.0, ("broker",)).series("celery_probe_failures_total")
    return {dict(labels)["reason"] for labels in failures if dict(labels)["collector"] == "broker"}


def words(option: str, values: Mapping[str, Any]) -> list[str]:
    """A mapping as a repeated option of the command line."""
    return [word for name, value in values.items() for word in (option, f"{name}={value}")]


@contextmanager
def answering(bodies: dict[str, bytes]) -> Iterator[str]:
    """Yield the URL of a web server with these bodies by path; the path "" is the default."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bodies.get(self.path, bodies[""]))

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer((HOST, 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()
        thread.join()
