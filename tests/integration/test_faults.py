"""Broker failures: hanging, down, slow, refusing; every scrape answers in time with a reason."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from prometheus_client import CollectorRegistry

from celery_vitals import Collector, Settings
from celery_vitals.deadline import Deadline
from tests.support.exporter import Exporter
from tests.support.scrape import Scrape
from tests.support.servers import (
    HOST,
    Broker,
    Fault,
    Proxy,
    RabbitMQServer,
    RedisServer,
    Worker,
    free_port,
    wait_for,
)

SLACK = 1.0
"""Seconds: what a busy machine may add to a deadline."""


def failures(scrape: Scrape, collector: str = "broker") -> dict[str, float]:
    """Failed runs of a collector by reason."""
    return {
        dict(labels)["reason"]: value
        for labels, value in scrape.series("celery_probe_failures_total").items()
        if dict(labels)["collector"] == collector
    }


def resources(exporter: Exporter) -> tuple[int, int]:
    """Threads and connections of the exporter's process."""
    process = psutil.Process(exporter.pid)
    return process.num_threads(), len(process.net_connections())


@contextmanager
def collecting(**settings: Any) -> Iterator[Collector]:
    """A collector in this process."""
    collector = Collector(Settings(min_interval=0, **settings))
    try:
        yield collector
    finally:
        collector.close(Deadline.after(2))


def broker_reason(collector: Collector, timeout: float = 5.0) -> str:
    """Why the broker's collector fails; empty when it does not."""
    registry = CollectorRegistry()
    registry.register(collector)
    families = {family.name: family for family in collector.scrape(Deadline.after(timeout))}
    assert families["celery_broker_up"].samples[0].value in (0, 1)
    failed = families.get("celery_probe_failures")
    return (
        ",".join(s.labels["reason"] for s in failed.samples if s.labels["collector"] == "broker")
        if failed
        else ""
    )


def test_frozen_broker_exceeds_no_scrape_timeout_and_accumulates_no_threads(
    broker: Broker,
) -> None:
    with Exporter.of(broker) as exporter:
        wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)
        with broker.server.paused():
            first = exporter.scrape(timeout=2)
            before = resources(exporter)
            scrapes = [first, *(exporter.scrape(timeout=2) for _ in range(10))]
            after = resources(exporter)
        assert [scrape.status for scrape in scrapes] == [200] * 11
        assert max(scrape.seconds for scrape in scrapes) < 2 + SLACK
        assert {scrape.value("celery_broker_up") for scrape in scrapes} == {0}
        assert set(failures(scrapes[-1])) <= {"timeout", "stuck"}
        assert after[0] <= before[0] + 1
        assert after[1] <= before[1] + 1
        wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)


def test_twenty_scrapes_at_once_of_a_frozen_broker_all_answer(broker: Broker) -> None:
    with Exporter.of(broker) as exporter:
        wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)
        with broker.server.paused(), ThreadPoolExecutor(20) as pool:
            scrapes = list(pool.map(lambda _: exporter.scrape(timeout=2), range(20)))
            assert {scrape.status for scrape in scrapes} == {200}
            assert max(scrape.seconds for scrape in scrapes) < 2 + SLACK
            assert exporter.get("/-/healthy")[0] == 200
            # Four collectors, one thread each, whatever the number of scrapes.
            names = [thread.id for thread in psutil.Process(exporter.pid).threads()]
            assert len(names) < 20 + 4 + 8


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.SILENT, Fault.BLACKHOLE, Fault.SLOW])
def test_every_fault_on_the_way_ends_in_time_and_passes(broker: Broker, fault: Fault) -> None:
    port = urlsplit(broker.url).port
    assert port
    with (
        Proxy(port) as proxy,
        Exporter("--broker-url", proxy.url(broker.url), "--no-collector.backend") as exporter,
    ):
        wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)
        proxy.fault = fault
        scrapes = [exporter.scrape(timeout=1.5) for _ in range(3)]
        assert {scrape.status for scrape in scrapes} == {200}
        assert max(scrape.seconds for scrape in scrapes) < 1.5 + SLACK
        assert scrapes[-1].value("celery_broker_up") == 0
        assert scrapes[-1].series("celery_queue_length") == {}
        proxy.fault = Fault.NONE
        wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)


