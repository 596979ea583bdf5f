"""The exporter does not disturb the cluster: no data left, no task run twice, few connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psutil
import pytest
import redis
import urllib3

from celery_vitals.brokers.redis.kind import NO_REDELIVERY
from tests.support.broker_inventory import broadcasts_on, client_of, inventory, named_clients
from tests.support.exporter import Exporter
from tests.support.scraping import local_exporter
from tests.support.servers import Broker, Fault, Proxy, Worker, publish, wait_for

StartWorker = Callable[..., Worker]

ROUNDS = 100
REGISTRY = b"celery-vitals.mailboxes"
MONTH = 30 * 86400


PROBES = 3
"""Connections of the collectors broker, workers and queues."""
EVENTS = 2
"""Redis connections of the stream of events: one that listens, one that speaks."""


class TestNothingStays:
    @pytest.mark.parametrize("worker", ["with a worker", "where no worker has ever been"])
    def test_after_many_scrapes_and_a_clean_stop(
        self, broker: Broker, start_worker: StartWorker, worker: str
    ) -> None:
        if worker == "with a worker":
            start_worker(broker, "solo")
        publish(broker, "add", 1, 2, queue="waiting", count=3)
        before = inventory(broker)
        with Exporter.of(broker) as exporter:
            for _ in range(ROUNDS):
                assert (
                    exporter.scrape().value("celery_scrape_collector_success", collector="workers")
                    == 1
                )
            assert exporter.scrape().value("celery_queue_length", queue="waiting") == 3
            assert exporter.stop() == 0
        wait_for(lambda: inventory(broker) == before, 5, interval=0.2)

    def test_after_sigkill_in_the_middle_of_a_round_and_a_new_start(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        worker = start_worker(redis_broker, "solo")
        before = inventory(redis_broker)
        with client_of(redis_broker) as client:
            with Exporter.of(redis_broker) as killed:
                killed.scrape()
                asked_in_vain(worker, killed)
                killed.kill()
            worker.thaw()
            wait_for(lambda: mailboxes(client))
            unused_for(client, 61)
            with Exporter.of(redis_broker) as next_one:
                next_one.scrape()
                next_one.stop()
            assert_nothing_stays(client)
        wait_for(lambda: inventory(redis_broker)["clients"] == before["clients"])

    def test_on_redis_but_what_the_readme_names_after_a_kill(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        worker = start_worker(redis_broker, "solo")
        before = inventory(redis_broker)["keys"]
        with client_of(redis_broker) as client:
            with Exporter.of(redis_broker) as killed:
                killed.scrape()
                asked_in_vain(worker, killed)
                killed.kill()
            assert added_keys(redis_broker, before) == [REGISTRY]
            assert MONTH - 60 < client.ttl(REGISTRY) <= MONTH
            worker.thaw()
            wait_for(lambda: len(added_keys(redis_broker, before)) == 2)
            assert {key: client.ttl(key) for key in mailboxes(client)}.popitem()[1] == -1
            unused_for(client, 61)
            with Exporter.of(redis_broker) as next_one:
                next_one.scrape()
                assert mailboxes(client) == []
                next_one.stop()
            assert added_keys(redis_broker, before) == [REGISTRY]
            assert len(client.zrange(REGISTRY, 0, -1)) == 1

    @pytest.mark.parametrize("end", ["stopped", "killed"])
    def test_when_a_worker_answers_long_after_the_exporter_has_gone(
        self, redis_broker: Broker, start_worker: StartWorker, end: str
    ) -> None:
        worker = start_worker(redis_broker, "solo")
        before = inventory(redis_broker)
        with client_of(redis_broker) as client:
            with Exporter.of(redis_broker) as gone:
                gone.scrape()
                asked_in_vain(worker, gone)
                gone.stop() if end == "stopped" else gone.kill()
            unused_for(client, 61)
            with Exporter.of(redis_broker) as next_one:
                next_one.scrape()
                worker.thaw()
                wait_for(
                    lambda: (
                        next_one.scrape().value("celery_worker_replied", worker="solo@test") == 1
                    )
                )
                next_one.stop()
            unused_for(client, 61)
            with Exporter.of(redis_broker) as last:
                last.scrape()
                last.stop()
            assert_nothing_stays(client)
        wait_for(lambda: inventory(redis_broker)["clients"] == before["clients"])

    def test_of_a_killed_exporter_on_rabbitmq(
        self, rabbitmq_broker: Broker, start_worker: StartWorker
    ) -> None:
        worker = start_worker(rabbitmq_broker, "solo")
        before = inventory(rabbitmq_broker)
        with Exporter.of(rabbitmq_broker) as exporter:
            exporter.scrape()
            assert any(
                name.startswith("celery-vitals.") for name in inventory(rabbitmq_broker)["queues"]
            )
            asked_in_vain(worker, exporter)
            exporter.kill()
            worker.thaw()
        wait_for(lambda: inventory(rabbitmq_broker) == before, interval=0.2)


def added_keys(broker: Broker, before: set[bytes]) -> list[bytes]:
    """The keys that a database has more than before, without those of tasks in workers."""
    return sorted(inventory(broker)["keys"] - before)


def mailboxes(client: redis.Redis) -> list[bytes]:
    """The reply lists of exporters in a database."""
    keys: Any = client.keys("celery-vitals.*.reply")
    return list(keys)


def assert_nothing_stays(client: redis.Redis) -> None:
    """Check that no replies are left and every key expires."""
    assert mailboxes(client) == []
    kept: Any = client.keys("celery-vitals*")
    assert [key for key in kept if client.ttl(key) < 0] == []


def unused_for(client: redis.Redis, seconds: float) -> None:
    """Let so much time have passed since the mailboxes were last used."""
    entries: Any = client.zrange("celery-vitals.mailboxes", 0, -1, withscores=True)
    for name, at in entries:
        client.zadd("celery-vitals.mailboxes", {name: at - seconds})


def asked_in_vain(worker: Worker, exporter: Exporter) -> None:
    """Freeze a worker and return while the exporter waits for its reply."""
    worker.freeze()

    def scrape() -> None:
        with suppress(urllib3.exceptions.HTTPError, OSError):
            exporter.scrape(timeout=3)

    threading.Thread(target=scrape, daemon=True).start()
    time.sleep(0.5)


class TestNoTaskRunsTwice:
    def test_while_an_exporter_with_a_short_visibility_timeout_scrapes(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        worker = start_worker(redis_broker, "threads", concurrency=4)
        publish(redis_broker, "late", 4, count=2)
        with Exporter.of(
            redis_broker, "--broker-transport-option", "visibility_timeout=1"
        ) as exporter:

            def done() -> bool:
                exporter.scrape()
                return worker.log.count("succeeded") == 2

            wait_for(done, interval=0.1)
            scrape = exporter.scrape()
            assert (
                scrape.value("celery_broker_visibility_timeout_seconds") == 1
            )  # configured, but not used
            assert (
                scrape.value(
                    "celery_worker_tasks_accepted_total", worker="threads@test", task="project.late"
                )
                == 2
            )
        assert worker.log.count("received") == 2

    def test_since_no_connection_ever_hands_out_again(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        start_worker(redis_broker, "solo")
        options = {"visibility_timeout": 5, "client_name": "mine", "socket_timeout": None}
        with (
            client_of(redis_broker) as client,
            local_exporter(
                redis_broker, broker_transport_options=options, result_backend="rpc://"
            ) as local,
        ):
            local.scrape()
            cluster = local.collector._broker
            kept = list(cluster._open)
            wait_for(
                lambda: named_clients(client) == cluster.connections == PROBES + EVENTS + 1
            )  # one for rpc://
            for connection in kept:
                assert connection.channel.visibility_timeout == NO_REDELIVERY
                with connection.kombu.channel() as another:
                    assert another.visibility_timeout == NO_REDELIVERY


class TestFew:
    def test_connections(self, redis_broker: Broker, start_worker: StartWorker) -> None:
        start_worker(redis_broker, "solo")
        with Exporter.of(redis_broker) as exporter, client_of(redis_broker) as client:
            for _ in range(50):
                exporter.scrape()
                assert named_clients(client) <= PROBES + EVENTS
            with ThreadPoolExecutor(20) as pool:
                assert [one.status for one in pool.map(lambda _: exporter.scrape(), range(20))] == [
                    200
                ] * 20
            assert named_clients(client) == PROBES + EVENTS
            assert exporter.scrape().value("celery_exporter_broker_connections") == PROBES + EVENTS

    def test_connections_to_rabbitmq(
        self, rabbitmq_broker: Broker, start_worker: StartWorker
    ) -> None:
        start_worker(rabbitmq_broker, "solo")
        with Exporter.of(rabbitmq_broker) as exporter:
            with ThreadPoolExecutor(20) as pool:
                scrapes = list(pool.map(lambda _: exporter.scrape(), range(20)))
            assert all(one.status == 200 for one in scrapes)
            # One more than on Redis: the message that tests whether the broker is writable.
            limit = PROBES + EVENTS + 1
            assert exporter.scrape().value("celery_exporter_broker_connections") == limit

    def test_connections_after_the_broker_was_away(self, broker: Broker) -> None:
        with Proxy(broker.server.port) as proxy:

            def connected() -> int:
                """Connections to the proxy on our side."""
                ours = psutil.Process().net_connections()
                return sum(bool(one.raddr) and one.raddr.port == proxy.port for one in ours)

            settings = {"broker_url": proxy.url(broker.url), "result_backend": None, "timeout": 1}
            with local_exporter(broker, **settings) as local:
                for fault in (Fault.NONE, Fault.REFUSE, Fault.NONE, Fault.SILENT) * 2:
                    proxy.fault = fault
                    local.scrape(1.0)
                proxy.fault = Fault.NONE
                limit = PROBES + EVENTS
                wait_for(
                    lambda: local.scrape().value("celery_broker_up") == 1 and connected() <= limit
                )
            wait_for(lambda: connected() == 0)

    def test_number_of_broadcasts_to_workers(
        self, broker: Broker, start_worker: StartWorker
    ) -> None:
        start_worker(broker, "solo", heartbeat=False)
        with Exporter.of(broker, "--min-interval", "1") as exporter, broadcasts_on(broker) as count:
            exporter.scrape()
            time.sleep(1.1)
            exporter.scrape()  # by now it knows their queues
            time.sleep(1.1)
            before = count()
            with ThreadPoolExecutor(10) as pool:
                scrapes = list(pool.map(lambda _: exporter.scrape(), range(10)))
            assert all(
                one.value("celery_worker_replied", worker="solo@test") == 1 for one in scrapes
            )
            assert wait_for(lambda: count() - before) == 1
            time.sleep(0.2)
            assert count() - before == 1
