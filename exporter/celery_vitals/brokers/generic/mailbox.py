"""The reply mailbox on brokers that kombu's own consumer serves; RabbitMQ's builds on it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from kombu import Consumer, Exchange, Message, Producer, Queue

from celery_vitals.brokers.base import Reply
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.intake import Intake
from celery_vitals.brokers.serialization import decode, encode
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.third_party import kombu_internals

_SHORTEST_WAIT = 0.001


class KombuMailbox:
    """A `Mailbox` that reads through kombu."""

    publish_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self, connection: BrokerConnection, exchange: str, serializer: str = "json"
    ) -> None:
        self._serializer = serializer
        self._broker = connection
        self.intake = Intake()
        kombu_internals.keep_compressed(connection.channel)
        self._connection = connection.kombu
        self._undelivered = self._delivering = self._exchange_known = False
        self._sent_tickets: set[str] = set()
        # As workers declare it.
        self._exchange = Exchange(
            f"{exchange}.pidbox", type="fanout", durable=False, delivery_mode="transient"
        )
        # Through the default exchange a reply finds the queue by its name, without a binding.
        # Exclusive: the broker deletes it with the connection, however that ends.
        self._queue = Queue(
            f"celery-vitals.{uuid.uuid4()}.reply", durable=False, exclusive=True, auto_delete=True
        )(connection.channel)
        self._replies: list[Reply] = []
        self._consumer = Consumer(
            connection.channel, [self._queue], on_message=self._on_message, no_ack=True
        )
        self._consumer.consume()
        self._producer = Producer(connection.channel, auto_declare=False)

    @property
    def address(self) -> Mapping[str, str]:
        """The default exchange, whose routing key is the name of the queue."""
        return {"exchange": "", "routing_key": self._queue.name}

    @property
    def undelivered(self) -> bool:
        """Whether the broker has returned the last broadcast."""
        return self._undelivered

    def broadcast(self, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Publish to the exchange that the mailbox of every worker is bound to."""
        self._undelivered = self._delivering = False
        self._broker.raise_if_blocked()
        if self.intake.begin_round():
            self._queue.purge()
        if not self._exchange_exists():
            return 0
        for message in messages:
            content_type, encoding, body = encode(message, self._serializer)
            self._producer.publish(
                body,
                exchange=self._exchange.name,
                routing_key="",
                headers={"clock": 1, "expires": 0},
                content_type=content_type,
                content_encoding=encoding,
                retry=False,
                **self.publish_options,
            )
        # A publish ends in a socket buffer and proves nothing; a message to this mailbox that
        # returns has been delivered.
        echo = str(uuid.uuid4())
        self._producer.publish(
            None,
            exchange="",
            routing_key=self._queue.name,
            headers={"ticket": echo},
            serializer="json",
            retry=False,
        )
        self._sent_tickets = {echo, *(message["ticket"] for message in messages)}
        return None

    def receive(self, deadline: Deadline) -> Sequence[Reply]:
        """Return what one read of the connection brings; wait for a reply until the deadline.

        Raises ProbeError when the broker has delivered nothing of this round by then: neither the
        exporter's own message nor a reply, which may overtake it.
        """
        while not self._replies and not self._undelivered:
            try:
                self._connection.drain_events(timeout=max(_SHORTEST_WAIT, deadline.remaining))
            except TimeoutError:
                if deadline.passed:
                    break
        if not self._delivering and deadline.passed:
            self._broker.raise_if_blocked()
            raise ProbeError(
                Reason.TIMEOUT, "the broker has accepted a message and not delivered it"
            )
        replies, self._replies = self._replies, []
        return replies

    def close(self, replies_pending: bool) -> None:
        """Stop consuming and delete the queue."""
        self._consumer.cancel()
        self._queue.delete()

    def _exchange_exists(self) -> bool:
        if not self._exchange_known:
            self._exchange_known = self.find_exchange(self._exchange)
        return self._exchange_known

    def find_exchange(self, exchange: Exchange) -> bool:
        """Return whether the exchange exists, after declaring it."""
        with self._connection.channel() as channel:
            exchange(channel).declare()
        return True

    def _on_message(self, message: Message) -> None:
        ticket = message.headers.get("ticket")
        self._delivering = self._delivering or ticket in self._sent_tickets
        accepted = self.intake.accepts(len(message.body or b""), message.content_type)
        if not accepted or not isinstance(ticket, str):
            return
        try:
            body = decode(message.body, message.content_type, message.content_encoding)
        except Exception:  # noqa: BLE001 - decoders raise errors of many types
            return
        if isinstance(body, dict):
            self._replies.append(Reply(ticket, body))
