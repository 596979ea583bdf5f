"""Events on Redis: pub/sub, read from the socket.

Not through kombu's consumer: that one costs fifteen times as much per event, and hands out other people's
unacknowledged tasks.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from typing import Any, Literal

import hiredis
import msgspec
from redis.exceptions import InvalidResponse, ResponseError

from celery_vitals.brokers import BrokerConnection
from celery_vitals.brokers.event_receiver import JSON, MAX_MESSAGE, UTF8, Listener, Refused
from celery_vitals.brokers.socket_reader import SocketReader
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason

_PIECE = 16 * 1024
"""Bytes given to hiredis at once: after each message it moves all that it has not used yet."""
_MAX_UNFINISHED = 4 * MAX_MESSAGE
"""Bytes of one message that are waited for; what is larger ends the connection."""
_GLOB = re.compile(r"([*?\[\]\\])")


class _Envelope(msgspec.Struct, gc=False):
    """A message as it usually is.  `bytes` is decoded from base64, for which no JSON in braces can be taken."""

    body: bytes
    content_type: Literal["application/json"] = msgspec.field(name="content-type")
    content_encoding: Literal["utf-8"] = msgspec.field(name="content-encoding")


_decode = msgspec.json.Decoder(_Envelope).decode


class RedisReceiver:
    """See `Receiver`."""

    muted = False

    def __init__(
        self,
        connection: BrokerConnection,
        exchange: str,
        listener: Listener,
        max_buffer: int,
        deadline: Deadline,
    ) -> None:
        channel = connection.channel
        self._listener = listener
        self._subscriber, self._publisher = connection.raw_redis(), connection.raw_redis()
        self._prefix = f"{channel.global_keyprefix or ''}{channel.keyprefix_fanout}"
        self._patterns = bool(channel.fanout_patterns)
        self._reader = hiredis.Reader(replyError=ResponseError, protocolError=InvalidResponse)
        self._subscribed = False
        self._failure: Exception | None = None
        pattern = _GLOB.sub(r"\\\1", self._prefix + exchange) + ("/*" if self._patterns else "")
        self._subscriber.send_command("PSUBSCRIBE", pattern, check_health=False)
        self._wire = SocketReader(self._subscriber._sock, max_buffer, channel.socket_timeout)
        while not self._subscribed:
            if deadline.passed:
                raise ProbeError(Reason.TIMEOUT, "Redis does not answer the subscription")
            self.receive(deadline.remaining)

    def receive(self, seconds: float) -> None:
        """Deliver what is there, a block at the most."""
        block, arrived = self._wire.read(seconds)
        if not block:
            return
        bodies = self._cut(block)
        if bodies:
            self._listener.deliver(bodies, arrived)
        if self._failure is not None:
            raise self._failure

    def publish(self, exchange: str, routing_key: str, body: bytes) -> None:
        """PUBLISH on a connection of its own.  What Redis answered to the last one is looked at with the next."""
        while self._publisher.can_read(0):
            self._publisher.read_response()
        topic = f"{self._prefix}{exchange}"
        if routing_key and self._patterns:
            topic += f"/{routing_key}"
        self._publisher.send_command(
            "PUBLISH", topic, envelope(body, exchange, routing_key), check_health=False
        )

    def close(self, deadline: Deadline) -> None:
        """Nothing of a subscription outlives its connection."""

    def _cut(self, block: bytes) -> list[bytes]:
        """The bodies of the messages that end in this block."""
        reader, bodies, size = self._reader, [], len(block)
        feed, gets = reader.feed, reader.gets
        for at in range(0, size, _PIECE):
            feed(block, at, min(_PIECE, size - at))
            while (reply := gets()) is not False:
                if not isinstance(reply, list) or reply[0] != b"pmessage":
                    self._notice(reply)
                    continue
                try:
                    bodies.append(body_of(reply[3]))
                except Refused as refused:
                    self._listener.reject(str(refused))
        if reader.len() > _MAX_UNFINISHED:
            self._listener.reject("too_large")
            self._failure = ProbeError(
                Reason.PROTOCOL, "a message that is too large to be waited for"
            )
        return bodies

    def _notice(self, reply: Any) -> None:
        """Take whatever is no message; what has come before it is still delivered."""
        if isinstance(reply, Exception):
            self._failure = reply
        elif isinstance(reply, list) and reply[0] == b"psubscribe":
            self._subscribed = True


def body_of(data: bytes) -> bytes:
    """The JSON body of a message as kombu's virtual transports write it.  Refused when it is none."""
    if len(data) > MAX_MESSAGE:
        raise Refused("too_large")
    try:
        return _decode(data).body
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _unusual_body(data)


def _unusual_body(data: bytes) -> bytes:
    try:
        message = json.loads(data)
        body: str = message["body"]
        packed = message["properties"].get("body_encoding") == "base64"
        if message.get("content-type") != JSON or message.get("content-encoding") not in UTF8:
            raise Refused("content_type")
        return base64.b64decode(body) if packed else body.encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("envelope") from None


def envelope(body: bytes, exchange: str, routing_key: str) -> bytes:
    """A message as kombu's virtual transports write it."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": JSON,
            "headers": {},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": exchange, "routing_key": routing_key},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()