def test_a_broker_that_comes_later_is_found_by_the_same_process() -> None:
    port = free_port()
    with Exporter("--broker-url", f"redis://{HOST}:{port}/0") as exporter:
        scrape = exporter.scrape()
        assert scrape.status == 200
        assert scrape.value("celery_broker_up") == 0
        assert failures(scrape) == {"refused": 1}
        with RedisServer(port=port):
            wait_for(lambda: exporter.scrape(timeout=2).value("celery_broker_up") == 1)


def test_a_broker_killed_and_started_again_is_found_again(own_broker: Broker) -> None:
    with Worker(own_broker, "solo", "w"), Exporter.of(own_broker) as exporter:
        wait_for(lambda: exporter.scrape(timeout=5).value("celery_worker_up", worker="w@test") == 1)
        own_broker.server.kill()
        gone = exporter.scrape(timeout=5)
        assert gone.value("celery_broker_up") == 0
        assert (
            gone.value("celery_worker_up", worker="w@test") == 1
        )  # silence is no evidence while the stream is down
        assert gone.value("celery_worker_replied", worker="w@test") is None
        own_broker.server.start()

        def back() -> bool:
            scrape = exporter.scrape(timeout=5)
            return (
                scrape.value("celery_broker_up") == 1
                and scrape.value("celery_worker_replied", worker="w@test") == 1
            )

        wait_for(back, timeout=40)


def test_a_connection_that_died_between_two_scrapes_costs_no_scrape(redis_broker: Broker) -> None:
    port = urlsplit(redis_broker.url).port
    assert port
    with Proxy(port) as proxy, Exporter("--broker-url", proxy.url(redis_broker.url)) as exporter:
        wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)
        proxy.fault = Fault.REFUSE
        proxy.fault = Fault.NONE
        scrape = exporter.scrape(timeout=5)
        success = scrape.by("collector", "celery_scrape_collector_success")
        assert [success[name] for name in ("broker", "workers", "queues")] == [1, 1, 1]


def test_the_reason_for_a_redis_that_does_not_let_us_in() -> None:
    with RedisServer(password="p@ss:/?#%") as server:
        url = f"redis://:wrong-secret@{HOST}:{server.port}/0"
        with collecting(broker_url=url) as collector:
            assert broker_reason(collector) == "authentication"
        with collecting(broker_url=f"redis://{HOST}:{server.port}/0") as collector:
            assert broker_reason(collector) == "authentication"
        with collecting(broker_url=f"{server.url_of(0).rpartition('/')[0]}/999999") as collector:
            assert broker_reason(collector) == "not_found"
        with collecting(broker_url=server.url) as collector:
            assert broker_reason(collector) == ""


def test_the_reason_for_a_rabbitmq_that_does_not_let_us_in(rabbitmq_broker: Broker) -> None:
    parts = urlsplit(rabbitmq_broker.url)
    where = f"{parts.hostname}:{parts.port}"
    with collecting(broker_url=f"amqp://vitals:wrong-secret@{where}{parts.path}") as collector:
        assert broker_reason(collector) == "authentication"
    with collecting(broker_url=rabbitmq_broker.url.rpartition("/")[0] + "/nosuch") as collector:
        assert broker_reason(collector) == "not_found"


def test_the_reason_for_a_redis_that_takes_no_more_clients() -> None:
    with RedisServer(extra_args=["--maxclients", "1"]) as server, server.client() as client:
        client.ping()
        with collecting(broker_url=server.url) as collector:
            assert broker_reason(collector) == "unavailable"


