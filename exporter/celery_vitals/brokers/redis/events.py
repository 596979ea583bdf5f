"""Events on Redis: pub/sub, read from the socket.

kombu's consumer costs fifteen times as much per event, and redelivers unacknowledged tasks.
"""

from __future__ import annotations

import re
from typing import Any

import hiredis
from redis.exceptions import InvalidResponse, ResponseError

from celery_vitals.brokers import kombu_message
from celery_vitals.brokers.base import EventListener
from celery_vitals.brokers.kombu_message import read_json_body
from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.serialization import JSON, MAX_MESSAGE, RejectedMessage
from celery_vitals.brokers.socket_reader import SocketReader
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.third_party import kombu_redis, redis_py

_PIECE = 16 * 1024
"""Bytes passed to hiredis at once: after each message it moves all that it has not parsed yet."""
_MAX_UNFINISHED = 4 * MAX_MESSAGE
"""Bytes of one message that are buffered; a larger one ends the connection."""
_GLOB = re.compile(r"([*?\[\]\\])")


class RedisReceiver:
    """An `EventReceiver` that subscribes to a pattern of topics."""

    blocked = False

    def __init__(
        self,
        connection: RedisConnection,
        exchange: str,
        listener: EventListener,
        max_buffer: int,
        deadline: Deadline,
    ) -> None:
        keys = kombu_redis.redis_keys(connection.channel)
        self._listener = listener
        self._subscriber = connection.dedicated_connection()
        self._publisher = connection.dedicated_connection()
        self._prefix = keys.fanout_prefix
        self._patterns = keys.fanout_patterns
        self._parser = hiredis.Reader(replyError=ResponseError, protocolError=InvalidResponse)
        self._subscribed = False
        self._failure: Exception | None = None
        pattern = _GLOB.sub(r"\\\1", self._prefix + exchange) + ("/*" if self._patterns else "")
        redis_py.send_redis_command(self._subscriber, "PSUBSCRIBE", pattern)
        self._socket = SocketReader(
            redis_py.redis_socket(self._subscriber),
            max_buffer,
            connection.channel.socket_timeout,
        )
        while not self._subscribed:
            if deadline.passed:
                raise ProbeError(Reason.TIMEOUT, "Redis does not answer the subscription")
            self.receive(deadline.remaining)

    def receive(self, seconds: float) -> None:
        """Deliver what has arrived, one block at most."""
        block, arrived = self._socket.read(seconds)
        if not block:
            return
        bodies = self._parse(block)
        if bodies:
            self._listener.deliver(bodies, arrived)
        if self._failure is not None:
            raise self._failure

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        content_type: str = JSON,
        encoding: str = "utf-8",
    ) -> None:
        """Send PUBLISH on a connection of its own; its reply is read at the next publish."""
        redis_py.discard_redis_replies(self._publisher)
        topic = f"{self._prefix}{exchange}"
        if routing_key and self._patterns:
            topic += f"/{routing_key}"
        message = kombu_message.write(
            body, exchange, routing_key, content_type=content_type, encoding=encoding
        )
        redis_py.send_redis_command(self._publisher, "PUBLISH", topic, message)

    def close(self, deadline: Deadline) -> None:
        """Do nothing: a subscription ends with its connection."""

    def _parse(self, block: bytes) -> list[bytes]:
        """Return the bodies of the messages that end in this block."""
        parser, bodies, size = self._parser, [], len(block)
        feed, gets = parser.feed, parser.gets
        for at in range(0, size, _PIECE):
            feed(block, at, min(_PIECE, size - at))
            while (reply := gets()) is not False:
                if not isinstance(reply, list) or reply[0] != b"pmessage":
                    self._on_reply(reply)
                    continue
                try:
                    bodies.append(read_json_body(reply[3]))
                except RejectedMessage as rejected:
                    self._listener.reject(str(rejected))
        if parser.len() > _MAX_UNFINISHED:
            self._listener.reject("too_large")
            self._failure = ProbeError(Reason.PROTOCOL, "a message is too large to be buffered")
        return bodies

    def _on_reply(self, reply: Any) -> None:
        """Take a reply that is no message; messages before it are still delivered."""
        if isinstance(reply, Exception):
            self._failure = reply
        elif isinstance(reply, list) and reply[0] == b"psubscribe":
            self._subscribed = True
