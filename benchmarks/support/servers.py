"""Redis and RabbitMQ, as installed on this machine; each benchmark has a namespace of its own.

The servers of the tests can also be frozen, restarted, encrypted and run in containers, for which
the benchmarks have no use: they must not depend on the tests.
"""

from __future__ import annotations

import itertools
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
import urllib3
from kombu import Connection, Exchange, Queue

from benchmarks.support.processes import HOST, Process, environment, free_port

_USER, _PASSWORD = "bench", "bench"
_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""The script itself: the wrapper on PATH changes the user and the folders."""


@dataclass(frozen=True)
class Broker:
    """A database of Redis, or a virtual host of RabbitMQ."""

    kind: str
    """redis or rabbitmq."""
    url: str
    backend_url: str
    database: int = 0
    """On Redis."""
    management_url: str = ""
    """On RabbitMQ, with credentials."""

    def client(self) -> redis.Redis:
        """Return a client of the Redis database."""
        return redis.Redis.from_url(self.url)


class BrokerServer(Process, ABC):
    """A broker that serves when started."""

    @abstractmethod
    def namespace(self) -> AbstractContextManager[Broker]:
        """Yield an unused namespace."""


class RedisServer(BrokerServer):
    """A Redis without persistence."""

    def __init__(self) -> None:
        self._port = free_port()
        self._databases = itertools.count(1)
        options = ["--bind", HOST, "--port", str(self._port), "--save", "", "--appendonly", "no"]
        super().__init__("redis", [_program("redis-server"), *options], environment())

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        self.wait_ready(redis.Redis(HOST, self._port).ping)

    @contextmanager
    def namespace(self) -> Iterator[Broker]:
        """Yield an unused database."""
        database = next(self._databases)
        url = f"redis://{HOST}:{self._port}/{database}"
        yield Broker("redis", url, url, database)


class RabbitMQServer(BrokerServer):
    """A RabbitMQ node with its management plugin."""

    def __init__(self) -> None:
        self._port, self._api_port, self._distribution = free_port(), free_port(), free_port()
        self._names = itertools.count(1)
        program = _RABBITMQ if Path(_RABBITMQ).exists() else _program("rabbitmq-server")
        super().__init__("rabbitmq", [program], {})
        self.env = self._environment()

    def _environment(self) -> dict[str, str]:
        folder, node = self.folder, f"bench{self._port}@localhost"
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {HOST}:{self._port}\n"
            f"management.tcp.ip = {HOST}\n"
            f"management.tcp.port = {self._api_port}\n"
            f"default_user = {_USER}\n"
            f"default_pass = {_PASSWORD}\n"
            "disk_free_limit.absolute = 50MB\n"
        )
        (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        return environment() | {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": node,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # With a fixed port the node does not start epmd, which would keep running.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-sname {node} -kernel inet_dist_use_interface {{127,0,0,1}}"
                f" -start_epmd false -erl_epmd_port {self._distribution} +S 2:2"
                # Milliseconds between two updates of the management API.
                " -rabbit collect_statistics_interval 1000"
            ),
            # With this the script execs the Erlang VM, so that a signal reaches the VM.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def start(self) -> None:
        """Start it and wait until it accepts AMQP."""
        super().start()
        self.wait_ready(
            lambda: "amqp" in {one["protocol"] for one in self._api("GET", "overview")["listeners"]}
        )

    @contextmanager
    def namespace(self) -> Iterator[Broker]:
        """Yield a new virtual host."""
        name = f"bench-{next(self._names)}"
        self._api("PUT", f"vhosts/{name}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._api("PUT", f"permissions/{name}/{_USER}", everything)
        credentials = f"{_USER}:{quote(_PASSWORD)}@{HOST}"
        url = f"amqp://{credentials}:{self._port}/{name}"
        management = f"http://{credentials}:{self._api_port}"
        yield Broker("rabbitmq", url, "rpc://", management_url=management)

    def _api(self, method: str, path: str, body: Any = None) -> Any:
        headers = urllib3.make_headers(basic_auth=f"{_USER}:{_PASSWORD}")
        url = f"http://{HOST}:{self._api_port}/api/{path}"
        data = None if body is None else json.dumps(body)
        answer = urllib3.request(method, url, body=data, headers=headers, retries=False)
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: status {answer.status}")
        return json.loads(answer.data) if answer.data else None


SERVERS: Mapping[str, Callable[[], BrokerServer]] = {
    "redis": RedisServer,
    "rabbitmq": RabbitMQServer,
}
TITLES = {"redis": "Redis", "rabbitmq": "RabbitMQ"}


@contextmanager
def broadcasts_on(broker: Broker) -> Iterator[Callable[[], int]]:
    """Yield a function that counts the messages to all workers; on Redis, all PUBLISH commands."""
    if broker.kind == "redis":
        with broker.client() as client:

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


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed")
    return path