@pytest.mark.parametrize(
    "limited", ["vhost-limits/{namespace}/max-connections", "user-limits/{user}/max-connections"]
)
def test_the_reason_for_a_rabbitmq_that_takes_no_more_connections(
    limited: str, rabbitmq_broker: Broker, rabbitmq_server: RabbitMQServer
) -> None:
    path = limited.format(namespace=rabbitmq_broker.namespace, user=rabbitmq_server.user)
    rabbitmq_server.api("PUT", path, {"value": 0})
    try:
        with collecting(broker_url=rabbitmq_broker.url) as collector:
            assert broker_reason(collector) == "unavailable"
    finally:
        rabbitmq_server.api("DELETE", path)


def test_the_reason_for_tls_where_there_is_none(broker: Broker) -> None:
    scheme, _, rest = broker.url.partition("://")
    with collecting(
        broker_url=f"{scheme}s://{rest}?ssl_cert_reqs=none"
        if scheme == "redis"
        else f"{scheme}s://{rest}"
    ) as it:
        # Redis does not even answer what it takes for a long line.
        assert broker_reason(it) in ("tls", "timeout", "closed")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://127.0.0.1:{free}/0", "refused"),
        ("amqp://127.0.0.1:{free}//", "refused"),
        ("redis://no-such-host.invalid:6379/0", "resolve"),
        ("amqp://no-such-host.invalid//", "resolve"),
    ],
)
def test_the_reason_for_an_address_without_a_broker(url: str, reason: str) -> None:
    with collecting(broker_url=url.format(free=free_port())) as collector:
        assert broker_reason(collector) == reason


def test_the_reason_for_another_protocol_on_the_port(
    redis_broker: Broker, rabbitmq_broker: Broker
) -> None:
    redis_port, rabbit_port = urlsplit(redis_broker.url).port, urlsplit(rabbitmq_broker.url).port
    with collecting(broker_url=f"amqp://{HOST}:{redis_port}//") as collector:
        assert broker_reason(collector) in ("protocol", "closed", "timeout")
    with collecting(broker_url=f"redis://{HOST}:{rabbit_port}/0") as collector:
        assert broker_reason(collector) in ("protocol", "closed")


class TurnAway(socketserver.BaseRequestHandler):
    """Accept and close every connection, as a load balancer without targets does."""

    def handle(self) -> None:
        self.request.recv(65536)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_the_reason_for_a_port_that_closes_connections(scheme: str) -> None:
    with socketserver.ThreadingTCPServer((HOST, 0), TurnAway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with collecting(broker_url=f"{scheme}://{HOST}:{server.server_address[1]}/") as collector:
            assert broker_reason(collector) == "closed"
        server.shutdown()


def test_the_second_address_is_taken_when_the_first_does_not_answer(broker: Broker) -> None:
    dead = f"{broker.url.partition('://')[0]}://{HOST}:{free_port()}/0"
    with collecting(broker_url=f"{dead};{broker.url}") as collector:
        assert broker_reason(collector) == ""


def test_no_secret_is_shown_whatever_goes_wrong(tmp_path: Path) -> None:
    secret = "s3cr@t:/?#%-kTzQ9"
    quoted = "s3cr%40t%3A%2F%3F%23%25-kTzQ9"
    with RedisServer(password="another") as server:
        url = f"redis://:{quoted}@{HOST}:{server.port}/0"
        with Exporter(
            "--broker-url", url, "--result-backend", url, "--log.level", "debug"
        ) as exporter:
            scrape = exporter.scrape()
            page = exporter.get("/")[1]
            assert failures(scrape) == {"authentication": 1}
            shown = "\n".join((scrape.text, page, exporter.log))
    assert "Traceback" in shown or "traceback" in shown  # the debug log is there to be searched
    for piece in (secret, quoted, "kTzQ9"):
        assert piece not in shown


def test_sigterm_ends_the_process_in_two_seconds_even_while_the_broker_hangs(
    broker: Broker,
) -> None:
    with Exporter.of(broker) as exporter:
        wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)
        with broker.server.paused(), ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(exporter.scrape, 10)
            wait_for(lambda: psutil.Process(exporter.pid).num_threads() > 3)
            exporter.child.send_signal(15)
            wait_for(lambda: not exporter.child.alive, timeout=2 + SLACK)
            assert exporter.child.exit_code == 0
            hanging.exception()
