"""Queues on Redis: what the length hides, what is said when something cannot be seen, and what looking costs."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis

from tests.exporter import Scrape
from tests.live.looking import Look, looking
from tests.servers import Broker, Publisher, RedisServer, Worker, publish, wait_for

StartWorker = Callable[..., Worker]
OLDEST = "celery_queue_oldest_message_timestamp_seconds"


@contextmanager
def client(broker: Broker) -> Iterator[redis.Redis]:
    """A connection of the test's own."""
    assert isinstance(broker.server, RedisServer)
    with broker.server.client(int(broker.space)) as connection:
        yield connection


@contextmanager
def user(broker: Broker, *rules: str) -> Iterator[str]:
    """A user who may do everything but what the rules take away; the URL with which it connects."""
    with client(broker) as connection:
        connection.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "&*", "+@all", *rules)
        parts = urlsplit(broker.url)
        try:
            yield urlunsplit(parts._replace(netloc=f"limited:secret@{parts.hostname}:{parts.port}"))
        finally:
            connection.execute_command("ACL", "DELUSER", "limited")


def notes(look: Look) -> dict[str, str]:
    """What is said to be unseen, by subject."""
    texts: dict[str, str] = {}
    for note in look.collector.report().notes:
        texts[note.subject] = f"{texts.get(note.subject, '')}{note.text} "
    return texts


def lengths(scrape: Scrape) -> dict[str, float]:
    return scrape.by("queue", "celery_queue_length")


class TestOldest:
    @pytest.mark.parametrize("stamp", ["header", "property", "both"])
    def test_is_the_stamp_of_the_message_that_comes_next(self, redis_broker: Broker, stamp: str) -> None:
        sent = int(time.time()) - 3600
        for at in (sent, sent + 60, sent + 120):
            # A task that is sent again may have kept the header of the first time.
            headers = {"header": {"sent_at": at + 0.25}, "both": {"sent_at": at - 5000.5}}.get(stamp)
            options: dict[str, Any] = {} if stamp == "header" else {"timestamp": at}
            publish(redis_broker, "add", 1, 2, headers=headers, **options)
        with looking(redis_broker, queues=("celery",)) as look:
            assert look.scrape().by("queue", OLDEST) == {"celery": sent + (0.25 if stamp == "header" else 0)}

    def test_is_the_oldest_over_all_priorities_and_unknown_when_one_has_no_stamp(self, redis_broker: Broker) -> None:
        now = int(time.time())
        publish(redis_broker, "add", 1, 2, priority=0, timestamp=now - 10)
        publish(redis_broker, "add", 1, 2, priority=9, timestamp=now - 1000)
        publish(redis_broker, "add", 1, 2, queue="other", timestamp=now - 5)
        with looking(redis_broker, queues=("celery", "other", "empty")) as look:
            assert look.scrape().by("queue", OLDEST) == {"celery": now - 1000, "other": now - 5}
            publish(redis_broker, "add", 1, 2, priority=3)
            assert look.scrape().by("queue", OLDEST) == {"other": now - 5}

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"not JSON",
            b"[]",
            b'{"headers": null, "properties": null, "x": "timestamp", "timestamp": 5}',
            b'{"headers": {"sent_at": "soon"}, "properties": {"timestamp": "never"}}',
            b'{"headers": {"sent_at": 1e300}}',
            b'{"headers": {"argsrepr": "{\\"sent_at\\": 1700000000}"}, "properties": {}}',
            b'{"headers": {"nested": {"sent_at": 1700000000}}, "properties": {"delivery_info": {"timestamp": 17}}}',
            b"[" * 5000 + b'"timestamp"',
        ],
    )
    def test_is_not_made_up(self, redis_broker: Broker, message: bytes) -> None:
        with client(redis_broker) as connection, looking(redis_broker, queues=("celery",)) as look:
            connection.lpush("celery", message)
            scrape = look.scrape()
            assert lengths(scrape) == {"celery": 1}
            assert scrape.series(OLDEST) == {}
            assert scrape.value("celery_scrape_collector_success", collector="queues") == 1

    def test_of_a_large_message_is_not_looked_for_each_time(self, redis_broker: Broker) -> None:
        sent = int(time.time()) - 60
        publish(redis_broker, "add", "x" * 1_000_000, timestamp=sent)
        publish(redis_broker, "add", 1, 2, queue="other", timestamp=sent)
        with looking(redis_broker, queues=("celery", "other")) as look, client(redis_broker) as connection:
            assert look.scrape().by("queue", OLDEST) in ({}, {"other": sent})
            before = connection.info("commandstats")["cmdstat_lindex"]["calls"]
            assert look.scrape().by("queue", OLDEST) == {"other": sent}
            assert connection.info("commandstats")["cmdstat_lindex"]["calls"] == before + 1


