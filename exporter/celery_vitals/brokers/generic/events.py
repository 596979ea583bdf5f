"""Events on every other broker with broadcast (the file system, MongoDB, ...): kombu's own consumer."""

from __future__ import annotations

import time
import uuid
from typing import Any

from celery.events.event import get_exchange
from kombu import Consumer, Message, Producer, Queue

from celery_vitals.brokers import BrokerConnection
from celery_vitals.brokers.event_receiver import JSON, MAX_MESSAGE, UTF8, Listener
from celery_vitals.deadline import Deadline

_QUEUE = "celeryev.celery-vitals"
"""These brokers keep a queue whose reader was killed, and fill it for ever.  So its name is fixed, and what is in it is
thrown away at the start; but where queues of the dead can be told and removed, every exporter has one of its own."""
_SWEPT = "filesystem"
_SILENT = 60.0
"""Seconds without a message from the owner of such a queue, after which it is nobody's."""
_OWNER = "celery-vitals-queue"
"""The header that names the queue of whoever sends a message."""
_AT_ONCE = 500
_SHORT = 0.001


class GenericReceiver:
    """See `Receiver`."""

    muted = False

    def __init__(
        self,
        connection: BrokerConnection,
        exchange: str,
        listener: Listener,
        silent: float = _SILENT,
    ) -> None:
        self._connection = connection.kombu
        self._listener = listener
        self._bodies: list[bytes] = []
        self._channel = connection.channel
        self._exchange = exchange
        self._sweeps = self._connection.transport.driver_type == _SWEPT
        self._heard: dict[str, float] = {}
        self._silent = silent
        self._next_sweep = time.monotonic() + silent
        self._queue = Queue(
            f"{_QUEUE}.{uuid.uuid4()}" if self._sweeps else _QUEUE,
            get_exchange(self._connection, exchange),
            routing_key="#",
            durable=False,
            auto_delete=True,
        )(connection.channel)
        self._queue.declare()
        self._queue.purge()  # what is old is of no use: its time of arrival is not known
        self._consumer = Consumer(
            connection.channel, [self._queue], on_message=self._arrived, no_ack=True
        )
        self._consumer.consume()
        self._producer = Producer(connection.channel, auto_declare=False)

    def receive(self, seconds: float) -> None:
        """Deliver what is there, up to some hundred messages."""
        try:
            self._connection.drain_events(timeout=seconds)
            while len(self._bodies) < _AT_ONCE:
                self._connection.drain_events(timeout=_SHORT)
        except TimeoutError:
            pass
        bodies, self._bodies = self._bodies, []
        if bodies:
            self._listener.deliver(bodies, time.time())
        if self._sweeps and time.monotonic() >= self._next_sweep:
            self._sweep()

    def publish(self, exchange: str, routing_key: str, body: bytes) -> None:
        """Through the exchange's table of queues."""
        self._producer.publish(
            body,
            exchange=exchange,
            routing_key=routing_key,
            content_type=JSON,
            content_encoding="utf-8",
            headers={_OWNER: self._queue.name},
            delivery_mode=1,
            retry=False,
        )

    def close(self, deadline: Deadline) -> None:
        """Stop consuming and remove the queue."""
        self._consumer.cancel()
        self._queue.delete()

    def _sweep(self) -> None:
        """Remove the queues of exporters that were killed.  One that only slept finds itself deaf and connects anew."""
        now = time.monotonic()
        self._next_sweep = now + self._silent
        self._heard = {name: at for name, at in self._heard.items() if now - at < self._silent}
        for routing_key, pattern, name in self._channel.get_table(self._exchange):
            if name.startswith(_QUEUE) and name != self._queue.name and name not in self._heard:
                self._channel._delete(name, self._exchange, routing_key, pattern)

    def _arrived(self, message: Message) -> None:
        body: Any = message.body
        owner = message.headers.get(_OWNER)
        if isinstance(owner, str):
            self._heard[owner] = time.monotonic()
        if message.content_type != JSON or message.content_encoding not in UTF8:
            self._listener.reject("content_type")
            return
        raw = body.encode() if isinstance(body, str) else bytes(body)
        if len(raw) > MAX_MESSAGE:
            self._listener.reject("too_large")
        else:
            self._bodies.append(raw)
