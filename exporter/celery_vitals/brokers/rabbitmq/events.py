"""Events on RabbitMQ: py-amqp opens the connection and declares the queue, then frames are parsed
from the bytes of the socket."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from amqp import exceptions

from celery_vitals.brokers.base import DURABLE_SECONDS, MAX_UNACKNOWLEDGED, EventListener, never
from celery_vitals.brokers.rabbitmq import frames
from celery_vitals.brokers.rabbitmq.connection import AmqpConnection
from celery_vitals.brokers.serialization import JSON
from celery_vitals.brokers.socket_reader import SocketReader
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.third_party import py_amqp

QUEUE_PREFIX = "celeryev"
_TTL = 60_000
"""Milliseconds after which events expire in the exporter's own queue."""
_DURABLE_TTL = int(DURABLE_SECONDS * 1000)
"""Milliseconds after which a durable queue without consumer, or an event in it, expires."""
_MAX_LENGTH = 200_000
_PREFETCH = MAX_UNACKNOWLEDGED
_SEND_TIMEOUT = 2.0
_HEARTBEATS_MISSED = 2


class AmqpReceiver:
    """An `EventReceiver` that consumes one or two queues."""

    def __init__(
        self,
        connection: AmqpConnection,
        exchange: str,
        listener: EventListener,
        max_buffer: int,
        *,
        canary_key: str,
        durable_queue: str | None = None,
        control_exchange: str | None = None,
        was_processed: Callable[[bytes], bool] = never,
    ) -> None:
        amqp = connection.kombu.connection
        frame_max, self._heartbeat = py_amqp.amqp_limits(amqp)
        self.blocked = False
        self._listener = listener
        self._acks = durable_queue is not None
        self._acked = 0
        self._closed = False
        self._failure: Exception | None = None
        self._declared_exchanges: list[str] = []
        self._published = self._delivered = 0
        channel = self._declare(amqp, amqp.channel(), exchange, "topic", durable=True)
        if control_exchange is not None:
            channel = self._declare(amqp, channel, control_exchange, "fanout", durable=False)
        self._channel = int(channel.channel_id)
        self._queue = f"{QUEUE_PREFIX}.celery-vitals.{uuid.uuid4()}"
        bound_key = "#" if durable_queue is None else canary_key
        _subscribe(channel, exchange, self._queue, bound_key, durable_queue)
        self._parser = frames.FrameParser(
            frame_max, self._on_method, listener.reject, was_processed
        )
        self._socket = SocketReader(py_amqp.amqp_socket(amqp), max_buffer, _SEND_TIMEOUT)

    def receive(self, seconds: float) -> None:
        """Deliver what has arrived, one block at most, and acknowledge it.

        RabbitMQ redelivers unacknowledged messages when the connection ends.
        """
        block, arrived = self._socket.read(seconds)
        if block:
            bodies = self._parser.parse(block)
            if bodies:
                self._delivered += len(bodies)
                self._listener.deliver(bodies, arrived)
            if self._failure is not None:
                raise self._failure
            self._acknowledge()
        self._check_heartbeat()

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        content_type: str = JSON,
        encoding: str = "utf-8",
    ) -> None:
        """Publish on the channel that delivers the events."""
        self._published += 1
        self._socket.send(
            frames.publish(self._channel, exchange, routing_key, body, content_type, encoding)
        )

    def close(self, deadline: Deadline) -> None:
        """Close the connection, with which the exclusive queue is deleted.

        Exchanges that were missing are deleted as well when they seem to be unused: no event has
        arrived, and no other queue is bound to them.
        """
        if self._delivered <= self._published:
            self._socket.send(frames.delete_queue(self._channel, self._queue))
            self._socket.send(
                b"".join(
                    frames.delete_unused_exchange(self._channel, name)
                    for name in self._declared_exchanges
                )
            )
        self._socket.send(frames.connection_close())
        while not self._closed and not deadline.passed:
            self._parser.parse(self._socket.read(deadline.remaining)[0])

    def _declare(self, amqp: Any, channel: Any, name: str, kind: str, *, durable: bool) -> Any:
        """Declare an exchange as Celery does if it is missing; return a channel that is open.

        A passive declare first needs no permission and accepts any arguments; if the exchange is
        missing, it costs the channel.
        """
        with suppress(exceptions.NotFound):
            channel.exchange_declare(name, kind, passive=True)
            return channel
        channel = amqp.channel()
        channel.exchange_declare(name, kind, durable=durable, auto_delete=False)
        self._declared_exchanges.append(name)
        return channel

    def _acknowledge(self) -> None:
        tag = self._parser.tag
        if self._acks and tag > self._acked:
            self._socket.send(frames.ack(self._channel, tag))
            self._acked = tag

    def _check_heartbeat(self) -> None:
        now, interval = time.monotonic(), self._heartbeat
        if not interval:
            return
        if now - self._socket.sent > interval / 2:
            self._socket.send(frames.heartbeat())
        if now - self._socket.received > _HEARTBEATS_MISSED * interval:
            raise ProbeError(
                Reason.TIMEOUT,
                f"no heartbeat from the broker for {_HEARTBEATS_MISSED * interval:.0f} s",
            )

    def _on_method(self, method: frames.Method, arguments: bytes) -> None:
        """Take a method that is no delivery; messages before it are still delivered."""
        if method == frames.CONNECTION_CLOSE_OK:
            self._closed = True
        elif method in (frames.BLOCKED, frames.UNBLOCKED):
            self.blocked = method == frames.BLOCKED
        elif method == frames.CANCEL:
            self._failure = ProbeError(
                Reason.UNAVAILABLE, "the broker cancelled the consumer: the queue was deleted"
            )
        elif method in (frames.CHANNEL_CLOSE, frames.CONNECTION_CLOSE):
            code, text = int.from_bytes(arguments[:2], "big"), frames.read_short(arguments, 2)
            if method == frames.CONNECTION_CLOSE:
                self._socket.send(frames.connection_close_ok())
            kind = (
                exceptions.ChannelError
                if method == frames.CHANNEL_CLOSE
                else exceptions.ConnectionError
            )
            self._failure = exceptions.error_for_code(code, text, method, kind)