class TestWhatIsSent:
    def test_no_part_of_a_task_leaves_redis(self, redis_broker: Broker, start_worker: StartWorker) -> None:
        size = 90_000
        start_worker(redis_broker, "threads", concurrency=1, conf={"worker_prefetch_multiplier": 3})
        with Publisher(redis_broker) as publisher:
            publisher.send("late", 60, count=3, kwargs={}, headers={"x": "y" * size})
            publisher.send("late", 60, count=3, queue="waiting", headers={"x": "y" * size, "sent_at": time.time() - 9})
        with looking(redis_broker, queues=("waiting",)) as look, client(redis_broker) as connection:
            wait_for(lambda: look.scrape().value("celery_queue_unacked_messages", queue="celery") == 3)
            before = connection.info("stats")["total_net_output_bytes"]
            scrape = look.scrape(names=("queues",))
            assert connection.info("stats")["total_net_output_bytes"] - before < size
            assert scrape.value("celery_queue_unacked_messages", queue="celery") == 3
            assert scrape.value(OLDEST, queue="waiting") is not None


class TestPriorities:
    def test_are_shown_apart_when_asked_for(self, redis_broker: Broker) -> None:
        for priority, count in ((0, 1), (3, 2), (9, 4)):
            publish(redis_broker, "add", 1, 2, count=count, priority=priority)
        with looking(redis_broker, queues=("celery",), queue_priorities=True) as look:
            scrape = look.scrape()
            assert scrape.by("priority", "celery_queue_priority_length") == {"0": 1, "3": 2, "6": 0, "9": 4}
            assert lengths(scrape) == {"celery": 7}
        with looking(redis_broker, queues=("celery",)) as look:
            assert look.scrape().series("celery_queue_priority_length") == {}

    def test_that_are_not_counted_are_said_to_be_there(self, redis_broker: Broker) -> None:
        conf = {"broker_transport_options": {"priority_steps": list(range(10))}}
        publish(redis_broker, "add", 1, 2, queue="many", count=3, priority=3, conf=conf)
        publish(redis_broker, "add", 1, 2, queue="many", count=4, priority=5, conf=conf)
        with looking(redis_broker, queues=("many", "other")) as look:
            assert lengths(look.scrape())["many"] == 3
            assert "in many:" in notes(look)["queue_priorities"]
            assert look.scrape().value("celery_exporter_blind_spot", subject="queue_priorities") == 1
        with looking(redis_broker, queues=("many",), broker_transport_options=conf["broker_transport_options"]) as look:
            assert lengths(look.scrape())["many"] == 7
            assert "queue_priorities" not in notes(look)

    def test_of_many_queues_are_all_looked_at_in_turn(self, redis_broker: Broker) -> None:
        names = [f"queue-{number}" for number in range(50)]
        with client(redis_broker) as connection, looking(redis_broker, queues=tuple(names)) as look:
            connection.lpush("queue-7\x06\x161", b"{}")
            wait_for(lambda: (look.scrape(), "queue_priorities" in notes(look))[1])
            connection.delete("queue-7\x06\x161")
            wait_for(lambda: (look.scrape(), "queue_priorities" not in notes(look))[1])


