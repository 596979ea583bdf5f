"""Result backends of each available kind: celery_result_backend_up is right, no key or file is
left."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from celery_vitals.errors import Reason
from tests.support.scrape import Scrape
from tests.support.scraping import LocalExporter, local_exporter
from tests.support.servers import (
    HOST,
    Broker,
    Fault,
    MemcachedServer,
    Proxy,
    RabbitMQServer,
    RedisServer,
    free_port,
    publish,
    wait_for,
)


def is_up(local: LocalExporter) -> bool:
    """Whether the backend is up by a scrape in which all else is normal."""
    scrape = local.scrape()
    assert scrape.seconds < 5
    assert all_else_is_normal(scrape)
    up = scrape.value("celery_result_backend_up")
    assert scrape.value("celery_scrape_collector_success", collector="backend") == up
    return up == 1


def all_else_is_normal(scrape: Scrape) -> bool:
    success = scrape.by("collector", "celery_scrape_collector_success")
    lengths = scrape.by("queue", "celery_queue_length")
    return (
        scrape.value("celery_broker_up") == 1
        and {name for name, ok in success.items() if ok} >= {"broker", "workers", "queues"}
        and lengths.get("waiting") == 1
    )


def reasons(local: LocalExporter) -> set[str]:
    """Why the backend has failed so far."""
    failures = local.scrape(names=("broker",)).series("celery_probe_failures_total")
    return {dict(labels)["reason"] for labels in failures if dict(labels)["collector"] == "backend"}


@pytest.fixture
def waiting(redis_broker: Broker) -> Broker:
    """A broker with one message in it."""
    publish(redis_broker, "add", 1, 2, queue="waiting")
    with local_exporter(redis_broker, result_backend=None) as local:
        wait_for(lambda: local.scrape().by("queue", "celery_queue_length") == {"waiting": 1})
    return redis_broker


class TestRedis:
    @pytest.fixture
    def proxy(self, redis_server: RedisServer) -> Iterator[Proxy]:
        with Proxy(redis_server.port) as proxy:
            yield proxy

    def test_probe_leaves_no_key_or_file(self, waiting: Broker, redis_server: RedisServer) -> None:
        with redis_server.namespace() as apart, redis_server.client(int(apart.namespace)) as client:
            with local_exporter(waiting, result_backend=apart.url) as local:
                assert all(is_up(local) for _ in range(3))
                assert client.keys("*") == []
                info = local.scrape().series("celery_result_backend_info")
            assert info == {(("backend", "redis"),): 1}
            assert client.keys("*") == []

    @pytest.mark.parametrize(
        ("fault", "reason"), [(Fault.REFUSE, "refused"), (Fault.SILENT, "timeout")]
    )
    def test_away_and_back(self, waiting: Broker, proxy: Proxy, fault: Fault, reason: str) -> None:
        with local_exporter(waiting, result_backend=proxy.url(waiting.url), timeout=2) as local:
            assert is_up(local)
            proxy.fault = fault
            scrape = local.scrape(2.0)
            assert scrape.seconds < 2.5
            assert all_else_is_normal(scrape)
            assert scrape.value("celery_result_backend_up") == 0
            # An open connection may fail with another reason; a new connection has the right one.
            wait_for(lambda: local.scrape(2.0) and reason in reasons(local))
            proxy.fault = Fault.NONE
            wait_for(lambda: is_up(local))

    def test_connections_do_not_add_up(self, waiting: Broker, proxy: Proxy) -> None:
        with local_exporter(waiting, result_backend=proxy.url(waiting.url), timeout=2) as local:
            for fault in (Fault.REFUSE, Fault.NONE) * 5:
                proxy.fault = fault
                local.scrape(1.0)
            wait_for(lambda: is_up(local))
            assert proxy.connections <= 1

    def test_with_the_wrong_password(self, waiting: Broker) -> None:
        with RedisServer(password="right") as server:
            url = f"redis://:wrong@{HOST}:{server.port}/0"
            with local_exporter(waiting, result_backend=url) as local:
                assert not is_up(local)
                assert reasons(local) == {"authentication"}
                assert "wrong" not in local.collector.status().backend


def test_rpc_works_when_the_broker_does_and_leaves_no_queue(rabbitmq_broker: Broker) -> None:
    publish(rabbitmq_broker, "add", 1, 2, queue="waiting")
    server = rabbitmq_broker.server
    assert isinstance(server, RabbitMQServer)
    with local_exporter(rabbitmq_broker, queues=("waiting",)) as local:
        wait_for(lambda: all_else_is_normal(local.scrape()))
        assert all(is_up(local) for _ in range(3))
    wait_for(
        lambda: (
            [one["name"] for one in server.api("GET", f"queues/{rabbitmq_broker.namespace}")]
            == ["waiting"]
        )
    )


def test_memcached_up_frozen_up_and_gone(waiting: Broker) -> None:
    with (
        MemcachedServer() as server,
        local_exporter(waiting, result_backend=server.url, timeout=2) as local,
    ):
        assert is_up(local)
        with server.paused():
            assert not is_up(local)
            assert reasons(local) == {"timeout"}
        wait_for(lambda: is_up(local))
        server.kill()
        assert not is_up(local)
        wait_for(lambda: not is_up(local) and "refused" in reasons(local))


class TestSqlite:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "results.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 7")  # so that there is a file
            connection.commit()
        return path

    def test_is_up_and_nothing_is_created_in_it(self, waiting: Broker, file: Path) -> None:
        before = file.read_bytes()
        with local_exporter(waiting, result_backend=f"db+sqlite:///{file}") as local:
            assert all(is_up(local) for _ in range(3))
        assert file.read_bytes() == before
        assert list(file.parent.iterdir()) == [file]

    def test_is_up_with_celery_s_table_in_it(self, waiting: Broker, file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(
                "CREATE TABLE celery_taskmeta (id INTEGER PRIMARY KEY, task_id TEXT)"
            )
            connection.commit()
        before = file.read_bytes()
        with local_exporter(waiting, result_backend=f"db+sqlite:///{file}") as local:
            assert is_up(local)
        assert file.read_bytes() == before

    def test_a_missing_file_is_not_created(self, waiting: Broker, tmp_path: Path) -> None:
        with local_exporter(waiting, result_backend=f"db+sqlite:///{tmp_path}/missing.db") as local:
            assert not is_up(local)
            assert reasons(local) == {"not_found"}
        assert list(tmp_path.iterdir()) == []

    def test_file_that_is_not_a_database_is_down(self, waiting: Broker, tmp_path: Path) -> None:
        (tmp_path / "results.db").write_text("Dear diary, ...\n" * 100)
        with local_exporter(waiting, result_backend=f"db+sqlite:///{tmp_path}/results.db") as local:
            assert not is_up(local)

    def test_locked_database_times_out_within_the_deadline(
        self, waiting: Broker, file: Path
    ) -> None:
        with closing(sqlite3.connect(file)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            with local_exporter(waiting, result_backend=f"db+sqlite:///{file}", timeout=2) as local:
                assert not is_up(local)
                holder.rollback()
                wait_for(lambda: is_up(local))


class TestFiles:
    def test_probe_leaves_no_key_or_file(self, waiting: Broker, tmp_path: Path) -> None:
        with local_exporter(waiting, result_backend=f"file://{tmp_path}") as local:
            assert all(is_up(local) for _ in range(3))
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_folder_is_not_created(self, waiting: Broker, tmp_path: Path) -> None:
        with local_exporter(waiting, result_backend=f"file://{tmp_path}/missing") as local:
            assert not is_up(local)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_goes_and_comes_back(self, waiting: Broker, tmp_path: Path) -> None:
        folder = tmp_path / "results"
        folder.mkdir()
        with local_exporter(waiting, result_backend=f"file://{folder}") as local:
            assert is_up(local)
            folder.rmdir()
            assert not is_up(local)
            folder.mkdir()
            assert is_up(local)


@pytest.mark.parametrize("kind", ["redis", "cache+memcached"])
def test_where_nothing_listens(waiting: Broker, kind: str) -> None:
    with local_exporter(waiting, result_backend=f"{kind}://{HOST}:{free_port()}/") as local:
        assert not is_up(local)
        assert reasons(local) == {"refused"}
        probe = next(
            probe for probe in local.collector.status().collectors if probe.name == "backend"
        )
        assert probe.reason == Reason.REFUSED.description


def test_without_result_backend_no_backend_series(waiting: Broker) -> None:
    with local_exporter(waiting, result_backend=None) as local:
        scrape = local.scrape()
        assert all_else_is_normal(scrape)
        assert scrape.value("celery_result_backend_up") is None
        assert "backend" in scrape.by("subject", "celery_exporter_blind_spot")