def _subscribe(
    channel: Any, exchange: str, own: str, bound_key: str, durable_queue: str | None
) -> None:
    """Consume events from the exporter's own queue, and from the durable one if there is one.

    Then its own queue receives canaries only, which prove that the connection works: a standby
    consumer of the durable queue receives nothing from that.
    """
    arguments = {"x-message-ttl": _TTL, "x-queue-type": "classic"}
    channel.queue_declare(own, exclusive=True, auto_delete=True, arguments=arguments)
    channel.queue_bind(own, exchange, bound_key)
    if durable_queue is None:
        channel.basic_consume(own, no_ack=True, callback=_ignore)
        return
    name = f"{QUEUE_PREFIX}.{durable_queue}"
    channel.queue_declare(name, durable=True, auto_delete=False, arguments=_durable_arguments())
    channel.queue_bind(name, exchange, "#")
    channel.basic_qos(0, _PREFETCH, False)
    # Both with acknowledgements, since one acknowledgement covers all messages before it.  The
    # events come last, since py-amqp would drop those that precede the answer to a request.
    channel.basic_consume(own, callback=_ignore)
    channel.basic_consume(name, callback=_ignore)


def _durable_arguments() -> dict[str, Any]:
    return {
        "x-queue-type": "classic",
        "x-expires": _DURABLE_TTL,
        "x-message-ttl": _DURABLE_TTL,
        "x-max-length": _MAX_LENGTH,
        "x-overflow": "drop-head",
        "x-single-active-consumer": True,
    }


def _ignore(_: Any) -> None:
    """Do nothing: py-amqp requires a callback, and never reads a delivery."""
