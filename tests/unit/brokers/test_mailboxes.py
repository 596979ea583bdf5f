"""Mailboxes read by kombu: silence of workers, of the broker, and a broker that accepts nothing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import amqp.exceptions
import pytest
from kombu import Connection

from celery_vitals.brokers.base import BrokerConnection
from celery_vitals.brokers.generic.mailbox import KombuMailbox
from celery_vitals.brokers.rabbitmq.connection import AmqpConnection
from celery_vitals.brokers.rabbitmq.mailbox import RabbitMQMailbox
from celery_vitals.deadline import Deadline
from celery_vitals.errors import BlockedError, ProbeError, Reason


@pytest.fixture
def connection() -> Iterator[BrokerConnection]:
    """Inside this process; opened, closed and blocked like one to RabbitMQ."""
    with Connection("memory://", transport_options={"polling_interval": 0.01}) as kombu:
        yield AmqpConnection(kombu, threading.Event())


@pytest.fixture
def mailbox(connection: BrokerConnection) -> KombuMailbox:
    return KombuMailbox(connection, f"celery-{uuid.uuid4()}")


def message() -> dict[str, Any]:
    return {"ticket": str(uuid.uuid4())}


def test_without_workers_nothing_is_returned_at_the_deadline(mailbox: KombuMailbox) -> None:
    mailbox.broadcast([message()])
    assert mailbox.receive(Deadline.after(0.1)) == []


def test_a_broker_that_does_not_deliver_is_an_error(
    connection: BrokerConnection, mailbox: KombuMailbox
) -> None:
    mailbox.broadcast([message()])
    connection.channel.queue_purge(mailbox.address["routing_key"])
    with pytest.raises(ProbeError, match="not delivered") as caught:
        mailbox.receive(Deadline.after(0.1))
    assert caught.value.reason is Reason.TIMEOUT


def test_a_reply_proves_that_the_broker_delivers(
    connection: BrokerConnection, mailbox: KombuMailbox
) -> None:
    request = message()
    mailbox.broadcast([request])
    connection.channel.queue_purge(mailbox.address["routing_key"])
    with connection.kombu.Producer() as producer:
        producer.publish({"w@h": "pong"}, headers=request, serializer="json", **mailbox.address)
    (reply,) = mailbox.receive(Deadline.after(5))
    assert (reply.ticket, reply.body) == (request["ticket"], {"w@h": "pong"})
    assert mailbox.receive(Deadline.after(0.0)) == []


def test_nothing_is_published_while_the_broker_is_blocked(
    connection: BrokerConnection, mailbox: KombuMailbox
) -> None:
    connection._blocked.set()
    with pytest.raises(BlockedError):
        mailbox.broadcast([message()])
    connection._blocked.clear()
    assert connection.channel.queue_purge(mailbox.address["routing_key"]) == 0


def test_a_broker_that_blocks_after_the_broadcast_is_reported_as_blocked(
    connection: BrokerConnection, mailbox: KombuMailbox
) -> None:
    mailbox.broadcast([message()])
    connection.channel.queue_purge(mailbox.address["routing_key"])
    connection._blocked.set()
    with pytest.raises(BlockedError):
        mailbox.receive(Deadline.after(0.1))


class FakeChannel:
    """A channel of py-amqp, as far as a mailbox on RabbitMQ uses one of its own."""

    def __init__(self, exists: bool) -> None:
        self.declared: list[bool] = []
        self._exists = exists

    def __enter__(self) -> FakeChannel:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def exchange_declare(self, *, passive: bool, **_: Any) -> None:
        self.declared.append(passive)
        if not self._exists:
            raise amqp.exceptions.NotFound


@pytest.fixture
def rabbitmq(connection: BrokerConnection) -> Iterator[RabbitMQMailbox]:
    assert isinstance(connection, AmqpConnection)
    returned: set[Any] = set()
    connection.channel.events = {"basic_return": returned}
    mailbox = RabbitMQMailbox(connection, f"celery-{uuid.uuid4()}")
    yield mailbox
    assert len(returned) == 1


@pytest.mark.parametrize("exists", [True, False])
def test_on_rabbitmq_the_exchange_is_only_declared_passively(
    rabbitmq: RabbitMQMailbox, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    channel = FakeChannel(exists)
    published: list[dict[str, Any]] = []
    monkeypatch.setattr(rabbitmq._connection, "channel", lambda: channel)
    monkeypatch.setattr(rabbitmq._producer, "publish", lambda *_, **o: published.append(o))
    assert rabbitmq.broadcast([message()]) == (None if exists else 0)
    assert channel.declared == [True]
    assert [one.get("mandatory") for one in published] == ([True, None] if exists else [])


def test_a_broadcast_that_rabbitmq_returns_ends_the_wait(rabbitmq: RabbitMQMailbox) -> None:
    rabbitmq._delivering = True
    (on_return,) = rabbitmq._broker.channel.events["basic_return"]
    on_return("a message", "as py-amqp passes it")
    assert rabbitmq.undelivered
    assert rabbitmq.receive(Deadline.after(60)) == []
