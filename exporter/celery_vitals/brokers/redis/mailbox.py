"""The reply mailbox on Redis: a list, read by a plain client.

Workers push their replies onto the list directly (exchange "", routing key = name of the list),
so no binding is left behind in the broker; and no consumer of kombu runs, which would redeliver
unacknowledged tasks.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from celery_vitals.brokers import kombu_message
from celery_vitals.brokers.base import Reply
from celery_vitals.brokers.intake import Intake
from celery_vitals.brokers.redis.connection import RedisConnection, ReplyTooLargeError
from celery_vitals.brokers.serialization import JSON, decode, encode
from celery_vitals.deadline import Deadline
from celery_vitals.third_party import kombu_redis

_REGISTRY = "celery-vitals.mailboxes"
"""A sorted set of the mailboxes in use, by the Unix time of their last use: orphans are found by
it."""
_ORPHANED_AFTER = 60.0
"""Seconds unused after which a mailbox is an orphan.  One that is still in use (with a scrape less
than once a minute) only loses replies that came too late."""
_LATE_REPLIES_FOR = 86400.0
_REGISTRY_EXPIRES = 30 * 86400
_MAILBOX_NAME = re.compile(r"celery-vitals\.[0-9a-f-]{36}\.reply")
_LARGE = 256 * 1024
"""Bytes of a reply after which the others are read one by one: Redis copies all that is read."""
_SHORTEST_WAIT = 0.001
"""Redis takes 0 to mean no limit."""


class RedisMailbox:
    """A `Mailbox` that is a list."""

    undelivered = False
    """Known from `broadcast` itself."""

    def __init__(
        self, connection: RedisConnection, exchange: str, serializer: str = "json"
    ) -> None:
        self._serializer = serializer
        keys = kombu_redis.redis_keys(connection.channel)
        self._redis = connection.redis()
        self._prefix = keys.prefix
        self._topic = f"{keys.fanout_prefix}{exchange}.pidbox"
        self._exchange = f"{exchange}.pidbox"
        self._name = f"celery-vitals.{uuid.uuid4()}.reply"
        self._key = self._prefix + self._name
        self._registry = self._prefix + _REGISTRY
        # One blocking read stays below the timeout of the socket.
        self._longest_wait = connection.channel.socket_timeout / 2
        self._swept = 0.0
        self._singly = False
        """Whether the replies of this round are too large to be read together."""
        self.intake = Intake()

    @property
    def address(self) -> Mapping[str, str]:
        """The default exchange, whose routing key is the name of the list."""
        return {"exchange": "", "routing_key": self._name}

    def broadcast(self, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Send PUBLISH, which returns the number of subscribed mailboxes."""
        now = time.time()
        if now - self._swept > _ORPHANED_AFTER:
            self._swept = now
            self._remove_orphans(now - _ORPHANED_AFTER)
        if self.intake.begin_round():
            self._redis.delete(self._key)
        self._singly = False
        pipe = self._redis.pipeline(transaction=False)
        pipe.zadd(self._registry, {self._name: now})
        pipe.expire(self._registry, _REGISTRY_EXPIRES)
        for message in messages:
            content_type, encoding, body = encode(message, self._serializer)
            envelope = kombu_message.write(
                body,
                self._exchange,
                headers={"clock": 1, "expires": 0},
                content_type=content_type,
                encoding=encoding,
            )
            pipe.publish(self._topic, envelope)
        return max(map(int, pipe.execute()[2:]), default=None)

    def receive(self, deadline: Deadline) -> Sequence[Reply]:
        """Return the content of the list, after a blocking read of its first entry."""
        while True:
            entries = self._take(max(_SHORTEST_WAIT, min(deadline.remaining, self._longest_wait)))
            replies = [reply for raw in entries if (reply := self._parse(raw)) is not None]
            if replies or deadline.passed:
                return tuple(replies)

    def _take(self, seconds: float) -> list[bytes]:
        """Remove entries from the list and return them, the oldest first."""
        try:
            first = self._redis.brpop([self._key], timeout=seconds)
        except ReplyTooLargeError:  # it is no longer in the list
            self._singly = True
            self.intake.discard()
            return []
        if first is None:
            return []
        self._singly = self._singly or len(first[1]) > _LARGE
        return [first[1]] if self._singly else [first[1], *self._take_others()]

    def _take_others(self) -> list[bytes]:
        """Remove all other entries; none when they are too large to be read together."""
        try:
            # Workers push on the left: the oldest reply is on the right.
            older = self._redis.lrange(self._key, 0, -1)
        except ReplyTooLargeError:
            self._singly = True
            return []
        if not older:
            return []
        pipe = self._redis.pipeline(transaction=True)
        pipe.lrange(self._key, 0, -len(older) - 1)
        pipe.delete(self._key)
        try:
            newer = pipe.execute()[0]
        except ReplyTooLargeError:
            self.intake.discard()
            newer = []
        return [*reversed(older), *reversed(newer)]

    def _parse(self, raw: bytes) -> Reply | None:
        try:
            message = kombu_message.read(raw)
            content_type = message.content_type or JSON
            if not self.intake.accepts(len(message.body), content_type):
                return None
            content = decode(message.body, content_type, message.content_encoding)
            ticket = message.headers["ticket"]
        except Exception:  # noqa: BLE001 - decoders raise errors of many types
            return None
        known = isinstance(ticket, str) and isinstance(content, dict)
        return Reply(ticket, content) if known else None

    def close(self, replies_pending: bool) -> None:
        """Delete the list and, unless replies may still arrive, its registration."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.delete(self._key)
        if not replies_pending:
            pipe.zrem(self._registry, self._name)
        pipe.execute()

    def _remove_orphans(self, before: float) -> None:
        """Delete the lists of exporters that were killed: late replies create them again."""
        orphans = self._redis.zrangebyscore(self._registry, "-inf", before)
        if not orphans:
            return
        pipe = self._redis.pipeline(transaction=False)
        # They stay registered for a day: a suspended worker may reply long after.
        pipe.zremrangebyscore(self._registry, "-inf", before - _LATE_REPLIES_FOR)
        for orphan in orphans:
            name = orphan.decode("utf-8", "replace")
            if _MAILBOX_NAME.fullmatch(name):  # anything else there is not the exporter's
                pipe.delete(self._prefix + name)
        pipe.execute()
