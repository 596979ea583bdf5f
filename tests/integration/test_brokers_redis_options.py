"""Redis servers that do not know HELLO, and limits that an application sets for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from celery_vitals import Collector, Settings
from celery_vitals.deadline import Deadline
from tests.support.scraping import LocalExporter, local_exporter, sees_everything
from tests.support.servers import Broker, RedisServer, Worker, publish, wait_for


def sees_all(local: LocalExporter, broker: Broker, start_worker: Callable[..., Worker]) -> None:
    """Wait until broker, backend, worker, queues and events are observed."""
    start_worker(broker, "solo", "w", events=True)
    wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
    publish(broker, "add", 1, 2)
    wait_for(lambda: sees_everything(local, "w@test", celery=0))
    assert local.scrape().series("celery_probe_failures_total") == {}


class TestWithoutHello:
    @pytest.mark.parametrize("password", ["", "s3cret"])
    def test_server_without_the_command_is_observed(self, password: str) -> None:
        with RedisServer(password, extra_args=["--rename-command", "HELLO", ""]) as server:
            observes_all_of(server)

    def test_user_without_the_permission_observes_the_server(self) -> None:
        with RedisServer() as server:
            with server.client() as client:
                client.execute_command("ACL", "SETUSER", "default", "-hello")
            observes_all_of(server)


def observes_all_of(server: RedisServer) -> None:
    """Check broker, backend, queues, remote control and events; workers here would send HELLO."""
    publish_list(server)
    broker = Broker("redis", server.url, server.url, server)
    with local_exporter(broker, queues=("celery",)) as local:
        wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
        scrape = local.scrape()
        assert scrape.value("celery_broker_up") == 1
        assert scrape.value("celery_broker_writable") == 1
        assert scrape.value("celery_result_backend_up") == 1
        assert scrape.by("queue", "celery_queue_length") == {"celery": 1}
        assert scrape.series("celery_probe_failures_total") == {}


def publish_list(server: RedisServer) -> None:
    """Add one entry to a queue, without the library that sends HELLO."""
    with server.client() as client:
        client.lpush("celery", "{}")


def exporter_of(url: str, **conf: Any) -> LocalExporter:
    app = Celery("shop", broker=url, backend=url, set_as_current=False)
    app.conf.update(conf)
    return LocalExporter(Collector(Settings(min_interval=0), app))


@pytest.mark.parametrize(
    "conf",
    [
        {"broker_transport_options": {"max_connections": 1}},
        {"redis_max_connections": 1, "broker_pool_limit": 1},
        {"broker_transport_options": {"max_connections": 1, "socket_timeout": 90.0}},
    ],
    ids=lambda conf: ",".join(conf),
)
def test_the_limits_of_the_application_are_not_those_of_the_exporter(
    conf: dict[str, Any], redis_broker: Broker, start_worker: Callable[..., Worker]
) -> None:
    local = exporter_of(redis_broker.url, **conf)
    try:
        sees_all(local, redis_broker, start_worker)
    finally:
        local.collector.close(Deadline.after(5.0))


@pytest.mark.parametrize("query", ["max_connections=1", "socket_timeout=90&max_connections=1"])
def test_limits_in_the_url_of_the_result_backend_do_not_apply(
    query: str, redis_server: RedisServer
) -> None:
    url = redis_server.url_of(0)
    with local_exporter(Broker("redis", url, f"{url}?{query}", redis_server), timeout=2) as local:
        assert local.scrape().value("celery_result_backend_up") == 1
        redis_server.freeze()
        try:
            scrape = local.scrape(10.0, names=("backend",))
        finally:
            redis_server.thaw()
        assert scrape.value("celery_result_backend_up") == 0
        assert scrape.seconds < 5
