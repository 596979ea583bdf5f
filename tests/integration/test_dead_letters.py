"""Dead letters on RabbitMQ: which queues receive them; and messages that no queue receives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import amqp
import pytest
from kombu import Connection

from celery_vitals.brokers.rabbitmq import management, rare_requests
from tests.support.scrape import Scrape
from tests.support.scraping import LocalExporter, local_exporter
from tests.support.servers import HOST, Broker, RabbitMQServer, publish, wait_for

INFO = "celery_queue_dead_letter_info"
DROPPED = "celery_broker_unroutable_messages_total"
DURABLE: Any = {"durable": True, "auto_delete": False}


@contextmanager
def channel_to(broker: Broker) -> Iterator[Any]:
    with Connection(broker.url) as connection:
        yield connection.channel()


def dead_letter_queues(scrape: Scrape) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for labels in scrape.series(INFO):
        pairs = dict(labels)
        found.setdefault(pairs["queue"], set()).add(pairs["dead_letter_queue"])
    return found


def until_dead_letters(local: LocalExporter, expected: dict[str, set[str]]) -> Scrape:
    def shown() -> Scrape | None:
        scrape = local.scrape()
        found = dead_letter_queues(scrape)
        assert found == expected, f"{found}, not {expected}"
        return scrape

    scrape = wait_for(shown, 30.0)
    assert scrape is not None
    return scrape


def declare(channel: Any, name: str, exchange: str | None = None, key: str | None = None) -> None:
    arguments = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": key}
    given = {name: value for name, value in arguments.items() if value is not None}
    channel.queue_declare(name, arguments=given, **DURABLE)


def test_arguments_name_the_queue_of_dead_letters(rabbitmq_broker: Broker) -> None:
    with channel_to(rabbitmq_broker) as channel:
        channel.exchange_declare("dead", "direct", **DURABLE)
        for name in ("dead.orders", "dead.all", "other"):
            declare(channel, name)
        channel.queue_bind("dead.orders", "dead", "orders")
        channel.queue_bind("dead.all", "dead", "everything")
        declare(channel, "orders", "dead")  # with the key of the message
        declare(channel, "mail", "dead", "everything")
        declare(channel, "direct", "", "dead.all")
        declare(channel, "wrong_key", "dead", "unbound")
        declare(channel, "no_exchange", "absent")
        declare(channel, "none")
        channel.basic_publish(amqp.Message(b"x", expiration="0"), routing_key="direct")
        with local_exporter(rabbitmq_broker) as local:
            scrape = until_dead_letters(
                local,
                {
                    "orders": {"dead.orders"},
                    "mail": {"dead.all"},
                    "direct": {"dead.all"},
                    "wrong_key": {""},
                    "no_exchange": {""},
                },
            )
            # Though no worker consumes it.
            assert scrape.value("celery_queue_length", queue="dead.all") == 1
            assert scrape.value("celery_queue_length", queue="dead.orders") == 0


def test_policies_and_exchanges_of_every_type(
    rabbitmq_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "_STATISTICS_FOR", 1.0)  # which report policies late
    server, vhost = rabbitmq_broker.server, rabbitmq_broker.namespace
    assert isinstance(server, RabbitMQServer)
    for name, definition in {
        "by_policy": {"dead-letter-exchange": "all"},
        "with_key": {"dead-letter-exchange": "topics", "dead-letter-routing-key": "orders"},
    }.items():
        policy = {"pattern": f"^{name}", "definition": definition, "apply-to": "queues"}
        server.api("PUT", f"policies/{vhost}/{name}", policy)
    with channel_to(rabbitmq_broker) as channel:
        for kind, name in (("fanout", "all"), ("topic", "topics"), ("direct", "inner")):
            channel.exchange_declare(name, kind, **DURABLE)
        for name in ("dead.a", "dead.b", "dead.orders", "by_policy", "with_key"):
            declare(channel, name)
        channel.queue_bind("dead.a", "all", "")
        channel.exchange_bind("inner", "all", "")
        channel.queue_bind("dead.b", "inner", "by_policy")
        channel.queue_bind("dead.orders", "topics", "orders.#")
        declare(channel, "new", "topics", "orders.new")
        declare(channel, "of_topic", "topics")
        channel.queue_bind("of_topic", "amq.topic", "orders.*.old")
        with local_exporter(rabbitmq_broker) as local:
            until_dead_letters(
                local,
                {
                    "by_policy": {"dead.a", "dead.b"},
                    "with_key": {"dead.orders"},
                    "new": {"dead.orders"},
                    "of_topic": {"dead.orders"},
                },
            )


def test_excluded_queues_are_not_named(rabbitmq_broker: Broker) -> None:
    with channel_to(rabbitmq_broker) as channel:
        declare(channel, "dead")
        declare(channel, "orders", "", "dead")
        declare(channel, "mail", "", "dead")
        with local_exporter(rabbitmq_broker, queue_exclude=("mail",)) as local:
            until_dead_letters(local, {"orders": {"dead"}})
        with local_exporter(rabbitmq_broker, queue_exclude=("dead",)) as local:
            for _ in range(4):
                assert dead_letter_queues(local.scrape()) == {}


def test_bindings_are_read_again(rabbitmq_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    with channel_to(rabbitmq_broker) as channel:
        channel.exchange_declare("dead", "fanout", **DURABLE)
        declare(channel, "dead_letters")
        declare(channel, "orders", "dead")
        monkeypatch.setattr(rare_requests, "_BINDINGS_FOR", 0.1)
        with local_exporter(rabbitmq_broker) as local:
            until_dead_letters(local, {"orders": {""}})
            channel.queue_bind("dead_letters", "dead", "")
            until_dead_letters(local, {"orders": {"dead_letters"}})


def test_messages_without_a_queue_are_counted_since_the_start(
    rabbitmq_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rare_requests, "_DROPPED_FOR", 0.1)
    server, vhost = rabbitmq_broker.server, rabbitmq_broker.namespace
    assert isinstance(server, RabbitMQServer)
    server.api("PUT", "users/viewer", {"password": "secret", "tags": "management"})
    rights = {"configure": "", "write": "", "read": ".*"}
    server.api("PUT", f"permissions/{vhost}/viewer", rights)
    url = f"http://viewer:secret@{HOST}:{server.management_port}"
    with channel_to(rabbitmq_broker) as channel:

        def drop(count: int) -> None:
            for _ in range(count):
                channel.basic_publish(amqp.Message(b"x"), "amq.direct", "missing")

        with local_exporter(rabbitmq_broker, rabbitmq_management_url=url) as local:
            assert local.scrape().value(DROPPED) is None  # nothing was ever published
            drop(3)
            # What was dropped before the first answer is not counted.
            wait_for(lambda: local.scrape().value(DROPPED) is not None, 30.0)
        with local_exporter(rabbitmq_broker, rabbitmq_management_url=url) as local:
            wait_for(lambda: local.scrape().value(DROPPED) == 0, 30.0)
            drop(5)
            wait_for(lambda: local.scrape().value(DROPPED) == 5, 30.0)
            publish(rabbitmq_broker, "add", 1, 2, queue="orders", count=3)
            drop(2)
            wait_for(lambda: local.scrape().value(DROPPED) == 7, 30.0)
    server.api("DELETE", "users/viewer")


def test_returned_messages_are_not_counted(
    rabbitmq_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rare_requests, "_DROPPED_FOR", 0.1)
    with channel_to(rabbitmq_broker) as channel, local_exporter(rabbitmq_broker) as local:
        channel.basic_publish(amqp.Message(b"x"), "amq.direct", "missing")
        wait_for(lambda: local.scrape().value(DROPPED) == 0, 30.0)
        for _ in range(10):  # each sends a message that the broker returns
            local.scrape()
        channel.basic_publish(amqp.Message(b"x"), "amq.direct", "missing")
        wait_for(lambda: local.scrape().value(DROPPED) == 1, 30.0)


def test_without_the_api_both_are_absent(rabbitmq_broker: Broker) -> None:
    with channel_to(rabbitmq_broker) as channel:
        declare(channel, "dead")
        declare(channel, "orders", "", "dead")
        url = f"http://{HOST}:9"
        with local_exporter(
            rabbitmq_broker, queues=("orders",), rabbitmq_management_url=url
        ) as local:
            for _ in range(3):
                scrape = local.scrape()
            assert scrape.value("celery_queue_length", queue="orders") == 0
            assert not scrape.series(INFO)
            assert scrape.value(DROPPED) is None
            assert "dead letters" in local.blind_spots()["queue_discovery"]
