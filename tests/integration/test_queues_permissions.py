"""Redis users who may not do everything: what is missing is named, and all else is served."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.support.scraping import lengths, local_exporter, redis_client
from tests.support.servers import Broker, RedisServer, publish, wait_for

OLDEST = "celery_queue_oldest_message_timestamp_seconds"


@contextmanager
def user(broker: Broker, *rules: str) -> Iterator[str]:
    """A user who may do everything but what the rules take away; the URL with which it connects."""
    with redis_client(broker) as connection:
        connection.execute_command(
            "ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "&*", "+@all", *rules
        )
        parts = urlsplit(broker.url)
        try:
            yield urlunsplit(parts._replace(netloc=f"limited:secret@{parts.hostname}:{parts.port}"))
        finally:
            connection.execute_command("ACL", "DELUSER", "limited")


class TestPermissions:
    @pytest.mark.parametrize(
        ("taken", "subject"),
        [
            ("scan", "queue_discovery"),
            ("smembers", "queue_discovery"),
            ("llen", "queue_length"),
            ("hlen", "queue_unacked_messages"),
            ("zrange", "queue_unacked_messages"),
            ("evalsha", "queue_unacked_messages"),
            ("scard", "orphaned_reply_queues"),
        ],
    )
    def test_the_command_that_is_missing_is_named_and_the_rest_is_served(
        self, redis_broker: Broker, caplog: pytest.LogCaptureFixture, taken: str, subject: str
    ) -> None:
        publish(redis_broker, "add", 1, 2, count=3, queue="waiting")
        with redis_client(redis_broker) as connection:  # as if a worker held one
            connection.zadd("unacked_index", {"tag": time.time()})
            connection.hset("unacked", "tag", '[{}, "", "celery"]')
        with (
            user(redis_broker, f"-{taken}") as url,
            local_exporter(redis_broker, broker_url=url, queues=("waiting",)) as local,
        ):
            for _ in range(3):
                scrape = local.scrape(names=("queues",))
            words = f"permission denied for the command {taken.upper()}"
            assert words in local.blind_spots()[subject]
            lines = [
                record.getMessage() for record in caplog.records if words in record.getMessage()
            ]
            assert lines  # each once, not at each scrape
            assert len(lines) == len(set(lines))
            assert scrape.value("celery_scrape_collector_success", collector="queues") == 1
            assert lengths(scrape) == ({"waiting": 3} if taken != "llen" else {})
            assert scrape.value("celery_broker_unacked_messages") == (
                None if taken == "hlen" else 1
            )
            apart = scrape.value("celery_queue_unacked_messages", queue="waiting")
            assert apart == (0 if taken in ("scan", "smembers", "scard") else None)
            assert (scrape.value("celery_broker_orphaned_reply_queues") is None) == (
                taken == "scard"
            )
            assert "queues" not in local.blind_spots()

    def test_priorities_are_counted_without_permission_for_exists(
        self, redis_broker: Broker
    ) -> None:
        for priority in (0, 9):
            publish(redis_broker, "add", 1, 2, count=3, queue="waiting", priority=priority)
        with (
            user(redis_broker, "-exists") as url,
            local_exporter(redis_broker, broker_url=url, queues=("waiting",)) as local,
        ):
            for _ in range(2):
                assert lengths(local.scrape(names=("queues",))) == {"waiting": 6}

    def test_keys_of_other_priorities_that_are_denied_are_a_blind_spot(
        self, redis_broker: Broker
    ) -> None:
        publish(redis_broker, "add", 1, 2, count=3, queue="waiting", priority=9)
        steps = [f"~waiting\x06\x16{step}" for step in (3, 6, 9)]
        with (
            user(redis_broker, "resetkeys", "~waiting", *steps, "~unacked*", "~_kombu.*") as url,
            local_exporter(redis_broker, broker_url=url, queues=("waiting",)) as local,
        ):
            for _ in range(2):
                assert lengths(local.scrape(names=("queues",))) == {"waiting": 3}
                assert "permission denied" in local.blind_spots()["queue_priorities"]

    def test_a_script_that_may_not_do_its_work_costs_its_own_answer_only(
        self, redis_broker: Broker
    ) -> None:
        publish(redis_broker, "add", 1, 2, queue="waiting", timestamp=int(time.time()) - 60)
        with (
            user(redis_broker, "-lindex") as url,
            local_exporter(redis_broker, broker_url=url, queues=("waiting",)) as local,
        ):
            scrape = local.scrape()
            assert lengths(scrape) == {"waiting": 1}
            assert scrape.value("celery_queue_unacked_messages", queue="waiting") == 0
            assert scrape.series(OLDEST) == {}

    def test_foreign_keys_affect_only_their_queue(
        self, redis_broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("mine", "theirs"):
            publish(redis_broker, "add", 1, 2, queue=name, timestamp=int(time.time()) - 60)
        with (
            user(redis_broker, "resetkeys", "~mine*", "~unacked*", "~_kombu.*") as url,
            local_exporter(redis_broker, broker_url=url, queues=("mine", "theirs")) as local,
        ):
            for _ in range(2):
                scrape = local.scrape(names=("queues",))
            assert lengths(scrape) == {"mine": 1}
            assert set(scrape.by("queue", OLDEST)) == {"mine"}
            assert "permission denied for the keys" in local.blind_spots()["queue_length"]
            assert (
                len(
                    [
                        line
                        for line in caplog.messages
                        if line.startswith("queue theirs cannot be read")
                    ]
                )
                == 1
            )

    def test_keys_of_another_application_do_not_hide_one_s_own(self, redis_broker: Broker) -> None:
        for name in ("mine", "theirs"):
            publish(redis_broker, "add", 1, 2, queue=name)
        own = ("~mine*", "~unacked*", "~_kombu.binding.mine", "~_kombu.binding.reply*")
        with (
            user(redis_broker, "resetkeys", *own) as url,
            local_exporter(redis_broker, broker_url=url) as local,
        ):
            for _ in range(3):
                assert lengths(local.scrape(names=("queues",))) == {"mine": 1}
                assert "permission denied for the keys" in local.blind_spots()["queue_discovery"]

    @pytest.mark.parametrize(
        ("taken", "subject"),
        [("evalsha", "queue_unacked_messages"), ("smembers", "queue_discovery")],
    )
    def test_what_is_permitted_later_is_seen_from_then_on(
        self, redis_broker: Broker, taken: str, subject: str
    ) -> None:
        publish(redis_broker, "add", 1, 2, queue="waiting")
        with redis_client(redis_broker) as connection, user(redis_broker, f"-{taken}") as url:
            connection.zadd("unacked_index", {"tag": time.time()})
            connection.hset("unacked", "tag", '[{}, "", "waiting"]')
            with local_exporter(redis_broker, broker_url=url) as local:
                local.scrape(names=("queues",))
                assert subject in local.blind_spots()
                connection.execute_command("ACL", "SETUSER", "limited", f"+{taken}")
                wait_for(
                    lambda: (local.scrape(names=("queues",)), subject not in local.blind_spots())[1]
                )
                scrape = local.scrape(names=("queues",))
                assert scrape.by("queue", "celery_queue_unacked_messages") == {"waiting": 1}

    def test_server_without_scripts_has_only_the_total(self) -> None:
        with RedisServer(extra_args=("--rename-command", "EVALSHA", "")) as server:
            broker = Broker("redis", server.url, server.url, server)
            publish(broker, "add", 1, 2, queue="waiting", timestamp=int(time.time()) - 60)
            with server.client() as connection:  # as if a worker held one
                connection.zadd("unacked_index", {"tag": time.time()})
                connection.hset("unacked", "tag", '[{}, "", "celery"]')
            with local_exporter(broker, queues=("waiting",)) as local:
                for _ in range(2):
                    scrape = local.scrape(names=("queues",))
                assert lengths(scrape) == {"waiting": 1}
                assert scrape.value("celery_broker_unacked_messages") == 1
                assert scrape.series("celery_queue_unacked_messages") == scrape.series(OLDEST) == {}
                assert "this Redis runs no scripts" in local.blind_spots()["queue_unacked_messages"]
