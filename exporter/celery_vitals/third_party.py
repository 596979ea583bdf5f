"""Undocumented attributes of the libraries, in one place.

Each function names the library and the reason why no documented interface serves.  A release of
the library may rename what is used here: `tests/unit/test_third_party.py` names every attribute
and what stops working without it.  That test also names what cannot go through a function: the
methods of uvicorn and ssl that `web` overrides, and names that are imported where they are used.
pyproject.toml excludes the next major version of each library.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
from amqp import spec
from amqp.transport import SSLTransport
from celery.app import defaults
from celery.app.backends import by_url
from celery.backends.base import KeyValueStoreBackend
from celery.events.event import get_exchange
from kombu.serialization import registry

# kombu, all transports


def serializer_name(name: str) -> str:
    """Return the name of a serializer that is given by its name or its content type.

    kombu `serialization.registry`, `SerializerRegistry.type_to_name`.
    """
    return str(registry.type_to_name.get(name, name))


def decodes(content_type: str) -> bool:
    """Return whether a decoder of a content type has been registered.

    kombu `serialization.registry`, `SerializerRegistry._decoders`.
    """
    return content_type in registry._decoders


# kombu, virtual transports


def queue_size(channel: Any, queue: str) -> int:
    """Count the messages of a queue.

    kombu `virtual.Channel._size`: the public `queue_declare` creates a missing queue.
    """
    return int(channel._size(queue))


def bindings(channel: Any, exchange: str) -> Iterator[tuple[str, str, str]]:
    """Iterate over the routing keys, patterns and queues of an exchange.

    kombu `virtual.Channel.get_table`: there is no public way to list bindings.
    """
    yield from channel.get_table(exchange)


def delete_bound_queue(
    channel: Any, queue: str, exchange: str, routing_key: str, pattern: str
) -> None:
    """Delete a queue that another process has declared, and its binding.

    kombu `virtual.Channel._delete`: `queue_delete` only removes bindings of this connection.
    """
    channel._delete(queue, exchange, routing_key, pattern)


def replace_receive(channel: Any, receive: Callable[[Path, str], Any]) -> None:
    """Have a channel of the file system transport take messages with `receive`.

    kombu `filesystem.Channel._get`, `data_folder_in`: its own `_get` fails on a half-written file.
    """
    channel._get = lambda queue: receive(Path(channel.data_folder_in), queue)


def message_folder(channel: Any) -> Path:
    """Return the folder that a channel of the file system transport writes messages to.

    kombu `filesystem.Channel.data_folder_out`.
    """
    return Path(channel.data_folder_out)


# kombu, Redis transport


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


def transport_option_names(transport: Any) -> frozenset[str]:
    """Return the transport options that a virtual transport of kombu reads.

    kombu `virtual.Channel.from_transport_options`: the documentation lists a part of them.
    """
    return frozenset(transport.Channel.from_transport_options)


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


# kombu, Amazon SQS transport


def sqs_clients(channel: Any) -> Iterator[Any]:
    """Iterate over the clients of boto3 that a channel has opened.

    kombu `SQS.Channel._sqs`, `_predefined_queue_clients`: kombu never closes them.
    """
    if channel._sqs is not None:
        yield channel._sqs
    if channel.connection is not None:  # a closed channel cannot name its clients
        yield from channel._predefined_queue_clients.values()


def list_sqs_queues(channel: Any, prefix: str) -> list[str]:
    """List the queues whose names begin with `prefix`.

    kombu `SQS.Channel._update_queue_cache`, `_queue_cache`: fills the cache of URLs as well.
    """
    channel._update_queue_cache(prefix)
    return list(channel._queue_cache)


def sqs_queue_url(channel: Any, name: str) -> str | None:
    """Return the URL of a queue by its name on SQS; None when it does not exist.

    kombu `SQS.Channel._update_queue_cache`, `_queue_cache`: the public ways create a missing queue,
    and `_resolve_queue_url` exists since kombu 5.5 only.
    """
    if name not in channel._queue_cache:
        channel._update_queue_cache(name)
    url = channel._queue_cache.get(name)
    return str(url) if url is not None else None


def forget_sqs_queue(channel: Any, name: str) -> None:
    """Forget the URL of a queue that has been deleted: kombu `SQS.Channel._queue_cache`."""
    channel._queue_cache.pop(name, None)


# redis-py


def dedicated_connection(channel: Any) -> Any:
    """Open a connection outside the pool, to the same server with the same options.

    redis-py `ConnectionPool.make_connection`: pooled connections are shared and read ahead.
    """
    connection = channel.pool.make_connection()
    connection.connect()
    return connection


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
    return {name for name in _parameters(redis.SSLConnection.__init__) if name.startswith("ssl_")}


# py-amqp


def amqp_tls_options() -> set[str]:
    """Return the names of py-amqp's TLS options; none when they cannot be determined.

    py-amqp `SSLTransport._wrap_socket_sni`, whose parameters they are: no list is documented.
    """
    function = getattr(SSLTransport, "_wrap_socket_sni", None)
    return _parameters(function) - {"self", "sock", "kwargs"}


def amqp_socket(connection: Any) -> Any:
    """Return the socket of a connection.

    py-amqp `Connection.transport.sock`: its frame reader costs three times as much per event.
    """
    return connection.transport.sock


def amqp_limits(connection: Any) -> tuple[int, float]:
    """Return the negotiated size of a frame (bytes) and heartbeat interval (seconds; 0: none).

    py-amqp `Connection.frame_max`, `heartbeat`.
    """
    return int(connection.frame_max), float(connection.heartbeat or 0)


def amqp_cluster_name(connection: Any) -> str:
    """Return the name that the broker gives its cluster; empty when it sends none.

    py-amqp `Connection.server_properties`.
    """
    return str(connection.server_properties.get("cluster_name") or "")


_BLOCKED = (10, 60)
"""connection.blocked, by class and method."""


def on_blocked(connection: Any, callback: Callable[[str], Any]) -> None:
    """Call `callback` with the broker's reason when it blocks the connection.

    py-amqp `Connection._METHODS`, `_callbacks`: the documented `on_blocked` gets no reason.
    """
    blocked = spec.method(_BLOCKED, "s")
    connection._METHODS = {**connection._METHODS, blocked.method_sig: blocked}
    connection._callbacks[blocked.method_sig] = callback


def on_returned_message(channel: Any, callback: Callable[..., None]) -> None:
    """Call `callback` for every message that the broker returns as unroutable.

    py-amqp `Channel.events`: the documented way raises an error at another place.
    """
    channel.events["basic_return"].add(callback)


def send_passive_declare(channel: Any, queue: str) -> None:
    """Send a passive declare without waiting for its answer.

    py-amqp `Channel.send_method`: `queue_declare` waits, one round trip per queue.
    """
    channel.send_method(
        spec.Queue.Declare, "BsbbbbbF", (0, queue, True, False, False, False, False, None)
    )


def receive_declared(channel: Any) -> tuple[str, int, int]:
    """Wait for the next answer to a declare: queue, messages ready, consumers.

    py-amqp `Channel.wait(returns_tuple=)`.
    """
    return cast("tuple[str, int, int]", channel.wait(spec.Queue.DeclareOk, returns_tuple=True))


# celery


def event_exchange(connection: Any, name: str) -> Any:
    """Return the exchange of the events as Celery declares it on this kind of broker.

    celery `events.event.get_exchange`: its type depends on the transport.
    """
    return get_exchange(connection, name)


def celery_defaults() -> Mapping[str, Any]:
    """Return the defaults of all settings of Celery.

    celery `app.defaults.DEFAULTS`: the configuration of an app may hold them by their old names.
    """
    return cast("Mapping[str, Any]", defaults.DEFAULTS)


def celery_setting_names() -> frozenset[str]:
    """Return the names of all settings of Celery, old and new.

    celery `app.defaults.SETTING_KEYS`, `_OLD_SETTING_KEYS`.
    """
    return frozenset(defaults.SETTING_KEYS | defaults._OLD_SETTING_KEYS)


def open_result_store(app: Any, url: str) -> Any:
    """Create the result backend of a URL.

    celery `app.backends.by_url`: `app.backend` ignores a URL that is given later.
    """
    cls, url = by_url(url, app.loader)
    return cls(app=app, url=url)


def import_result_store(app: Any, url: str) -> None:
    """Import the class of a result backend.  Raises what its module raises."""
    by_url(url, app.loader)


def set_store_options(store: Any, options: Mapping[str, Any]) -> None:
    """Have a result backend on Redis pass these parameters to redis-py.

    celery `backends.redis.RedisBackend.connparams`: the query of the URL precedes all settings.
    """
    store.connparams.update(options)


def is_key_value_store(store: Any) -> bool:
    """Return whether a result backend has `get`, `set` and `delete`.

    celery `backends.base.KeyValueStoreBackend`.
    """
    return isinstance(store, KeyValueStoreBackend)


def task_key(store: Any, task_id: str) -> Any:
    """Return the key that a result backend stores a task's result under.

    celery `KeyValueStoreBackend.get_key_for_task`: the key prefix is an option of the application.
    """
    return store.get_key_for_task(task_id)


def opened_client(store: Any) -> Any:
    """Return the client of a result backend; None when none has been opened.

    celery `backend.client`, a cached property: reading it would open one.
    """
    return vars(store).get("client")


# SQLAlchemy


def import_driver(dialect: Any) -> None:
    """Import the driver of a database.  Raises what its module raises.

    SQLAlchemy 1.4 `Dialect.dbapi`: the name of `import_dbapi` before 2.0.
    """
    (getattr(dialect, "import_dbapi", None) or dialect.dbapi)()


def _parameters(function: Any) -> set[str]:
    """Return the names of a function's parameters; none when it hides them."""
    with suppress(TypeError, ValueError):
        return set(inspect.signature(function).parameters)
    return set()
