"""Queues on RabbitMQ: quorum queues, streams, delayed delivery, the management API."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import pytest
from celery import Celery
from kombu import Connection

from celery_vitals import Collector, Settings
from celery_vitals.deadline import Deadline
from tests.conftest import namespace_on
from tests.support.scrape import Scrape
from tests.support.scraping import LocalExporter, local_exporter
from tests.support.servers import HOST, Broker, Worker, free_port, publish, queues_conf, wait_for

StartWorker = Callable[..., Worker]
OLDEST = "celery_queue_oldest_message_timestamp_seconds"
DELAYED = "celery_broker_delayed_messages"
ORPHANED = "celery_broker_orphaned_reply_queues"


def until(local: LocalExporter, name: str, expected: dict[str, float]) -> Scrape:
    """The first scrape that shows a metric so, by queue: the numbers of the API come late."""

    def shown() -> Scrape | None:
        scrape = local.scrape()
        value = scrape.by("queue", name)
        assert value == expected, f"{name} is {value}, not {expected}"
        return scrape

    scrape = wait_for(shown)
    assert scrape is not None
    return scrape


SENT = int(time.time()) - 3600


@pytest.fixture(scope="module")
def local(request: pytest.FixtureRequest) -> Iterator[LocalExporter]:
    """A virtual host with queues of every kind, all of them in the statistics of the API."""
    orphans = [
        f"0f4a6b6e-2d0c-3b1e-9a4f-5d1c6f7e8a9{number}.reply.celery.pidbox" for number in range(3)
    ]
    with namespace_on("rabbitmq", request) as broker, Connection(broker.url) as connection:
        for kind, count in {"classic": 1, "quorum": 2, "stream": 10}.items():
            publish(
                broker,
                "add",
                1,
                2,
                queue=kind,
                count=count,
                conf=queues_conf(kind, **{"x-queue-type": kind}),
            )
        for at in (SENT, SENT + 60):
            for queue in ("stamped", "held"):
                publish(broker, "add", 1, 2, queue=queue, timestamp=at)
        channel = connection.channel()
        for name in orphans:
            channel.queue_declare(name, durable=True, auto_delete=False)
        channel.queue_declare(
            "urgent", durable=True, auto_delete=False, arguments={"x-max-priority": 9}
        )
        for priority, at in ((1, SENT), (9, SENT + 60)):
            channel.basic_publish(
                amqp.Message(b"x", priority=priority, timestamp=at), routing_key="urgent"
            )
        channel.basic_consume(orphans[0])
        channel.basic_get("held")  # as a worker holds an unacknowledged message
        channel.queue_declare("mine", exclusive=True)
        channel.basic_publish(amqp.Message(b"x"), routing_key="mine")
        with local_exporter(broker, queues=("mine",)) as local:
            yield local


class TestSeen:
    def test_kind_and_length_of_each_queue(self, local: LocalExporter) -> None:
        # The length of one that only its owner may read comes from the API.
        expected: dict[str, float] = {
            "classic": 1,
            "quorum": 2,
            "stream": 10,
            "stamped": 2,
            "held": 1,
            "mine": 1,
            "urgent": 2,
        }
        scrape = until(local, "celery_queue_length", expected)
        kinds = {
            dict(labels)["queue"]: dict(labels)["type"]
            for labels in scrape.series("celery_queue_info")
        }
        assert kinds == {
            "classic": "classic",
            "quorum": "quorum",
            "stream": "stream",
            "stamped": "classic",
            "held": "classic",
            "mine": "classic",
            "urgent": "classic",
        }

    def test_the_oldest_message_where_its_producer_has_stamped_it(
        self, local: LocalExporter
    ) -> None:
        scrape = until(local, OLDEST, {"stamped": SENT})
        # Not `urgent`, where the API has the stamp of a younger message of higher priority, and
        # not `held`, where it has the stamp of the unacknowledged message.
        assert scrape.value("celery_queue_unacked_messages", queue="held") == 1

    def test_reply_queues_without_consumers(self, local: LocalExporter) -> None:
        wait_for(lambda: local.scrape().value(ORPHANED) == 2)

    def test_that_nothing_is_delayed_where_nothing_ever_is(self, local: LocalExporter) -> None:
        assert local.scrape().value(DELAYED) == 0


class TestStreamsWithoutTheApi:
    """AMQP returns 0 for a stream during some seconds, and no number of consumers."""

    @pytest.fixture
    def stream(self, rabbitmq_broker: Broker) -> Broker:
        conf = queues_conf("log", **{"x-queue-type": "stream"})
        publish(rabbitmq_broker, "add", 1, 2, queue="log", count=10, conf=conf)
        publish(rabbitmq_broker, "add", 1, 2, queue="plain", count=3)
        return rabbitmq_broker

    def test_stream_that_the_api_listed_before(self, stream: Broker) -> None:
        with local_exporter(stream) as local:
            scrape = local.scrape()
            assert scrape.value("celery_queue_length", queue="plain") == 3
            assert scrape.value("celery_queue_length", queue="log") != 0
            readers: Any = local.collector._broker.queue_readers
            readers.management._base = f"http://{HOST}:{free_port()}"
            scrape = local.scrape()
            assert scrape.by("queue", "celery_queue_length") == {"plain": 3}
            assert scrape.value("celery_queue_consumers", queue="log") is None
            spots = {spot.subject: spot.reason for spot in local.collector.status().blind_spots}
            assert spots["queue_length"].startswith("The lengths of streams are not read")

    def test_stream_that_the_application_declares(self, stream: Broker) -> None:
        nowhere = f"http://{HOST}:{free_port()}"
        with Celery("app", broker=stream.url, set_as_current=False) as app:
            app.conf.update(queues_conf("log", **{"x-queue-type": "stream"}))
            collector = Collector(Settings(rabbitmq_management_url=nowhere, queues=("plain",)), app)  # type: ignore[arg-type]
            try:
                scrape = LocalExporter(collector).scrape()
                assert scrape.by("queue", "celery_queue_length") == {"plain": 3}
                assert scrape.by("queue", "celery_queue_consumers") == {"plain": 0}
            finally:
                collector.close(Deadline.after(5.0))


class TestDelayed:
    def test_messages_of_a_quorum_queue_on_a_topic_exchange_wait_for_their_eta(
        self, rabbitmq_broker: Broker, start_worker: StartWorker
    ) -> None:
        queue = {"exchange": "work", "exchange_type": "topic", "routing_key": "safe"}
        queue["queue_arguments"] = {"x-queue-type": "quorum"}  # type: ignore[assignment]
        conf = {"task_queues": {"safe": queue}, "task_default_queue": "safe"}
        start_worker(rabbitmq_broker, "solo", queues=("safe",), conf=conf)
        with local_exporter(rabbitmq_broker) as local:
            assert local.scrape().value(DELAYED) == 0
            publish(rabbitmq_broker, "add", 1, 2, queue="safe", count=10, countdown=3600, conf=conf)
            scrape = local.scrape()
            assert scrape.value(DELAYED) == 10
            assert scrape.by("queue", "celery_queue_length") == {"safe": 0}
            assert scrape.by("queue", "celery_queue_workers") == {"safe": 1}


class TestDeleted:
    def test_queues_that_come_and_go_are_not_logged(
        self, rabbitmq_broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        with (
            Connection(rabbitmq_broker.url) as connection,
            local_exporter(rabbitmq_broker, queues=("named",)) as local,
        ):
            channel = connection.channel()
            for name in ("one", "two", "named"):
                for _ in range(2):  # it comes back under its name
                    channel.queue_declare(name, durable=True, auto_delete=False)
                    assert local.scrape(names=("queues",)).by("queue", "celery_queue_length") == {
                        name: 0
                    }
                    channel.queue_delete(name)
                    assert local.scrape(names=("queues",)).by("queue", "celery_queue_length") == {}
        lines = [
            record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
        ]
        assert [line for line in lines if "'named'" not in line] == []
        assert [line for line in lines if "'named'" in line]  # a warning for the missing queue
