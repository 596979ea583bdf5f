"""The reply mailbox on every other broker with broadcast: RabbitMQ, the file system, MongoDB, ..."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import amqp.exceptions
from kombu import Consumer, Exchange, Message, Producer, Queue

from celery_vitals.brokers import BrokerConnection
from celery_vitals.brokers.reply_decoding import decode
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.remote_control import Reply


class KombuMailbox:
    """See `Mailbox`."""

    def __init__(self, connection: BrokerConnection, exchange: str) -> None:
        self._broker = connection
        self._connection = connection.kombu
        channel = connection.channel
        self._amqp = self._connection.transport.driver_type == "amqp"
        self._unheard = self._delivers = self._declared = False
        self._sent: set[str] = set()
        if self._amqp:
            channel.events["basic_return"].add(self._returned)
        # As workers declare it.
        self._exchange = Exchange(
            f"{exchange}.pidbox", type="fanout", durable=False, delivery_mode="transient"
        )
        # Without an exchange of its own, a reply finds the queue by its name, and no binding is needed.  Exclusive: the
        # broker removes it with the connection, however that ends.
        self._queue = Queue(
            f"celery-vitals.{uuid.uuid4()}.reply", durable=False, exclusive=True, auto_delete=True
        )(channel)
        self._replies: list[Reply] = []
        self._consumer = Consumer(channel, [self._queue], on_message=self._arrived, no_ack=True)
        self._consumer.consume()
        self._producer = Producer(channel, auto_declare=False)

    @property
    def address(self) -> Mapping[str, str]:
        """The default exchange takes the routing key for the name of the queue."""
        return {"exchange": "", "routing_key": self._queue.name}

    @property
    def unheard(self) -> bool:
        """Whether RabbitMQ has given the last broadcast back, since no mailbox is bound to the exchange."""
        return self._unheard

    def broadcast(self, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Publish to the exchange that every worker's mailbox is bound to."""
        self._unheard = self._delivers = False
        self._broker.raise_if_blocked()
        if not self._exchange_exists():
            return 0
        options = {"mandatory": True} if self._amqp else {}
        for message in messages:
            self._producer.publish(
                message,
                exchange=self._exchange.name,
                routing_key="",
                headers={"clock": 1, "expires": 0},
                serializer="json",
                retry=False,
                **options,
            )
        # To ourselves: a publish ends in a socket's buffer and proves nothing, but what comes back has been delivered.
        echo = str(uuid.uuid4())
        self._producer.publish(
            None, exchange="", routing_key=self._queue.name, headers={"ticket": echo}, retry=False
        )
        self._sent = {echo, *(message["ticket"] for message in messages)}
        return None

    def receive(self, deadline: Deadline) -> Sequence[Reply]:
        """What one read of the connection brings; waits for a reply that can be read until the deadline.

        Raises ProbeError when the broker has delivered nothing of this round by then, neither our own message nor any
        answer, of which the first may be before the other.
        """
        while not self._replies and not self._unheard:
            try:
                self._connection.drain_events(timeout=max(0.001, deadline.remaining))
            except TimeoutError:
                if deadline.passed:
                    break
        if not self._delivers and deadline.passed:
            self._broker.raise_if_blocked()
            raise ProbeError(
                Reason.TIMEOUT, "the broker has taken a message and does not deliver it"
            )
        replies, self._replies = self._replies, []
        return replies

    def close(self, owed: bool) -> None:
        """Stop consuming and remove the queue."""
        self._consumer.cancel()
        self._queue.delete()

    def _exchange_exists(self) -> bool:
        """Whether any worker has ever listened here.  On RabbitMQ it is not declared for them: that would leave it
        behind where Celery never was, and takes a permission that reading does not."""
        if self._declared:
            return True
        with self._connection.channel() as channel:
            try:
                self._exchange(channel).declare(passive=self._amqp)
            except amqp.exceptions.NotFound:
                return False
        self._declared = True
        return True

    def _arrived(self, message: Message) -> None:
        ticket = message.headers.get("ticket")
        if not isinstance(ticket, str):
            return
        self._delivers = self._delivers or ticket in self._sent
        try:
            body = decode(message.body, message.content_type, message.content_encoding)
        except Exception:  # noqa: BLE001 - whatever a decoder raises: a reply that cannot be read is no reply
            return
        if isinstance(body, dict):
            self._replies.append(Reply(ticket, body))

    def _returned(self, *_: Any) -> None:
        self._unheard = True
