"""The keys, queues and connections of a broker: shows whether an exporter leaves anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from kombu import Connection, Exchange, Queue

from tests.support.servers import Broker, RabbitMQServer, RedisServer


@contextmanager
def client_of(broker: Broker) -> Iterator[redis.Redis]:
    """The test's own client on the Redis database of a broker."""
    assert isinstance(broker.server, RedisServer)
    with broker.server.client(int(broker.namespace)) as client:
        yield client


def named_clients(client: redis.Redis) -> int:
    """How many connections of exporters Redis has."""
    rows: Any = client.client_list()
    return sum(row["name"] == "celery-vitals" for row in rows)


def inventory(broker: Broker) -> dict[str, Any]:
    """Return all keys or queues, bindings and connections of a broker, without messages.

    Without the exchange of the events: receivers and senders both declare it, and the exporter
    has to declare it before it can subscribe.
    """
    return _on_redis(broker) if broker.kind == "redis" else _on_rabbitmq(broker)


def _on_redis(broker: Broker) -> dict[str, Any]:
    with client_of(broker) as client:
        keys: Any = client.keys("*")
        channels: Any = client.pubsub_channels()
        return {
            "keys": {key for key in keys if b"unacked" not in key},
            "sorted": {
                key: client.zrange(key, 0, -1) for key in keys if client.type(key) == b"zset"
            },
            "bindings": {key: client.smembers(key) for key in keys if client.type(key) == b"set"},
            "channels": set(channels),
            "patterns": client.pubsub_numpat(),
            "clients": named_clients(client),
        }


def _on_rabbitmq(broker: Broker) -> dict[str, Any]:
    server = broker.server
    assert isinstance(server, RabbitMQServer)
    connections = server.api("GET", f"vhosts/{broker.namespace}/connections")
    channels = server.api("GET", f"vhosts/{broker.namespace}/channels")
    bindings = server.api("GET", f"bindings/{broker.namespace}")
    ours = [one for one in connections if one.get("user_provided_name") == "celery-vitals"]
    others = {
        one["name"] for one in connections if one not in ours
    }  # the API lists their channels late
    return {
        "queues": {one["name"] for one in server.api("GET", f"queues/{broker.namespace}")},
        "exchanges": {one["name"] for one in server.api("GET", f"exchanges/{broker.namespace}")}
        - {"celeryev"},
        "bindings": {(one["source"], one["destination"], one["routing_key"]) for one in bindings},
        "connections": len(ours),
        "channels": sum(one["connection_details"].get("name") not in others for one in channels),
    }


@contextmanager
def broadcasts_on(broker: Broker) -> Iterator[Callable[[], int]]:
    """Counts what is sent to all workers; on Redis, whatever is published."""
    if broker.kind == "redis":
        with client_of(broker) as client:

            def published() -> int:
                stats: Any = client.info("commandstats")
                return int(stats.get("cmdstat_publish", {}).get("calls", 0))

            yield published
        return
    with Connection(broker.url) as connection, connection.channel() as channel:
        exchange = Exchange("celery.pidbox", "fanout", durable=False)
        queue = Queue("counting", exchange, durable=False, exclusive=True)(channel)
        queue.declare()
        yield lambda: int(queue.queue_declare(passive=True).message_count)
