"""PostgreSQL behind PgBouncer, which refuses startup parameters and shares its sessions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.scraping import local_exporter
from tests.support.servers import Broker, PgBouncerServer, PostgresServer, wait_for


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module", params=["transaction", "session"])
def pooler(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[PgBouncerServer]:
    with PgBouncerServer(postgres, request.param) as server:
        yield server


def test_the_backend_works_through_a_pooler(redis_broker: Broker, pooler: PgBouncerServer) -> None:
    with local_exporter(redis_broker, result_backend=pooler.url) as local:
        scrapes = [local.scrape(names=("backend",)) for _ in range(2)]
        assert [scrape.value("celery_result_backend_up") for scrape in scrapes] == [1, 1]
        assert scrapes[-1].series("celery_probe_failures_total") == {}


def test_other_clients_of_the_session_keep_their_settings(
    redis_broker: Broker, pooler: PgBouncerServer
) -> None:
    with local_exporter(redis_broker, result_backend=pooler.url) as local:
        assert local.scrape(names=("backend",)).value("celery_result_backend_up") == 1
    assert pooler.query("SHOW statement_timeout") == [("0",)]


def test_a_locked_table_is_given_up_in_time(
    redis_broker: Broker, postgres: PostgresServer, pooler: PgBouncerServer
) -> None:
    postgres.execute("CREATE TABLE IF NOT EXISTS celery_taskmeta (id INTEGER)")
    with local_exporter(redis_broker, result_backend=pooler.url, timeout=4) as local:
        with postgres.connection() as holder, holder.transaction():
            holder.execute("LOCK TABLE celery_taskmeta")
            scrape = local.scrape(5.0, names=("backend",))
            assert scrape.seconds < 5.5
            assert scrape.value("celery_result_backend_up") == 0
        wait_for(lambda: local.scrape(names=("backend",)).value("celery_result_backend_up") == 1)
