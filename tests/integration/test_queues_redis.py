"""Queues on Redis: message age, unacknowledged messages, blind spots, cost of discovery."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from tests.support.scraping import lengths, local_exporter, redis_client
from tests.support.servers import Broker, Publisher, Worker, publish, wait_for

StartWorker = Callable[..., Worker]
OLDEST = "celery_queue_oldest_message_timestamp_seconds"


class TestOldest:
    @pytest.mark.parametrize("stamp", ["header", "property", "both"])
    def test_is_the_stamp_of_the_message_that_comes_next(
        self, redis_broker: Broker, stamp: str
    ) -> None:
        sent = int(time.time()) - 3600
        for at in (sent, sent + 60, sent + 120):
            # A task that is sent again may have kept the header of the first time.
            headers = {"header": {"sent_at": at + 0.25}, "both": {"sent_at": at - 5000.5}}.get(
                stamp
            )
            options: dict[str, Any] = {} if stamp == "header" else {"timestamp": at}
            publish(redis_broker, "add", 1, 2, headers=headers, **options)
        with local_exporter(redis_broker, queues=("celery",)) as local:
            assert local.scrape().by("queue", OLDEST) == {
                "celery": sent + (0.25 if stamp == "header" else 0)
            }

    def test_is_the_oldest_over_all_priorities_and_unknown_when_one_has_no_stamp(
        self, redis_broker: Broker
    ) -> None:
        now = int(time.time())
        publish(redis_broker, "add", 1, 2, priority=0, timestamp=now - 10)
        publish(redis_broker, "add", 1, 2, priority=9, timestamp=now - 1000)
        publish(redis_broker, "add", 1, 2, queue="other", timestamp=now - 5)
        with local_exporter(redis_broker, queues=("celery", "other", "empty")) as local:
            assert local.scrape().by("queue", OLDEST) == {"celery": now - 1000, "other": now - 5}
            publish(redis_broker, "add", 1, 2, priority=3)
            assert local.scrape().by("queue", OLDEST) == {"other": now - 5}

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
            b'{"headers": {"nested": {"sent_at": 1700000000}},'
            b' "properties": {"delivery_info": {"timestamp": 17}}}',
            b"[" * 5000 + b'"timestamp"',
        ],
    )
    def test_is_absent_when_unknown(self, redis_broker: Broker, message: bytes) -> None:
        with (
            redis_client(redis_broker) as connection,
            local_exporter(redis_broker, queues=("celery",)) as local,
        ):
            connection.lpush("celery", message)
            scrape = local.scrape()
            assert lengths(scrape) == {"celery": 1}
            assert scrape.series(OLDEST) == {}
            assert scrape.value("celery_scrape_collector_success", collector="queues") == 1

    def test_of_a_large_message_is_not_looked_for_each_time(self, redis_broker: Broker) -> None:
        sent = int(time.time()) - 60
        publish(redis_broker, "add", "x" * 1_000_000, timestamp=sent)
        publish(redis_broker, "add", 1, 2, queue="other", timestamp=sent)
        with (
            local_exporter(redis_broker, queues=("celery", "other")) as local,
            redis_client(redis_broker) as connection,
        ):
            assert local.scrape().by("queue", OLDEST) in ({}, {"other": sent})
            before = connection.info("commandstats")["cmdstat_lindex"]["calls"]
            assert local.scrape().by("queue", OLDEST) == {"other": sent}
            assert connection.info("commandstats")["cmdstat_lindex"]["calls"] == before + 1


class TestWhatIsSent:
    def test_no_part_of_a_task_leaves_redis(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        size = 90_000
        start_worker(redis_broker, "threads", concurrency=1, conf={"worker_prefetch_multiplier": 3})
        with Publisher(redis_broker) as publisher:
            publisher.send("late", 60, count=3, kwargs={}, headers={"x": "y" * size})
            publisher.send(
                "late",
                60,
                count=3,
                queue="waiting",
                headers={"x": "y" * size, "sent_at": time.time() - 9},
            )
        with (
            local_exporter(redis_broker, queues=("waiting",)) as local,
            redis_client(redis_broker) as connection,
        ):
            wait_for(
                lambda: local.scrape().value("celery_queue_unacked_messages", queue="celery") == 3
            )
            before = connection.info("stats")["total_net_output_bytes"]
            scrape = local.scrape(names=("queues",))
            assert connection.info("stats")["total_net_output_bytes"] - before < size
            assert scrape.value("celery_queue_unacked_messages", queue="celery") == 3
            assert scrape.value(OLDEST, queue="waiting") is not None


class TestUnacked:
    def test_of_queues_with_any_name_are_counted_separately(self, redis_broker: Broker) -> None:
        names = {"größe": 1, "\N{ROCKET}": 2, "back\\slash": 3, "two\nlines": 4, "[a-z]*?": 5}
        with Connection(redis_broker.url) as connection:
            for name, count in names.items():
                queue = Queue(name, Exchange(name), routing_key=name)(connection.default_channel)
                queue.declare()
                with connection.Producer() as producer:
                    for _ in range(count):
                        producer.publish({}, exchange=name, routing_key=name)
                        producer.publish({}, routing_key=name)
                        assert queue.get()  # as a worker holds an unacknowledged message
            with local_exporter(redis_broker) as local:
                scrape = local.scrape(names=("queues",))
                assert lengths(scrape) == names
                assert scrape.by("queue", "celery_queue_unacked_messages") == names

    @pytest.mark.parametrize(
        "entry", [b'[{}, "", "\\x"]', b'[{}, "", "\xff"]', b'[{}, "", "a\nb"]', b"", b"nothing"]
    )
    def test_are_absent_when_unknown(self, redis_broker: Broker, entry: bytes) -> None:
        with (
            redis_client(redis_broker) as connection,
            local_exporter(redis_broker, queues=("celery",)) as local,
        ):
            connection.zadd("unacked_index", {"tag": time.time()})
            connection.hset("unacked", "tag", entry)
            scrape = local.scrape(names=("queues",))
            assert scrape.value("celery_broker_unacked_messages") == 1
            assert scrape.series("celery_queue_unacked_messages") == {}
            assert "not counted by queue" in local.blind_spots()["queue_unacked_messages"]

    def test_without_ack_emulation_are_a_blind_spot(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        conf = {"broker_transport_options": {"ack_emulation": False}}
        worker = start_worker(redis_broker, "solo", conf=conf)
        publish(redis_broker, "late", 30, conf=conf)
        with local_exporter(redis_broker, **conf) as local:
            wait_for(lambda: "received" in worker.log)
            scrape = local.scrape(names=("queues",))
            assert lengths(scrape) == {"celery": 0}
            assert scrape.series("celery_queue_unacked_messages") == {}
            assert scrape.value("celery_broker_unacked_messages") is None
            assert "ack_emulation" in local.blind_spots()["queue_unacked_messages"]


class TestPriorities:
    def test_are_shown_apart_when_asked_for(self, redis_broker: Broker) -> None:
        for priority, count in ((0, 1), (3, 2), (9, 4)):
            publish(redis_broker, "add", 1, 2, count=count, priority=priority)
        with local_exporter(redis_broker, queues=("celery",), queue_priorities=True) as local:
            scrape = local.scrape()
            assert scrape.by("priority", "celery_queue_priority_length") == {
                "0": 1,
                "3": 2,
                "6": 0,
                "9": 4,
            }
            assert lengths(scrape) == {"celery": 7}
        with local_exporter(redis_broker, queues=("celery",)) as local:
            assert local.scrape().series("celery_queue_priority_length") == {}

    def test_of_producers_with_other_steps_are_counted(self, redis_broker: Broker) -> None:
        conf = {"broker_transport_options": {"priority_steps": list(range(10))}}
        publish(redis_broker, "add", 1, 2, queue="many", count=3, priority=3, conf=conf)
        publish(redis_broker, "add", 1, 2, queue="many", count=4, priority=5, conf=conf)
        for options in ({}, conf["broker_transport_options"]):
            with local_exporter(
                redis_broker,
                queues=("many", "other"),
                queue_priorities=True,
                broker_transport_options=options,
            ) as local:
                scrape = local.scrape()
                assert lengths(scrape) == {"many": 7, "other": 0}
                declared = options.get("priority_steps", (0, 3, 6, 9))
                steps = dict.fromkeys(declared, 0) | {3: 3, 5: 4}
                shown = scrape.series("celery_queue_priority_length")
                assert {
                    dict(labels)["priority"]: value
                    for labels, value in shown.items()
                    if dict(labels)["queue"] == "many"
                } == {str(step): count for step, count in steps.items()}
                assert "queue_priorities" not in local.blind_spots()

    def test_of_one_among_many_queues_are_counted_at_once(self, redis_broker: Broker) -> None:
        names = [f"queue-{number}" for number in range(250)]
        with (
            redis_client(redis_broker) as connection,
            local_exporter(redis_broker, queues=tuple(names)) as local,
        ):
            for count in (1, 2, 0):
                for name in ("queue-7", "queue-249"):
                    connection.delete(f"{name}\x06\x161")
                    if count:
                        connection.lpush(f"{name}\x06\x161", *[b"{}"] * count)
                scrape = local.scrape(names=("queues",))
                assert lengths(scrape) == dict.fromkeys(names, 0) | {
                    "queue-7": count,
                    "queue-249": count,
                }


class TestHarm:
    def test_reply_queues_that_were_left_behind_are_counted(self, redis_broker: Broker) -> None:
        with redis_client(redis_broker) as connection, local_exporter(redis_broker) as local:
            assert local.scrape().value("celery_broker_orphaned_reply_queues") == 0
            members = [
                f"{number}\x06\x16\x06\x16{number}.reply.celery.pidbox" for number in range(3)
            ]
            connection.sadd("_kombu.binding.reply.celery.pidbox", *members)
            assert local.scrape().value("celery_broker_orphaned_reply_queues") == 3
            assert lengths(local.scrape()) == {}

    def test_the_exporter_s_own_are_none(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        start_worker(redis_broker, "solo")
        with local_exporter(redis_broker) as local, local_exporter(redis_broker) as another:
            for _ in range(2):
                assert local.scrape().value("celery_worker_up", worker="solo@test") == 1
                assert another.scrape().value("celery_broker_orphaned_reply_queues") == 0


class TestDiscovery:
    def test_among_many_keys_costs_a_scrape_little(self, redis_broker: Broker) -> None:
        def cost() -> float:
            """Milliseconds of a scrape, in the middle of some."""
            return 1000 * statistics.median(
                local.scrape(names=("queues",)).seconds for _ in range(30)
            )

        publish(redis_broker, "add", 1, 2, queue="orphan")
        with local_exporter(redis_broker) as local, redis_client(redis_broker) as connection:
            wait_for(lambda: lengths(local.scrape()) == {"orphan": 1})
            cheap = cost()
            connection.eval(
                "for i = 1, 300000 do redis.call('SET', 'celery-task-meta-' .. i, '') end", 0
            )

            def little() -> bool:
                dear = cost()
                print(
                    f"\na scrape of queues: {cheap:.1f} ms, among 300,000 other keys {dear:.1f} ms"
                )
                return dear - cheap < 5

            wait_for(little)
            assert lengths(local.scrape()) == {"orphan": 1}
        with local_exporter(redis_broker) as local:
            first = local.scrape(names=("queues",))
            print(f"the first scrape among them: {1000 * first.seconds:.0f} ms")
            wait_for(lambda: lengths(local.scrape(names=("queues",))) == {"orphan": 1})

    def test_more_queues_than_the_limit_are_a_blind_spot(
        self, redis_broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("celery_vitals.queue_registry._MAX_DISCOVERED", 3)
        for number in range(5):
            publish(redis_broker, "add", 1, 2, queue=f"queue-{number}")
        with local_exporter(redis_broker) as local:
            assert len(lengths(local.scrape(names=("queues",)))) == 3
            assert "limit of discovered queues" in local.blind_spots()["queue_discovery"]
        with local_exporter(redis_broker, queue_include=("queue-1",)) as local:
            assert lengths(local.scrape(names=("queues",))) == {"queue-1": 1}
            assert "queue_discovery" not in local.blind_spots()

    def test_is_a_blind_spot_until_all_keys_were_scanned(
        self,
        redis_broker: Broker,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for name, value in {
            "_KEYS_AT_FIRST": 10,
            "_MIN_KEYS": 10,
            "_MAX_KEYS": 10,
            "_FIRST_SHARE": 0,
            "_SECONDS": 0,
        }.items():
            monkeypatch.setattr(f"celery_vitals.brokers.redis.discovery.{name}", value)
        with redis_client(redis_broker) as connection:
            connection.mset({f"key-{number}": "" for number in range(1000)})
        publish(redis_broker, "add", 1, 2, queue="orphan")
        with local_exporter(redis_broker) as local:
            local.scrape(names=("queues",))
            assert "not scanned all keys" in local.blind_spots()["queue_discovery"]
            wait_for(
                lambda: (
                    local.scrape(names=("queues",)),
                    "queue_discovery" not in local.blind_spots(),
                )[1],
                interval=0,
            )
            assert lengths(local.scrape(names=("queues",))) == {"orphan": 1}
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_limits_are_shown_for_queues_that_are_known(redis_broker: Broker) -> None:
    limits: dict[str, Any] = {"celery": 100, "nosuch": 5, "*": 1000}
    with local_exporter(redis_broker, queues=("celery", "other"), queue_limits=limits) as local:
        assert local.scrape().by("queue", "celery_queue_length_limit") == {
            "celery": 100,
            "other": 1000,
        }
    with local_exporter(
        redis_broker, queues=("celery", "other"), queue_limits={"celery": 100}
    ) as local:
        assert local.scrape().by("queue", "celery_queue_length_limit") == {"celery": 100}


def test_patterns_hold_for_queues_from_workers_too(
    redis_broker: Broker, start_worker: StartWorker
) -> None:
    start_worker(redis_broker, "solo", queues=("served", "tmp-1"))
    publish(redis_broker, "add", 1, 2, queue="tmp-2")
    with local_exporter(redis_broker, queue_exclude=("tmp-*",), queues=("tmp-3",)) as local:
        for _ in range(2):
            scrape = local.scrape()
        assert lengths(scrape) == {"served": 0, "tmp-3": 0}
        assert scrape.by("queue", "celery_queue_workers") == {"served": 1, "tmp-3": 0}
        assert {row.name for row in local.collector.status().queues} == {"served", "tmp-3"}
