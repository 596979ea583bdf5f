"""kombu's Redis transport: its key names, its options and its connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RedisKeys:
    """How kombu names its keys on Redis: attributes of `kombu.transport.redis.Channel`.

    They come from transport options, but no public interface returns the resulting names.
    """

    prefix: str
    """`global_keyprefix`"""
    fanout_prefix: str
    """Both prefixes of a pub/sub topic; the second is `keyprefix_fanout`."""
    fanout_patterns: bool
    """Whether the routing key is part of a pub/sub topic."""
    bindings_prefix: str
    """Prefix of the sets of bindings, one per exchange: `keyprefix_queue`."""
    separator: str
    """`sep`, between the parts of a binding, and between a queue and its priority step."""
    priority_steps: tuple[float, ...]
    unacked: str
    """`unacked_key`"""
    unacked_index: str
    """`unacked_index_key`"""
    acknowledges: bool
    """Whether unacknowledged messages are kept: `ack_emulation`."""


def redis_keys(channel: Any, options: Mapping[str, Any] | None = None) -> RedisKeys:
    """Return the key names of a Redis channel; with `options`, those of a worker that has these."""
    prefix = channel.global_keyprefix or ""

    def value(name: str) -> Any:
        if options is None:
            return getattr(channel, name)
        return options.get(name, getattr(type(channel), name))

    return RedisKeys(
        prefix=prefix,
        fanout_prefix=f"{prefix}{channel.keyprefix_fanout}",
        fanout_patterns=bool(channel.fanout_patterns),
        bindings_prefix=prefix + channel.keyprefix_queue % "",
        separator=value("sep"),
        priority_steps=tuple(value("priority_steps")),
        unacked=prefix + value("unacked_key"),
        unacked_index=prefix + value("unacked_index_key"),
        acknowledges=bool(value("ack_emulation")),
    )


def set_redis_options(kombu: Any, options: Mapping[str, Any]) -> None:
    """Have the channels of a new connection pass these parameters to redis-py.

    kombu `redis.Channel._connparams`, `virtual.Transport.Channel`: transport options reach only
    some of the parameters.
    """
    base: Any = kombu.transport.Channel

    class Channel(base):  # type: ignore[misc]
        def _connparams(self, *args: Any, **named: Any) -> dict[str, Any]:
            return {**super()._connparams(*args, **named), **options}

    kombu.transport.Channel = Channel


def redis_pool(channel: Any) -> Any:
    """Return the connection pool of a Redis channel.

    kombu `redis.Channel.pool`: its `client` prefixes the keys of some commands.
    """
    return channel.pool


def close_consumer_pool(channel: Any) -> None:
    """Close the connection on which kombu greets the server and which only consumers use.

    kombu `redis.Channel.async_pool`.  Without it one idle connection more stays open.
    """
    pool = getattr(channel, "async_pool", None)
    if pool is not None:
        pool.disconnect()


def close_idle_connections(channel: Any) -> None:
    """Close the pooled connections of a Redis channel.

    kombu `redis.Channel.client`: the pool belongs to kombu, which closes it with the channel only.
    """
    channel.client.connection_pool.disconnect()


def dedicated_connection(channel: Any) -> Any:
    """Open a connection outside the pool, to the same server with the same options.

    redis-py `ConnectionPool.make_connection`: pooled connections are shared and read ahead.
    """
    connection = channel.pool.make_connection()
    connection.connect()
    return connection
