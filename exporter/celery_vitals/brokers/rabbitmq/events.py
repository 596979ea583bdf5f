"""Events on RabbitMQ: py-amqp makes the connection and the queue, then the frames are cut from the socket by hand."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Any

from amqp import exceptions

from celery_vitals.brokers import BrokerConnection
from celery_vitals.brokers.event_receiver import Listener
from celery_vitals.brokers.rabbitmq import frames
from celery_vitals.brokers.socket_reader import SocketReader
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.events import canary

QUEUE_PREFIX = "celeryev"
_TTL = 60_000
"""Milliseconds that events wait in the exporter's own queue, when it cannot keep up."""
_KEEP = 600_000
"""Milliseconds that a durable queue, and an event in it, outlives the exporter."""
_MAX_LENGTH = 200_000
_PREFETCH = 2000
_SEND_TIMEOUT = 2.0
_HEARTBEATS_MISSED = 2


class AmqpReceiver:
    """See `Receiver`."""

    def __init__(
        self,
        connection: BrokerConnection,
        exchange: str,
        listener: Listener,
        max_buffer: int,
        *,
        durable_queue: str | None = None,
        control_exchange: str | None = None,
    ) -> None:
        amqp = connection.kombu.connection
        self.muted = False
        self._listener = listener
        self._acks = durable_queue is not None
        self._acked = 0
        self._closed = False
        self._failure: Exception | None = None
        self._heartbeat = float(amqp.heartbeat or 0)
        self._made: list[str] = []
        self._said = self._told = 0
        channel = self._declare(amqp, amqp.channel(), exchange, "topic", durable=True)
        if control_exchange is not None:
            channel = self._declare(amqp, channel, control_exchange, "fanout", durable=False)
        self._channel = int(channel.channel_id)
        self._queue = f"{QUEUE_PREFIX}.celery-vitals.{uuid.uuid4()}"
        _subscribe(channel, exchange, self._queue, durable_queue)
        self._cutter = frames.FrameParser(amqp.frame_max, self._on_method, listener.reject)
        self._reader = SocketReader(amqp.transport.sock, max_buffer, _SEND_TIMEOUT)

    def receive(self, seconds: float) -> None:
        """Deliver what is there, a block at the most, and acknowledge it: what is not comes again after a cut."""
        block, arrived = self._reader.read(seconds)
        if block:
            bodies = self._cutter.cut(block)
            if bodies:
                self._told += len(bodies)
                self._listener.deliver(bodies, arrived)
            if self._failure is not None:
                raise self._failure
            self._acknowledge()
        self._tend_heartbeat()

    def publish(self, exchange: str, routing_key: str, body: bytes) -> None:
        """On the channel that the events come on."""
        self._said += 1
        self._reader.send(frames.publish(self._channel, exchange, routing_key, body))

    def close(self, deadline: Deadline) -> None:
        """Say goodbye; an exclusive queue ends with its connection.

        Exchanges that were missing go as well where nobody else seems to need them: nobody has sent an event, and the
        broker knows of no other queue on them.
        """
        if self._told <= self._said:
            self._reader.send(frames.delete_queue(self._channel, self._queue))
            self._reader.send(
                b"".join(frames.delete_unused_exchange(self._channel, name) for name in self._made)
            )
        self._reader.send(frames.connection_close())
        while not self._closed and not deadline.passed:
            self._cutter.cut(self._reader.read(deadline.remaining)[0])

    def _declare(self, amqp: Any, channel: Any, name: str, kind: str, *, durable: bool) -> Any:
        """Have an exchange, declared as Celery does it where it is missing; returns a channel that is open.

        Asking for it first needs no permission, and takes it as it is; asking for what is missing costs the channel.
        """
        with suppress(exceptions.NotFound):
            channel.exchange_declare(name, kind, passive=True)
            return channel
        channel = amqp.channel()
        channel.exchange_declare(name, kind, durable=durable, auto_delete=False)
        self._made.append(name)
        return channel

    def _acknowledge(self) -> None:
        tag = self._cutter.tag
        if self._acks and tag > self._acked:
            self._reader.send(frames.ack(self._channel, tag))
            self._acked = tag

    def _tend_heartbeat(self) -> None:
        now, interval = time.monotonic(), self._heartbeat
        if not interval:
            return
        if now - self._reader.sent > interval / 2:
            self._reader.send(frames.heartbeat())
        if now - self._reader.received > _HEARTBEATS_MISSED * interval:
            raise ProbeError(
                Reason.TIMEOUT,
                f"no heartbeat of the broker for {_HEARTBEATS_MISSED * interval:.0f} s",
            )

    def _on_method(self, method: frames.Method, arguments: bytes) -> None:
        """Take a method that is no delivery; what has come before it is still delivered."""
        if method == frames.CONNECTION_CLOSE_OK:
            self._closed = True
        elif method in (frames.BLOCKED, frames.UNBLOCKED):
            self.muted = method == frames.BLOCKED
        elif method == frames.CANCEL:
            self._failure = ProbeError(
                Reason.UNAVAILABLE, "the broker ended the subscription: the queue was deleted"
            )
        elif method in (frames.CHANNEL_CLOSE, frames.CONNECTION_CLOSE):
            code, text = int.from_bytes(arguments[:2], "big"), frames.read_short(arguments, 2)
            if method == frames.CONNECTION_CLOSE:
                self._reader.send(frames.connection_close_ok())
            kind = (
                exceptions.ChannelError
                if method == frames.CHANNEL_CLOSE
                else exceptions.ConnectionError
            )
            self._failure = exceptions.error_for_code(code, text, method, kind)


def _subscribe(channel: Any, exchange: str, own: str, durable_queue: str | None) -> None:
    """Consume all events from a queue of our own; or from a durable one, and from our own only what proves that the
    connection is alive: whoever stands by for another reader of the durable queue gets nothing from it."""
    arguments = {"x-message-ttl": _TTL, "x-queue-type": "classic"}
    channel.queue_declare(own, exclusive=True, auto_delete=True, arguments=arguments)
    channel.queue_bind(own, exchange, "#" if durable_queue is None else canary.KEY)
    if durable_queue is None:
        channel.basic_consume(own, no_ack=True, callback=_ignore)
        return
    name = f"{QUEUE_PREFIX}.{durable_queue}"
    channel.queue_declare(name, durable=True, auto_delete=False, arguments=_durable_arguments())
    channel.queue_bind(name, exchange, "#")
    channel.basic_qos(0, _PREFETCH, False)
    # All with acknowledgements: one that is for several must not end at a message without.  The events come last, since
    # py-amqp would read, and drop, those that came before the answer to another request.
    channel.basic_consume(own, callback=_ignore)
    channel.basic_consume(name, callback=_ignore)


def _durable_arguments() -> dict[str, Any]:
    return {
        "x-queue-type": "classic",
        "x-expires": _KEEP,
        "x-message-ttl": _KEEP,
        "x-max-length": _MAX_LENGTH,
        "x-overflow": "drop-head",
        "x-single-active-consumer": True,
    }


def _ignore(_: Any) -> None:
    """py-amqp wants to know what to call; it never gets to read a delivery."""
