"""Events received with kombu's own consumer: the file system, memory, MongoDB."""

from __future__ import annotations

import time
import uuid
from typing import Any

from kombu import Consumer, Message, Producer, Queue

from celery_vitals.brokers.base import EventListener
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.serialization import (
    JSON,
    MAX_MESSAGE,
    UTF8,
    RejectedMessage,
    to_json,
)
from celery_vitals.deadline import Deadline
from celery_vitals.third_party import celery_internals, kombu_internals

_QUEUE = "celeryev.celery-vitals"
_OWNER_TIMEOUT = 60.0
"""Seconds without a message from a queue's owner after which the queue is an orphan."""
_OWNER_HEADER = "celery-vitals-queue"
"""Names the queue of the exporter that sends a message."""
_BATCH = 500
_SHORT_WAIT = 0.001


class GenericReceiver:
    """An `EventReceiver` that reads through kombu.

    These brokers keep the queue of an exporter that was killed and go on filling it.  With
    `shared_queue` its name is therefore fixed, and its content is discarded at the start; without
    it each exporter has a queue of its own, and removes those of others that are silent.
    """

    blocked = False

    def __init__(
        self,
        connection: BrokerConnection,
        exchange: str,
        listener: EventListener,
        *,
        shared_queue: bool = True,
        owner_timeout: float = _OWNER_TIMEOUT,
    ) -> None:
        self._connection = connection.kombu
        kombu_internals.keep_compressed(connection.channel)
        self._listener = listener
        self._bodies: list[bytes] = []
        self._channel = connection.channel
        self._exchange = exchange
        self._removes_orphans = not shared_queue
        self._owner_seen: dict[str, float] = {}
        self._owner_timeout = owner_timeout
        self._next_removal = time.monotonic() + owner_timeout
        self._queue = Queue(
            _QUEUE if shared_queue else f"{_QUEUE}.{uuid.uuid4()}",
            celery_internals.event_exchange(self._connection, exchange),
            routing_key="#",
            durable=False,
            auto_delete=True,
        )(connection.channel)
        self._queue.declare()
        self._queue.purge()  # of old messages the time of arrival is unknown
        self._consumer = Consumer(
            connection.channel, [self._queue], on_message=self._on_message, no_ack=True
        )
        self._consumer.consume()
        self._producer = Producer(connection.channel, auto_declare=False)

    def receive(self, seconds: float) -> None:
        """Deliver what has arrived, up to some hundred messages."""
        try:
            self._connection.drain_events(timeout=seconds)
            while len(self._bodies) < _BATCH:
                self._connection.drain_events(timeout=_SHORT_WAIT)
        except TimeoutError:
            pass
        bodies, self._bodies = self._bodies, []
        if bodies:
            self._listener.deliver(bodies, time.time())
        if self._removes_orphans and time.monotonic() >= self._next_removal:
            self._remove_orphans()

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        content_type: str = JSON,
        encoding: str = "utf-8",
    ) -> None:
        """Publish to the queues that are bound to the exchange."""
        self._producer.publish(
            body,
            exchange=exchange,
            routing_key=routing_key,
            content_type=content_type,
            content_encoding=encoding,
            headers={_OWNER_HEADER: self._queue.name},
            delivery_mode=1,
            retry=False,
        )

    def close(self, deadline: Deadline) -> None:
        """Stop consuming and delete the queue."""
        self._consumer.cancel()
        self._queue.delete()

    def _remove_orphans(self) -> None:
        """Delete the queues of silent exporters; one that was only suspended reconnects."""
        now = time.monotonic()
        self._next_removal = now + self._owner_timeout
        self._owner_seen = {
            name: at for name, at in self._owner_seen.items() if now - at < self._owner_timeout
        }
        for routing_key, pattern, name in kombu_internals.bindings(self._channel, self._exchange):
            owned = name == self._queue.name or name in self._owner_seen
            if name.startswith(_QUEUE) and not owned:
                kombu_internals.delete_bound_queue(
                    self._channel, name, self._exchange, routing_key, pattern
                )

    def _on_message(self, message: Message) -> None:
        body: Any = message.body
        owner = message.headers.get(_OWNER_HEADER)
        if isinstance(owner, str):
            self._owner_seen[owner] = time.monotonic()
        raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
        try:
            if not 0 < len(raw) <= MAX_MESSAGE:  # an empty one was left out by the channel
                raise RejectedMessage("too_large")
            if message.content_type != JSON or message.content_encoding not in UTF8:
                raw = to_json(raw, message.content_type, message.content_encoding)
            self._bodies.append(raw)
        except RejectedMessage as rejected:
            self._listener.reject(str(rejected))
