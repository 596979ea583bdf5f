"""Redis."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import quote

import redis

from .base import Broker, BrokerServer, Runner
from .certificates import Certificates
from .child import Child
from .containers import Container, docker_answers
from .finding import HOST, MissingProgramError, find_redis, free_port
from .process_reaper import process_reaper

DATABASES = 4096


class RedisServer(BrokerServer):
    """redis-server without persistence: a restart empties it.  Every namespace is a database of its
    own.

    With `tls` it wants TLS, and of its clients a certificate.
    """

    kind = "redis"

    def __init__(
        self,
        password: str = "",
        extra_args: Sequence[str] = (),
        port: int = 0,
        tls: Certificates | None = None,
    ) -> None:
        self.password = password
        self.tls = tls
        self._databases = itertools.count(1)
        port = port or free_port()
        options = ["--save", "", "--appendonly", "no", "--databases", str(DATABASES), *extra_args]
        if password:
            options += ["--requirepass", password]
        super().__init__("redis", port, self._runner(port, options))

    def _runner(self, port: int, options: list[str]) -> Runner:
        program = find_redis()
        if program is not None:
            folder = process_reaper().folder("redis")
            where = [*self._listening(port), "--bind", HOST, "--dir", str(folder)]
            return Child("redis", [str(program), *where, *options], os.environ, folder)
        if docker_answers():
            files = str(self.tls.folder) if self.tls else ""
            mounts = {files: files} if files else {}
            return Container(
                "redis:7",
                ["redis-server", *self._listening(6379), *options],
                {6379: port},
                None,
                mounts,
            )
        raise MissingProgramError("redis-server", "redis-server")

    def _listening(self, port: int) -> list[str]:
        if self.tls is None:
            return ["--port", str(port)]
        files = {"cert": self.tls.certificate, "key": self.tls.key, "ca-cert": self.tls.authority}
        given = [word for name, path in files.items() for word in (f"--tls-{name}-file", str(path))]
        return ["--port", "0", "--tls-port", str(port), *given]

    @property
    def url(self) -> str:
        """Database 0."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """One database."""
        credentials = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis{'s' if self.tls else ''}://{credentials}{HOST}:{self.port}/{database}"

    def ready(self) -> bool:
        """PING."""
        with self.client() as client:
            return bool(client.ping())

    def client(self, database: int = 0) -> redis.Redis:
        """A connection for the test itself; close it."""
        tls = {"ssl": True, **self.tls.redis_options()} if self.tls else {}
        options = {"socket_timeout": 5.0, "protocol": 2, **tls}
        return redis.Redis(HOST, self.port, database, self.password or None, **options)

    @contextmanager
    def namespace(self) -> Iterator[Broker]:
        """A database that was never used, emptied afterwards."""
        database = next(self._databases) % DATABASES
        url = self.url_of(database)
        yield Broker(self.kind, url, url, self, namespace=str(database))
        with suppress(redis.RedisError), self.client(database) as client:
            client.flushdb()
