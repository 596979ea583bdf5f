"""Mailboxes: silent workers, a silent or blocked broker, and the remains of killed exporters."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import amqp.exceptions
import pytest
from kombu import Connection

from celery_vitals import Secret, Settings
from celery_vitals.brokers import kombu_message
from celery_vitals.brokers.base import Reply
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.generic.mailbox import KombuMailbox
from celery_vitals.brokers.rabbitmq.connection import AmqpConnection
from celery_vitals.brokers.rabbitmq.mailbox import RabbitMQMailbox
from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.redis.mailbox import RedisMailbox
from celery_vitals.brokers.target import target_of
from celery_vitals.brokers.writability import PublisherBlock
from celery_vitals.deadline import Deadline
from celery_vitals.errors import BlockedError, ProbeError, Reason
from celery_vitals.third_party import py_amqp
from tests.support.servers import Broker

MIB = 1024 * 1024


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokerConnection]:
    """Inside this process; opened, closed and blocked like one to RabbitMQ."""
    monkeypatch.setattr(py_amqp, "on_blocked", lambda *_: None)  # there are no AMQP frames
    with Connection("memory://", transport_options={"polling_interval": 0.01}) as kombu:
        yield AmqpConnection(kombu, PublisherBlock())


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
    connection.block.begin("memory")
    with pytest.raises(BlockedError):
        mailbox.broadcast([message()])
    connection.block.end()
    assert connection.channel.queue_purge(mailbox.address["routing_key"]) == 0


def test_a_broker_that_blocks_after_the_broadcast_is_reported_as_blocked(
    connection: BrokerConnection, mailbox: KombuMailbox
) -> None:
    mailbox.broadcast([message()])
    connection.channel.queue_purge(mailbox.address["routing_key"])
    connection.block.begin("memory")
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


class TestRedis:
    """The list of a killed exporter is deleted, again when late replies create it again."""

    REGISTRY = "celery-vitals.mailboxes"

    @pytest.fixture
    def connection(self, redis_broker: Broker) -> Iterator[RedisConnection]:
        client = BrokerClient(target_of(Settings(broker_url=Secret(redis_broker.url))), 1.0)
        connection = client.connect(Deadline.after(5))
        assert isinstance(connection, RedisConnection)
        yield connection
        connection.close()

    def broadcast(self, connection: RedisConnection) -> RedisMailbox:
        mailbox = RedisMailbox(connection, "celery")
        assert mailbox.broadcast([message()]) == 0
        return mailbox

    @pytest.mark.parametrize(("idle", "deleted"), [(30.0, False), (90.0, True), (10**5, True)])
    def test_lists_that_are_unused_for_a_minute_are_deleted(
        self, connection: RedisConnection, idle: float, deleted: bool
    ) -> None:
        redis, name = connection.redis(), f"celery-vitals.{uuid.uuid4()}.reply"
        redis.lpush(name, b"{}")
        redis.zadd(self.REGISTRY, {name: time.time() - idle})
        self.broadcast(connection)
        assert redis.exists(name) == (not deleted)
        # A suspended worker may reply for a day.
        assert (redis.zscore(self.REGISTRY, name) is not None) == (idle < 86400)

    def test_keys_of_others_are_never_deleted(self, connection: RedisConnection) -> None:
        redis = connection.redis()
        redis.lpush("orders", b"{}")
        redis.zadd(self.REGISTRY, {"orders": 1.0})
        self.broadcast(connection)
        assert redis.exists("orders")

    @pytest.mark.parametrize("pending", [False, True])
    def test_a_closed_mailbox_stays_registered_while_replies_are_pending(
        self, connection: RedisConnection, pending: bool
    ) -> None:
        mailbox = self.broadcast(connection)
        name = mailbox.address["routing_key"]
        connection.redis().lpush(name, b"{}")
        mailbox.close(replies_pending=pending)
        assert not connection.redis().exists(name)
        assert (connection.redis().zscore(self.REGISTRY, name) is not None) == pending

    def reply(self, mailbox: RedisMailbox, ticket: str, size: int) -> bytes:
        body = json.dumps({"w@h": "x" * size}).encode()
        return kombu_message.write(body, "", headers={"ticket": ticket})

    @pytest.mark.parametrize(
        ("sizes", "read", "discarded"),
        [
            ([10, 10, 10], 3, 0),
            ([10, 20 * MIB, 10], 2, 1),
            ([20 * MIB, 10, 10], 2, 1),
            ([10, 10, 20 * MIB, 20 * MIB], 2, 2),
            ([5 * MIB, 10], 1, 1),  # Redis sends it, the mailbox does not decode it
            ([3 * MIB] * 8, 8, 0),  # too large to be read together
            ([3 * MIB] * 12, 10, 2),  # more than a round may bring
        ],
    )
    def test_large_replies_are_left_out_and_all_others_returned(
        self, connection: RedisConnection, sizes: list[int], read: int, discarded: int
    ) -> None:
        mailbox = self.broadcast(connection)
        key = mailbox.address["routing_key"]
        for number, size in enumerate(sizes):
            connection.redis().lpush(key, self.reply(mailbox, str(number), size))
        until, replies = Deadline.after(20), list[Reply]()
        while len(replies) + mailbox.intake.discarded < len(sizes) and not until.passed:
            replies += mailbox.receive(until.within(0.5))
        assert (len(replies), mailbox.intake.discarded) == (read, discarded)
        assert [reply.ticket for reply in replies] == sorted(reply.ticket for reply in replies)
        assert not connection.redis().exists(key)

    def test_replies_that_arrive_while_others_are_read_are_returned_too(
        self, connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mailbox = self.broadcast(connection)
        key = mailbox.address["routing_key"]
        for ticket in ("0", "1"):
            connection.redis().lpush(key, self.reply(mailbox, ticket, 1))
        lrange = mailbox._redis.lrange

        def late(*arguments: Any) -> Any:
            found = lrange(*arguments)
            connection.redis().lpush(key, self.reply(mailbox, "2", 1))
            return found

        monkeypatch.setattr(mailbox._redis, "lrange", late)
        assert [reply.ticket for reply in mailbox.receive(Deadline.after(5))] == ["0", "1", "2"]
        assert not connection.redis().exists(key)
