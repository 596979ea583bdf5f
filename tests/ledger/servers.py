"""Brokers that keep their messages over a restart."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.servers import BrokerServer, RabbitMQServer, RedisServer

PERSISTENT = ("--appendonly", "yes", "--appendfsync", "everysec")
SERVERS: dict[str, Callable[[], BrokerServer]] = {
    "redis": lambda: RedisServer(extra_args=PERSISTENT),
    "rabbitmq": RabbitMQServer,
}
