"""Redis."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import quote

import redis

from .base import Broker, BrokerServer, Runner
from .child import Child
from .containers import Container, docker_answers
from .finding import HOST, MissingProgramError, find_program, free_port, redis_from_wheel
from .warden import warden

DATABASES = 4096


class RedisServer(BrokerServer):
    """redis-server without persistence: a restart empties it.  Every namespace is a database of its own."""

    kind = "redis"

    def __init__(self, password: str = "", extra_args: Sequence[str] = (), port: int = 0) -> None:
        self.password = password
        self._databases = itertools.count(1)
        port = port or free_port()
        options = ["--save", "", "--appendonly", "no", "--databases", str(DATABASES), *extra_args]
        if password:
            options += ["--requirepass", password]
        super().__init__("redis", port, self._runner(port, options))

    def _runner(self, port: int, options: list[str]) -> Runner:
        program = find_program("redis-server") or redis_from_wheel()
        if program is not None:
            folder = warden().folder("redis")
            where = ["--port", str(port), "--bind", HOST, "--dir", str(folder)]
            return Child("redis", [str(program), *where, *options], os.environ, folder)
        if docker_answers():
            return Container("redis:7", ["redis-server", *options], {6379: port})
        raise MissingProgramError("redis-server", "redis-server")

    @property
    def url(self) -> str:
        """Database 0."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """One database."""
        credentials = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{credentials}{HOST}:{self.port}/{database}"

    def ready(self) -> bool:
        """PING."""
        with self.client() as client:
            return bool(client.ping())

    def client(self, database: int = 0) -> redis.Redis:
        """A connection for the test itself; close it."""
        return redis.Redis(HOST, self.port, database, self.password or None, socket_timeout=5.0)

    @contextmanager
    def namespace(self) -> Iterator[Broker]:
        """A database that was never used, emptied afterwards."""
        database = next(self._databases) % DATABASES
        url = self.url_of(database)
        yield Broker(self.kind, url, url, self, space=str(database))
        with suppress(redis.RedisError), self.client(database) as client:
            client.flushdb()
