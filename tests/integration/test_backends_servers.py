"""Result backends on servers: the probe leaves no data, has a deadline and a failure reason."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest

from tests.support.exporter import Exporter
from tests.support.scrape import Scrape
from tests.support.scraping import LocalExporter, local_exporter
from tests.support.servers import (
    Broker,
    Fault,
    MemcachedServer,
    PostgresServer,
    Proxy,
    Publisher,
    RabbitMQServer,
    RedisServer,
    Server,
    Worker,
    wait_for,
)

ROWS = """
    SELECT relname::text, n_tup_ins + n_tup_upd + n_tup_del
    FROM pg_stat_user_tables ORDER BY relname
"""
RELATIONS = "SELECT count(*) FROM pg_class"
SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def memcached() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


def up(scrape: Scrape) -> float | None:
    """The samples of the backend; the broker is up in every test."""
    assert scrape.status == 200
    assert scrape.value("celery_broker_up") == 1
    return scrape.value("celery_result_backend_up")


def reasons(local: LocalExporter) -> set[str]:
    failures = local.scrape(names=("broker",)).series("celery_probe_failures_total")
    return {dict(labels)["reason"] for labels in failures if dict(labels)["collector"] == "backend"}


class TestPostgres:
    def test_before_the_first_result_no_table_is_made(self, redis_broker: Broker) -> None:
        with PostgresServer() as server:
            before = server.query(RELATIONS)
            with local_exporter(redis_broker, result_backend=server.url) as local:
                assert [up(local.scrape()) for _ in range(3)] == [1, 1, 1]
            assert server.query(RELATIONS) == before

    def test_with_results_of_a_worker_in_it_nothing_changes(
        self, redis_broker: Broker, postgres: PostgresServer, start_worker: Callable[..., Worker]
    ) -> None:
        broker = Broker(redis_broker.kind, redis_broker.url, postgres.url, redis_broker.server)
        worker = start_worker(broker, "solo", "w")
        with Publisher(redis_broker) as publisher:
            publisher.send("add", 1, 2, count=3, ignore_result=False)
        wait_for(
            lambda: postgres.query("SELECT count(*) FROM celery_taskmeta") == [(3,)],
            ignoring=(Exception,),
        )
        worker.stop()
        with local_exporter(broker) as local:
            assert up(local.scrape()) == 1
            before = postgres.query(ROWS), postgres.query(RELATIONS)
            assert [up(local.scrape()) for _ in range(5)] == [1] * 5
            assert (postgres.query(ROWS), postgres.query(RELATIONS)) == before
            assert postgres.query("SELECT count(*) FROM celery_taskmeta") == [(3,)]
            wait_for(lambda: postgres.query(SESSIONS) == [(0,)])

    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [
            ({"password": "wrong"}, "authentication"),
            ({"user": "nobody"}, "authentication"),
            ({"database": "no"}, "not_found"),
        ],
    )
    def test_failure_reason_matches_the_cause(
        self, wrong: dict[str, str], reason: str, redis_broker: Broker, postgres: PostgresServer
    ) -> None:
        with local_exporter(redis_broker, result_backend=postgres.url_of(**wrong)) as local:
            assert up(local.scrape()) == 0
            assert reasons(local) == {reason}
            assert "vitals-secret" not in str(local.collector.status())

    def test_a_table_that_this_user_may_not_read(
        self, redis_broker: Broker, postgres: PostgresServer
    ) -> None:
        postgres.execute("CREATE TABLE IF NOT EXISTS celery_taskmeta (id INTEGER)")
        postgres.execute("CREATE USER stranger PASSWORD 'stranger'")
        url = postgres.url_of(user="stranger", password="stranger")
        with local_exporter(redis_broker, result_backend=url) as local:
            assert up(local.scrape()) == 0
            assert reasons(local) == {"permission"}

    def test_server_shutting_down_with_open_sessions_is_unavailable(
        self, redis_broker: Broker
    ) -> None:
        with PostgresServer() as server:
            stop = threading.Thread(target=server.stop)
            with (
                server.connection(),
                local_exporter(redis_broker, result_backend=server.url) as local,
            ):
                stop.start()
                wait_for(lambda: up(local.scrape()) == 0)
                assert reasons(local) == {"unavailable"}
            stop.join()

    def test_a_server_that_takes_no_more_connections(
        self, redis_broker: Broker, postgres: PostgresServer
    ) -> None:
        postgres.execute("CREATE USER one_too_many PASSWORD 'limited' CONNECTION LIMIT 0")
        with local_exporter(
            redis_broker, result_backend=postgres.url_of(user="one_too_many", password="limited")
        ) as local:
            assert up(local.scrape()) == 0
            assert reasons(local) == {"unavailable"}

    def test_a_table_that_is_locked_is_given_up_in_time(
        self, redis_broker: Broker, postgres: PostgresServer
    ) -> None:
        postgres.execute("CREATE TABLE IF NOT EXISTS celery_taskmeta (id INTEGER)")
        with local_exporter(redis_broker, result_backend=postgres.url, timeout=4) as local:
            assert up(local.scrape()) == 1
            with postgres.connection() as holder, holder.transaction():
                holder.execute("LOCK TABLE celery_taskmeta")
                scrape = local.scrape(5.0)
                assert scrape.seconds < 5.5
                assert up(scrape) == 0
            wait_for(lambda: up(local.scrape()) == 1)


def test_memcached_keeps_no_key(redis_broker: Broker, memcached: MemcachedServer) -> None:
    with local_exporter(redis_broker, result_backend=memcached.url) as local:
        assert [up(local.scrape()) for _ in range(3)] == [1, 1, 1]
    assert memcached.items() == 0


def test_without_result_backend_broker_and_workers_are_scraped(redis_broker: Broker) -> None:
    with local_exporter(redis_broker, result_backend="disabled") as local:
        assert up(local.scrape()) is None
        assert "backend" in local.scrape().by("subject", "celery_exporter_blind_spot")


def usage(exporter: Exporter) -> tuple[int, int]:
    """Threads and connections of its process."""
    process = psutil.Process(exporter.pid)
    return process.num_threads(), len(process.net_connections())


@pytest.fixture(params=["redis", "memcached", "postgres", "rpc"])
def hanging(
    request: pytest.FixtureRequest, redis_broker: Broker
) -> Iterator[tuple[Broker, str, Server | Proxy]]:
    """A broker, the URL of a result backend, and the server to freeze."""
    with ExitStack() as stack:
        if request.param == "rpc":
            # rpc:// uses the connections of the broker: freezing RabbitMQ freezes both.
            rabbitmq: RabbitMQServer = request.getfixturevalue("rabbitmq_server")
            broker = stack.enter_context(rabbitmq.namespace())
            proxy = stack.enter_context(Proxy(rabbitmq.port))
            yield Broker(broker.kind, proxy.url(broker.url), "", broker.server), "rpc://", proxy
        else:
            kinds: dict[str, Any] = {
                "redis": RedisServer,
                "memcached": MemcachedServer,
                "postgres": PostgresServer,
            }
            server = stack.enter_context(kinds[request.param]())
            yield redis_broker, server.url, server


def test_hanging_backend_does_not_exceed_the_scrape_timeout(
    hanging: tuple[Broker, str, Server | Proxy],
) -> None:
    broker, url, culprit = hanging
    with Exporter(
        "--broker-url", broker.url, "--result-backend", url, "--no-collector.tasks"
    ) as exporter:
        wait_for(lambda: up(exporter.scrape(timeout=5)) == 1)
        stand_still(culprit)
        scrapes = [exporter.scrape(timeout=1.5) for _ in range(3)]
        before = usage(exporter)
        scrapes += [exporter.scrape(timeout=1.5) for _ in range(7)]
        after = usage(exporter)
        assert {scrape.status for scrape in scrapes} == {200}
        assert max(scrape.seconds for scrape in scrapes) < 2.5
        assert {scrape.value("celery_result_backend_up") for scrape in scrapes} == {0}
        failures = scrapes[-1].series("celery_probe_failures_total")
        reasons = {
            dict(labels)["reason"] for labels in failures if dict(labels)["collector"] == "backend"
        }
        assert reasons <= {"timeout", "stuck"}
        assert after[0] <= before[0] + 1
        assert after[1] <= before[1] + 1
        go_on(culprit)
        wait_for(lambda: up(exporter.scrape(timeout=5)) == 1, 30.0)


def stand_still(culprit: Server | Proxy) -> None:
    if isinstance(culprit, Proxy):
        culprit.fault = Fault.SILENT
    else:
        culprit.freeze()


def go_on(culprit: Server | Proxy) -> None:
    if isinstance(culprit, Proxy):
        culprit.fault = Fault.NONE
    else:
        culprit.thaw()
