"""The reply mailbox on Redis: a list, read by a plain client.

Workers push their replies straight onto the list (exchange "", routing key = the list's name), so no binding is left
behind in the broker; and nothing here drains a kombu consumer, which would hand out other people's unacknowledged
tasks.
"""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from celery_vitals.brokers import BrokerConnection
from celery_vitals.brokers.reply_decoding import decode
from celery_vitals.deadline import Deadline
from celery_vitals.remote_control import Reply

_MAILBOXES = "celery-vitals.mailboxes"
"""A sorted set of the mailboxes in use, by the Unix time of their last use: so what a killed exporter left is found."""
_FORGOTTEN = 60.0
"""Seconds unused after which a mailbox is nobody's.  A list of replies is all that it can hold; one that is still in
use after all (a scrape less than once a minute) only loses answers that came too late."""
_OWED = 86400.0
_REGISTRY_EXPIRES = 30 * 86400
_OURS = re.compile(r"celery-vitals\.[0-9a-f-]{36}\.reply")


class RedisMailbox:
    """See `Mailbox`."""

    def __init__(self, connection: BrokerConnection, exchange: str) -> None:
        channel = connection.channel
        self._redis = connection.redis()
        self._prefix = channel.global_keyprefix or ""
        self._topic = f"{self._prefix}{channel.keyprefix_fanout}{exchange}.pidbox"
        self._exchange = f"{exchange}.pidbox"
        self._name = f"celery-vitals.{uuid.uuid4()}.reply"
        self._key = self._prefix + self._name
        self._registry = self._prefix + _MAILBOXES
        # One blocking read stays below the socket's own timeout.
        self._block = channel.socket_timeout / 2
        self._swept = 0.0

    @property
    def address(self) -> Mapping[str, str]:
        """The default exchange takes the routing key for the name of the queue."""
        return {"exchange": "", "routing_key": self._name}

    @property
    def unheard(self) -> bool:
        """Never said later than by `broadcast` itself."""
        return False

    def broadcast(self, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """PUBLISH, which answers with the number of mailboxes that listen."""
        now = time.time()
        if now - self._swept > _FORGOTTEN:
            self._swept = now
            self._sweep(now - _FORGOTTEN)
        pipe = self._redis.pipeline(transaction=False)
        pipe.zadd(self._registry, {self._name: now})
        pipe.expire(self._registry, _REGISTRY_EXPIRES)
        for message in messages:
            pipe.publish(self._topic, _envelope(message, self._exchange))
        return int(max(pipe.execute()[2:]))

    def receive(self, deadline: Deadline) -> Sequence[Reply]:
        """The list's whole content at once, after a blocking read of its first entry."""
        while True:
            # Redis takes 0 for "for ever".
            first = self._redis.brpop(
                [self._key], timeout=max(0.001, min(deadline.remaining, self._block))
            )
            if first is not None:
                break
            if deadline.passed:
                return ()
        pipe = self._redis.pipeline(transaction=True)
        pipe.lrange(self._key, 0, -1)
        pipe.delete(self._key)
        rest = pipe.execute()[0]
        # Workers push on the left: the oldest is on the right.
        return [reply for raw in (first[1], *reversed(rest)) if (reply := _parse(raw)) is not None]

    def close(self, owed: bool) -> None:
        """Remove the list and, unless someone may still push on it, its registration."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.delete(self._key)
        if not owed:
            pipe.zrem(self._registry, self._name)
        pipe.execute()

    def _sweep(self, before: float) -> None:
        """Remove what exporters that were killed have left: a late reply makes a list that nobody reads."""
        left = self._redis.zrangebyscore(self._registry, "-inf", before)
        if left:
            pipe = self._redis.pipeline(transaction=False)
            # It stays registered for a day: a worker that was frozen may answer long after.
            pipe.zremrangebyscore(self._registry, "-inf", before - _OWED)
            for name in left:
                text = name.decode("utf-8", "replace")
                if _OURS.fullmatch(
                    text
                ):  # whoever wrote another name there: it is not ours to delete
                    pipe.delete(self._prefix + text)
            pipe.execute()


def _envelope(message: Mapping[str, Any], exchange: str) -> bytes:
    """A message as kombu's virtual transports write it."""
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(message).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 1, "expires": 0},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": exchange, "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()


def _parse(raw: bytes) -> Reply | None:
    try:
        message = json.loads(raw)
        body = message["body"]
        if message.get("properties", {}).get("body_encoding") == "base64":
            body = base64.b64decode(body)
        content = decode(
            body,
            message.get("content-type", "application/json"),
            message.get("content-encoding", "utf-8"),
        )
        ticket = message["headers"]["ticket"]
    except Exception:  # noqa: BLE001 - whatever a decoder raises: a reply that cannot be read is no reply
        return None
    return Reply(ticket, content) if isinstance(ticket, str) and isinstance(content, dict) else None
