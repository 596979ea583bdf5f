"""A connection to Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
from kombu import Connection

from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.writability import PublisherBlock
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.third_party import kombu_redis, redis_py

MAX_READ = 16 * 1024 * 1024
"""Bytes of one reply of Redis."""


class ReplyTooLargeError(ProbeError):
    """A reply that is not read to its end; the connection it came over is closed."""

    def __init__(self) -> None:
        super().__init__(Reason.PROTOCOL, f"Redis sends more than {MAX_READ} bytes in one reply")


CLIENT_OPTIONS: Mapping[str, Any] = {
    # A later protocol begins with HELLO, which old servers and some proxies do not know and an ACL
    # may deny.  Nothing that is read here differs between the protocols.
    "protocol": 2,
    # Enough for every collector, whatever the application allows itself.
    "max_connections": 10,
    "parser_class": redis_py.bounded_redis_parser(MAX_READ, ReplyTooLargeError),
}
"""Parameters of redis-py for every connection to Redis, in place of the application's."""


class RedisConnection(BrokerConnection):
    """Provides plain clients of redis-py on kombu's connection."""

    def __init__(self, kombu: Connection, block: PublisherBlock) -> None:
        super().__init__(kombu, block)
        kombu_redis.close_consumer_pool(self.channel)
        self._dedicated: list[Any] = []

    @property
    def sockets(self) -> int:
        """The dedicated connections, or the pooled one."""
        return len(self._dedicated) or 1

    def redis(self) -> redis.Redis:
        """Return a client that adds no prefix to keys, as kombu's own does for some commands."""
        return redis.Redis(connection_pool=kombu_redis.redis_pool(self.channel))

    def dedicated_connection(self) -> Any:
        """Open a connection to the same server, for a reader of its socket.

        It is closed with this one and replaces it: the pooled connections are closed.
        """
        connection = kombu_redis.dedicated_connection(self.channel)
        self._dedicated.append(connection)
        kombu_redis.close_idle_connections(self.channel)
        return connection

    def round_trip(self) -> None:
        """Send PING."""
        self.redis().ping()

    def close(self) -> None:
        """Close all of its connections."""
        self._close_dedicated()
        super().close()

    def abandon(self) -> None:
        """Close all of its connections; on Redis there is nothing to wait for."""
        self._close_dedicated()
        super().abandon()

    def _close_dedicated(self) -> None:
        for connection in self._dedicated:
            connection.disconnect()
