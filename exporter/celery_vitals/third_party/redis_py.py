"""redis-py: one connection and its parser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from redis.connection import DefaultParser

from celery_vitals.third_party.signatures import parameters


def bounded_redis_parser(limit: int, too_large: Callable[[], Exception]) -> type:
    """Return a parser that raises an error when one reply has more than `limit` bytes.

    redis-py `connection.DefaultParser.read_from_socket`, `_reader`: no parameter bounds a reply.
    """

    class Parser(DefaultParser):  # type: ignore[misc]
        _received = 0

        def read_response(self, *args: Any, **named: Any) -> Any:
            self._received = 0
            return super().read_response(*args, **named)

        def read_from_socket(self, *args: Any, **named: Any) -> Any:
            before = self._reader.len()
            result = super().read_from_socket(*args, **named)
            self._received += self._reader.len() - before
            if self._received > limit:
                raise too_large()
            return result

    return Parser


def redis_socket(connection: Any) -> Any:
    """Return the socket of a connection.

    redis-py `Connection._sock`: its parser costs several times as much per event.
    """
    return connection._sock


def send_redis_command(connection: Any, *command: str | bytes) -> None:
    """Send a command without reading its reply.

    redis-py `Connection.send_command(check_health=)`: the health check would read pushed messages.
    """
    connection.send_command(*command, check_health=False)


def discard_redis_replies(connection: Any) -> None:
    """Read the replies that have arrived; raises an error that is among them.

    redis-py `Connection.can_read`, `read_response`.
    """
    while connection.can_read(0):
        connection.read_response()


def redis_tls_options() -> set[str]:
    """Return the names of redis-py's TLS options; none when they cannot be determined.

    redis-py `SSLConnection.__init__`, whose parameters they are: no list is documented.
    """
    return {name for name in parameters(redis.SSLConnection.__init__) if name.startswith("ssl_")}
