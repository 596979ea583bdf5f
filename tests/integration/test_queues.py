"""Queues of every kind: length, unacknowledged messages, discovery, blind spots."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Exchange, Queue

from tests.support.exporter import Exporter
from tests.support.scrape import Scrape
from tests.support.scraping import LocalExporter, answering, local_exporter
from tests.support.servers import (
    HOST,
    Broker,
    Publisher,
    RabbitMQServer,
    RedisServer,
    Worker,
    free_port,
    publish,
    queues_conf,
    wait_for,
)

StartWorker = Callable[..., Worker]


def lengths(scrape: Scrape) -> dict[str, float]:
    return scrape.by("queue", "celery_queue_length")


def found(local: LocalExporter, *names: str) -> Scrape:
    """Wait for a scrape with these queues; brokers with delayed statistics need several."""

    def shown() -> Scrape | None:
        scrape = local.scrape()
        return scrape if set(names) <= set(lengths(scrape)) else None

    scrape = wait_for(shown)
    assert scrape is not None
    return scrape


TEN_STEPS: dict[str, Any] = {
    "priority_steps": list(range(10)),
    "sep": ":",
    "global_keyprefix": "shop:",
}


class TestLength:
    def test_is_the_sum_of_all_priorities(self, redis_broker: Broker) -> None:
        for priority in (0, 3, 6, 9):
            publish(redis_broker, "add", 1, 2, count=10, priority=priority)
        with local_exporter(redis_broker) as local:
            assert lengths(found(local, "celery")) == {"celery": 40}

    def test_with_the_transport_options_of_the_application(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        conf = {"broker_transport_options": TEN_STEPS}
        start_worker(redis_broker, "solo", queues=("served",), conf=conf)
        for priority in range(10):
            publish(redis_broker, "add", 1, 2, queue="many", count=4, priority=priority, conf=conf)
        options = [f"--broker-transport-option={name}={value}" for name, value in TEN_STEPS.items()]
        with Exporter.of(redis_broker, *options) as exporter:
            exporter.scrape()
            scrape = exporter.scrape()
            assert lengths(scrape) == {"many": 40, "served": 0}
            assert scrape.by("worker", "celery_worker_up") == {"solo@test": 1}
        with Exporter.of(redis_broker, "--queue", "many") as ignorant:
            assert lengths(ignorant.scrape()) == {}

    def test_with_a_prefix_that_would_mean_something_in_a_pattern(
        self, redis_broker: Broker
    ) -> None:
        options = {"global_keyprefix": "shop[1]*"}
        publish(redis_broker, "add", 1, 2, count=3, conf={"broker_transport_options": options})
        with local_exporter(redis_broker, broker_transport_options=options) as local:
            assert lengths(found(local, "celery")) == {"celery": 3}

    def test_of_a_queue_whose_name_has_the_separator_in_it(self, redis_broker: Broker) -> None:
        options = {"sep": ":"}
        for name in ("shop:orders", "celery"):
            publish(
                redis_broker,
                "add",
                1,
                2,
                queue=name,
                count=2,
                conf={"broker_transport_options": options},
            )
        with local_exporter(
            redis_broker, broker_transport_options=options, queues=("shop:orders", "celery")
        ) as local:
            scrape = local.scrape()
            assert scrape.value("celery_scrape_collector_success", collector="queues") == 1
            assert lengths(scrape) == {"shop:orders": 2, "celery": 2}

    def test_of_an_empty_queue_is_zero_and_no_error(
        self, redis_broker: Broker, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
    ) -> None:
        start_worker(redis_broker, "solo", queues=("a",))
        with local_exporter(redis_broker) as local:
            local.scrape()
            scrape = local.scrape()
            with redis_broker.server.client(int(redis_broker.namespace)) as client:  # type: ignore[attr-defined]
                assert not client.exists("a")
            assert lengths(scrape) == {"a": 0}
            assert scrape.value("celery_scrape_collector_success", collector="queues") == 1
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    def test_of_a_queue_that_never_had_consumers(self, broker: Broker) -> None:
        publish(broker, "add", 1, 2, queue="orphan", count=7)
        with local_exporter(broker) as local:
            scrape = found(local, "orphan")
            assert lengths(scrape) == {"orphan": 7}
            assert scrape.value("celery_queue_workers", queue="orphan") == 0
            assert scrape.value("celery_queue_slots", queue="orphan") == 0
            assert local.collector.status().queues[0].length == 7

    def test_is_known_to_an_exporter_started_after_the_last_worker_has_stopped(
        self, broker: Broker, start_worker: StartWorker
    ) -> None:
        worker = start_worker(broker, "solo")
        with local_exporter(broker) as local:
            local.scrape()
            worker.stop()
            publish(broker, "add", 1, 2, count=5)
            wait_for(lambda: lengths(local.scrape()) == {"celery": 5})
        with local_exporter(broker) as another:
            scrape = found(another, "celery")
            assert lengths(scrape) == {"celery": 5}
            assert scrape.value("celery_queue_workers", queue="celery") == 0

    def test_of_a_quorum_queue(self, rabbitmq_broker: Broker, start_worker: StartWorker) -> None:
        conf = queues_conf("safe", **{"x-queue-type": "quorum"})
        publish(rabbitmq_broker, "late", 30, queue="safe", count=5, conf=conf)
        with local_exporter(rabbitmq_broker) as local:
            assert lengths(found(local, "safe")) == {"safe": 5}
            options = {**conf, "worker_prefetch_multiplier": 1}
            start_worker(rabbitmq_broker, "solo", queues=("safe",), concurrency=1, conf=options)
            wait_for(lambda: lengths(local.scrape())["safe"] < 5)

            def all_are_counted() -> bool:
                scrape = local.scrape()
                held = scrape.value("celery_queue_unacked_messages", queue="safe") or 0
                assert scrape.value("celery_queue_consumers", queue="safe") == 1
                return held > 0 and held + lengths(scrape)["safe"] == 5

            wait_for(all_are_counted)

    def test_does_not_wait_for_workers_that_are_not_asked(self, broker: Broker) -> None:
        with local_exporter(broker, queues=("celery",)) as local:
            assert local.scrape(names=("queues",)).seconds < 1


class TestHeld:
    def test_prefetched_messages_of_late_tasks_are_unacknowledged_and_not_in_the_length(
        self, broker: Broker, start_worker: StartWorker
    ) -> None:
        conf = {"worker_prefetch_multiplier": 50}
        start_worker(broker, "threads", queues=("celery", "other"), concurrency=1, conf=conf)
        publish(broker, "late", 60, count=50)

        def held() -> bool:
            return local.scrape().value("celery_queue_unacked_messages", queue="celery") == 50

        with local_exporter(broker) as local:
            wait_for(held)
            scrape = local.scrape()
            assert lengths(scrape) == {"celery": 0, "other": 0}
            assert scrape.value("celery_queue_unacked_messages", queue="other") == 0
            assert scrape.value("celery_worker_prefetch_limit", worker="threads@test") == 50
            if broker.kind == "redis":
                assert scrape.value("celery_broker_unacked_messages") == 50
                assert scrape.value("celery_broker_oldest_unacked_timestamp_seconds") is not None

    @pytest.mark.parametrize("kind", ["direct", "topic"])
    def test_by_queue_where_messages_come_over_exchanges(
        self, redis_broker: Broker, start_worker: StartWorker, kind: str
    ) -> None:
        exchange = Exchange("media", type=kind)
        keys = {"videos": "video.make", "pictures": "picture.make"}
        pattern = "*" if kind == "topic" else "make"
        declared = [
            Queue(name, exchange, key.replace("make", pattern)) for name, key in keys.items()
        ]
        with Publisher(redis_broker, {"task_queues": declared}) as publisher:
            for (name, key), count in zip(keys.items(), (3, 4), strict=True):
                publisher.send("late", 60, queue=name, count=count, routing_key=key)
        with local_exporter(redis_broker) as local:
            assert lengths(found(local, *keys)) == {"videos": 3, "pictures": 4}
            names = {"task_default_exchange": "media", "task_default_exchange_type": kind}
            conf = {"worker_prefetch_multiplier": 5, **names}
            start_worker(redis_broker, "threads", queues=("videos",), concurrency=1, conf=conf)
            wait_for(lambda: local.scrape().value("celery_broker_unacked_messages") == 3)
            scrape = local.scrape()
            assert lengths(scrape) == {"videos": 0, "pictures": 4}
            # A message of a topic exchange does not name its queue: no queue is exported.
            expected = {"videos": 3.0, "pictures": 0.0} if kind == "direct" else {}
            assert scrape.by("queue", "celery_queue_unacked_messages") == expected


class TestShown:
    def test_nothing_of_celery_s_own_machinery(
        self, broker: Broker, start_worker: StartWorker
    ) -> None:
        start_worker(broker, "solo", events=True, gossip=True, mingle=True)
        with (
            local_exporter(broker) as local,
            local_exporter(broker) as another,
            Publisher(broker) as publisher,
        ):
            assert publisher.run("add", 1, 2) == 3  # over an RPC queue on RabbitMQ
            publisher.app.control.ping(timeout=0.2, connection=publisher._connection)
            for _ in range(3):
                assert lengths(local.scrape()) == lengths(another.scrape()) == {"celery": 0}

    def test_no_deleted_queue(self, broker: Broker) -> None:
        publish(broker, "add", 1, 2, queue="fleeting", count=2)
        publish(broker, "add", 1, 2, queue="lasting", count=2)
        with local_exporter(broker) as local:
            found(local, "fleeting", "lasting")
            if isinstance(broker.server, RabbitMQServer):
                broker.server.api("DELETE", f"queues/{broker.namespace}/fleeting")
            elif isinstance(broker.server, RedisServer):
                with broker.server.client(int(broker.namespace)) as client:
                    client.delete("fleeting", "_kombu.binding.fleeting")
            wait_for(lambda: lengths(local.scrape()) == {"lasting": 2})

    def test_one_that_is_configured_and_missing_disturbs_no_other(
        self, rabbitmq_broker: Broker
    ) -> None:
        publish(rabbitmq_broker, "add", 1, 2, queue="here", count=2)
        with Exporter.of(
            rabbitmq_broker, "--queue", "nosuch", "--queue", "here", "--queue", "zz"
        ) as exporter:
            for _ in range(3):
                scrape = exporter.scrape()
                assert lengths(scrape) == {"here": 2}
                assert scrape.value("celery_scrape_collector_success", collector="queues") == 1
            assert len([line for line in exporter.log.splitlines() if "nosuch" in line]) == 1
            assert "level=error" not in exporter.log

    def test_one_that_is_missing_appears_when_it_comes(self, rabbitmq_broker: Broker) -> None:
        with local_exporter(rabbitmq_broker, queues=("awaited",)) as local:
            assert lengths(local.scrape()) == {}
            publish(rabbitmq_broker, "add", 1, 2, queue="awaited")
            assert lengths(local.scrape()) == {"awaited": 1}


@pytest.fixture
def website() -> Iterator[str]:
    with answering({"": b"<html>Welcome!</html>"}) as url:
        yield url


class TestManagement:
    @pytest.mark.parametrize(
        ("trouble", "words"),
        [
            ("wrong password", "returns status 401"),
            ("HTML", "not one of a management API"),
            ("absent", "does not respond"),
            ("not configured", "does not respond"),
        ],
    )
    def test_without_it_there_are_lengths_and_a_blind_spot(
        self, rabbitmq_broker: Broker, website: str, trouble: str, words: str
    ) -> None:
        urls = {
            "wrong password": rabbitmq_broker.management_url.replace("vitals-secret", "wrong"),
            "HTML": website,
            "absent": f"http://{HOST}:{free_port()}",
            "not configured": None,
        }
        publish(rabbitmq_broker, "add", 1, 2, queue="known", count=3)
        publish(rabbitmq_broker, "add", 1, 2, queue="unknown", count=3)
        with local_exporter(
            rabbitmq_broker, queues=("known",), rabbitmq_management_url=urls[trouble]
        ) as local:
            for _ in range(2):
                scrape = local.scrape()
                assert lengths(scrape) == {"known": 3}
                assert scrape.value("celery_scrape_collector_success", collector="queues") == 1
                assert scrape.series("celery_queue_unacked_messages") == {}
            blind = {"queue_unacked_messages", "queue_discovery"}
            assert blind <= set(scrape.by("subject", "celery_exporter_blind_spot"))
            spots = {spot.subject: spot for spot in local.collector.status().blind_spots}
            assert all(words in spots[subject].reason for subject in blind)
            assert spots["queue_discovery"].setting == "--rabbitmq-management-url"

    def test_with_it_there_is_no_blind_spot(self, rabbitmq_broker: Broker) -> None:
        publish(rabbitmq_broker, "add", 1, 2, queue="known")
        with local_exporter(rabbitmq_broker) as local:
            found(local, "known")
            blind = set(local.scrape().by("subject", "celery_exporter_blind_spot"))
            assert not blind & {"queue_unacked_messages", "queue_discovery"}
