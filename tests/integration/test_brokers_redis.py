"""Redis with users and their rights, on a socket and with a prefix, with real workers on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.scraping import failure_reasons, local_exporter, sees_everything
from tests.support.servers import (
    Broker,
    RedisServer,
    Worker,
    publish,
    wait_for,
)


class TestAcl:
    @pytest.fixture
    def user(
        self, redis_broker: Broker, redis_server: RedisServer
    ) -> Iterator[Callable[..., Broker]]:
        """Makes a user with these rules; the broker as that user sees it."""

        def make(*rules: str) -> Broker:
            with redis_server.client() as client:
                client.execute_command(
                    "ACL", "SETUSER", "vitals", "reset", "on", ">s3cr@t", "~*", "&*", *rules
                )
            url = redis_broker.url.replace("redis://", "redis://vitals:s3cr%40t@")
            return Broker("redis", url, url, redis_server, namespace=redis_broker.namespace)

        yield make
        with redis_server.client() as client:
            client.execute_command("ACL", "DELUSER", "vitals")

    def test_a_user_and_password_in_the_url(
        self, redis_broker: Broker, user: Callable[..., Broker], start_worker: Callable[..., Worker]
    ) -> None:
        broker = user("+@all")
        start_worker(broker, "solo", "w", events=True)
        with local_exporter(broker) as local:
            wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
            publish(redis_broker, "add", 1, 2)
            wait_for(lambda: sees_everything(local, "w@test", celery=0))

    def test_user_without_client_setname_works(
        self, redis_broker: Broker, user: Callable[..., Broker], start_worker: Callable[..., Worker]
    ) -> None:
        start_worker(redis_broker, "solo", "w", events=True)
        with local_exporter(user("+@all", "-client")) as local:
            wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
            publish(redis_broker, "add", 1, 2)
            wait_for(lambda: sees_everything(local, "w@test", celery=0))
            failures = local.scrape().series("celery_probe_failures_total")
            assert failures == {}

    def test_server_without_the_client_command_works(
        self, start_worker: Callable[..., Worker]
    ) -> None:
        with (
            RedisServer(extra_args=["--rename-command", "CLIENT", ""]) as server,
            server.namespace() as broker,
        ):
            start_worker(broker, "solo", "w", events=True)
            with local_exporter(broker) as local:
                wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
                publish(broker, "add", 1, 2)
                wait_for(lambda: sees_everything(local, "w@test", celery=0))
                assert local.scrape().series("celery_probe_failures_total") == {}

    def test_the_commands_that_the_manual_names_suffice(
        self, redis_broker: Broker, user: Callable[..., Broker], start_worker: Callable[..., Worker]
    ) -> None:
        from tools.brokers_page import REDIS_ACL

        start_worker(redis_broker, "solo", "w", events=True)
        with local_exporter(user(*REDIS_ACL.split())) as local:
            wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
            publish(redis_broker, "late", 3)
            publish(redis_broker, "add", 1, 2, queue="orphan", count=3)

            def held() -> bool:
                scrape = local.scrape()
                return scrape.value("celery_queue_unacked_messages", queue="celery") == 1

            wait_for(held)
            wait_for(lambda: sees_everything(local, "w@test", celery=0, orphan=3))
            assert local.scrape().series("celery_probe_failures_total") == {}

    def test_user_without_permissions_has_reason_permission(
        self, user: Callable[..., Broker]
    ) -> None:
        with local_exporter(user("-@all")) as local:
            assert local.scrape().value("celery_broker_up") == 0
            assert failure_reasons(local) == {"permission"}

    def test_a_wrong_password(self, user: Callable[..., Broker]) -> None:
        broker = user("+@all")
        with local_exporter(broker, broker_url=broker.url.replace("s3cr%40t", "wrong")) as local:
            assert local.scrape().value("celery_broker_up") == 0
            assert failure_reasons(local) == {"authentication"}


def test_through_a_socket_of_the_file_system(
    tmp_path: Path, start_worker: Callable[..., Worker]
) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(extra_args=["--unixsocket", str(path)]) as server:
        broker = Broker(
            "redis",
            f"redis+socket://{path}?virtual_host=3",
            f"redis+socket://{path}?virtual_host=3",
            server,
        )
        start_worker(broker, "solo", "w", events=True)
        publish(broker, "add", 1, 2, queue="orphan")
        with local_exporter(broker) as local:
            wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
            publish(broker, "add", 1, 2)
            wait_for(lambda: sees_everything(local, "w@test", celery=0, orphan=1))
        path.unlink()
        with local_exporter(broker) as local:
            assert local.scrape().value("celery_broker_up") == 0
            assert failure_reasons(local) == {"not_found"}


def test_with_a_prefix_before_all_keys(
    redis_broker: Broker, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    options = {"global_keyprefix": "team:"}
    conf = {"broker_transport_options": options, "result_backend_transport_options": options}
    start_worker(redis_broker, "solo", "w", events=True, conf=conf)
    publish(redis_broker, "add", 1, 2, queue="orphan", count=2, conf=conf)
    with (
        local_exporter(
            redis_broker, broker_transport_options=options, result_backend_transport_options=options
        ) as local,
        redis_server.client(int(redis_broker.namespace)) as client,
    ):
        wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
        publish(redis_broker, "add", 1, 2, conf=conf)
        wait_for(lambda: sees_everything(local, "w@test", celery=0, orphan=2))
        assert [key for key in client.keys("*") if not key.startswith(b"team:")] == []
    # Another prefix is another cluster, without workers.
    with local_exporter(
        redis_broker, broker_transport_options={"global_keyprefix": "other:"}
    ) as local:
        scrape = local.scrape()
        assert scrape.value("celery_broker_up") == 1
        assert scrape.series("celery_worker_up") == {}
        assert scrape.series("celery_queue_length") == {}