class TestHarm:
    def test_reply_queues_that_were_left_behind_are_counted(self, redis_broker: Broker) -> None:
        with client(redis_broker) as connection, looking(redis_broker) as look:
            assert look.scrape().value("celery_broker_orphaned_reply_queues") == 0
            members = [f"{number}\x06\x16\x06\x16{number}.reply.celery.pidbox" for number in range(3)]
            connection.sadd("_kombu.binding.reply.celery.pidbox", *members)
            assert look.scrape().value("celery_broker_orphaned_reply_queues") == 3
            assert lengths(look.scrape()) == {}

    def test_the_exporter_s_own_are_none(self, redis_broker: Broker, start_worker: StartWorker) -> None:
        start_worker(redis_broker, "solo")
        with looking(redis_broker) as look, looking(redis_broker) as another:
            for _ in range(2):
                assert look.scrape().value("celery_worker_up", worker="solo@test") == 1
                assert another.scrape().value("celery_broker_orphaned_reply_queues") == 0


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
            ("exists", "queue_priorities"),
            ("scard", "orphaned_reply_queues"),
        ],
    )
    def test_the_command_that_is_missing_is_named_and_the_rest_is_served(
        self, redis_broker: Broker, caplog: pytest.LogCaptureFixture, taken: str, subject: str
    ) -> None:
        publish(redis_broker, "add", 1, 2, count=3, queue="waiting")
        with client(redis_broker) as connection:  # as if a worker held one
            connection.zadd("unacked_index", {"tag": time.time()})
            connection.hset("unacked", "tag", '[{}, "", "celery"]')
        with (
            user(redis_broker, f"-{taken}") as url,
            looking(redis_broker, broker_url=url, queues=("waiting",)) as look,
        ):
            for _ in range(3):
                scrape = look.scrape(names=("queues",))
            words = f"may not run {taken.upper()}"
            assert words in notes(look)[subject]
            assert len([record for record in caplog.records if words in record.getMessage()]) == 1
            assert scrape.value("celery_scrape_collector_success", collector="queues") == 1
            assert lengths(scrape) == ({"waiting": 3} if taken != "llen" else {})
            assert scrape.value("celery_broker_unacked_messages") == (None if taken == "hlen" else 1)
            apart = scrape.value("celery_queue_unacked_messages", queue="waiting")
            assert apart == (0 if taken in ("scan", "smembers", "exists", "scard") else None)
            assert (scrape.value("celery_broker_orphaned_reply_queues") is None) == (taken == "scard")
            assert "queues" not in notes(look)

    def test_a_script_that_may_not_do_its_work_costs_its_own_answer_only(self, redis_broker: Broker) -> None:
        publish(redis_broker, "add", 1, 2, queue="waiting", timestamp=int(time.time()) - 60)
        with (
            user(redis_broker, "-lindex") as url,
            looking(redis_broker, broker_url=url, queues=("waiting",)) as look,
        ):
            scrape = look.scrape()
            assert lengths(scrape) == {"waiting": 1}
            assert scrape.value("celery_queue_unacked_messages", queue="waiting") == 0
            assert scrape.series(OLDEST) == {}

    def test_keys_that_are_another_s_cost_their_own_queue_only(
        self, redis_broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("mine", "theirs"):
            publish(redis_broker, "add", 1, 2, queue=name, timestamp=int(time.time()) - 60)
        with (
            user(redis_broker, "resetkeys", "~mine*", "~unacked*", "~_kombu.*") as url,
            looking(redis_broker, broker_url=url, queues=("mine", "theirs")) as look,
        ):
            for _ in range(2):
                scrape = look.scrape(names=("queues",))
            assert lengths(scrape) == {"mine": 1}
            assert set(scrape.by("queue", OLDEST)) == {"mine"}
            assert "may not use the keys" in notes(look)["queue_length"]
            assert len([line for line in caplog.messages if line.startswith("queue theirs cannot be read")]) == 1

    def test_a_server_without_scripts_tells_the_total_only(self) -> None:
        with RedisServer(extra_args=("--rename-command", "EVALSHA", "")) as server:
            broker = Broker("redis", server.url, server.url, server)
            publish(broker, "add", 1, 2, queue="waiting", timestamp=int(time.time()) - 60)
            with server.client() as connection:  # as if a worker held one
                connection.zadd("unacked_index", {"tag": time.time()})
                connection.hset("unacked", "tag", '[{}, "", "celery"]')
            with looking(broker, queues=("waiting",)) as look:
                for _ in range(2):
                    scrape = look.scrape(names=("queues",))
                assert lengths(scrape) == {"waiting": 1}
                assert scrape.value("celery_broker_unacked_messages") == 1
                assert scrape.series("celery_queue_unacked_messages") == scrape.series(OLDEST) == {}
                assert "this Redis runs no scripts" in notes(look)["queue_unacked_messages"]


class TestDiscovery:
    def test_among_many_keys_costs_a_scrape_little(self, redis_broker: Broker) -> None:
        def cost() -> float:
            """Milliseconds of a scrape, in the middle of some."""
            return 1000 * statistics.median(look.scrape(names=("queues",)).seconds for _ in range(30))

        publish(redis_broker, "add", 1, 2, queue="orphan")
        with looking(redis_broker) as look, client(redis_broker) as connection:
            wait_for(lambda: lengths(look.scrape()) == {"orphan": 1})
            cheap = cost()
            connection.eval("for i = 1, 300000 do redis.call('SET', 'celery-task-meta-' .. i, '') end", 0)

            def little() -> bool:
                dear = cost()
                print(f"\na scrape of queues: {cheap:.1f} ms, among 300,000 other keys {dear:.1f} ms")
                return dear - cheap < 5

            wait_for(little)
            assert lengths(look.scrape()) == {"orphan": 1}
        with looking(redis_broker) as look:
            first = look.scrape(names=("queues",))
            print(f"the first scrape among them: {1000 * first.seconds:.0f} ms")
            wait_for(lambda: lengths(look.scrape(names=("queues",))) == {"orphan": 1})

    def test_is_said_to_be_under_way_until_all_keys_have_been_seen(
        self, redis_broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name, value in {"_KEYS_AT_FIRST": 10, "_FEWEST": 10, "_MOST": 10, "_FIRST_LOOK": 0, "_SECONDS": 0}.items():
            monkeypatch.setattr(f"celery_vitals.queues.bindings.{name}", value)
        with client(redis_broker) as connection:
            connection.mset({f"key-{number}": "" for number in range(1000)})
        publish(redis_broker, "add", 1, 2, queue="orphan")
        with looking(redis_broker) as look:
            look.scrape(names=("queues",))
            assert "Not all keys" in notes(look)["queue_discovery"]
            wait_for(lambda: (look.scrape(names=("queues",)), "queue_discovery" not in notes(look))[1], interval=0)
            assert lengths(look.scrape(names=("queues",))) == {"orphan": 1}
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_limits_are_shown_for_queues_that_are_known(redis_broker: Broker) -> None:
    limits: dict[str, Any] = {"celery": 100, "nosuch": 5, "*": 1000}
    with looking(redis_broker, queues=("celery", "other"), queue_limits=limits) as look:
        assert look.scrape().by("queue", "celery_queue_length_limit") == {"celery": 100, "other": 1000}
    with looking(redis_broker, queues=("celery", "other"), queue_limits={"celery": 100}) as look:
        assert look.scrape().by("queue", "celery_queue_length_limit") == {"celery": 100}


def test_patterns_hold_for_queues_from_workers_too(redis_broker: Broker, start_worker: StartWorker) -> None:
    start_worker(redis_broker, "solo", queues=("served", "tmp-1"))
    publish(redis_broker, "add", 1, 2, queue="tmp-2")
    with looking(redis_broker, queue_exclude=("tmp-*",), queues=("tmp-3",)) as look:
        for _ in range(2):
            scrape = look.scrape()
        assert lengths(scrape) == {"served": 0, "tmp-3": 0}
        assert scrape.by("queue", "celery_queue_workers") == {"served": 1, "tmp-3": 0}
        assert {row.name for row in look.collector.report().queues} == {"served", "tmp-3"}
