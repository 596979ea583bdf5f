"""Redis with a replica, and three Sentinels that watch both."""

from __future__ import annotations

import os
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

import redis

from .base import Broker, Server
from .child import Child
from .finding import HOST, MissingProgramError, find_redis, free_port
from .process_reaper import process_reaper
from .redis_server import RedisServer
from .waiting import wait_for

if TYPE_CHECKING:
    from typing_extensions import Self

MASTER = "vitals-master"
SENTINELS = 3


class Sentinel(Server):
    """One Sentinel that watches a master."""

    def __init__(self, master: RedisServer) -> None:
        port = free_port()
        program = find_redis()
        if program is None:
            raise MissingProgramError("redis-server", "redis-server")
        folder = process_reaper().folder("sentinel")
        (folder / "sentinel.conf").write_text(
            f"port {port}\nbind {HOST}\ndir {folder}\n"
            f"sentinel monitor {MASTER} {HOST} {master.port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 1000\n"
            f"sentinel failover-timeout {MASTER} 5000\n"
        )
        argv = [str(program), str(folder / "sentinel.conf"), "--sentinel"]
        super().__init__("sentinel", port, Child("sentinel", argv, os.environ, folder))

    @property
    def url(self) -> str:
        """For `broker_url` and `result_backend`."""
        return f"sentinel://{HOST}:{self.port}"

    def watched(self) -> dict[str, Any]:
        """Return its view of the master."""
        with redis.Redis(HOST, self.port, socket_timeout=5.0) as client:
            return dict(client.sentinel_master(MASTER))

    def ready(self) -> bool:
        """It watches the master, knows the replica and all other Sentinels, and so can vote."""
        seen = self.watched()
        return bool(seen["num-slaves"] == 1 and seen["num-other-sentinels"] == SENTINELS - 1)


class Sentinels:
    """All of them.  As a context manager they are started, and leave nothing behind."""

    def __init__(self) -> None:
        self.master = RedisServer()
        self.replica = RedisServer(extra_args=["--replicaof", HOST, str(self.master.port)])
        self.sentinels = [Sentinel(self.master) for _ in range(SENTINELS)]
        self._stack = ExitStack()

    def broker(self, database: int = 0) -> Broker:
        """The whole as a broker and as a result backend."""
        url = ";".join(f"{one.url}/{database}" for one in self.sentinels)
        return Broker("redis", url, url, self.master, namespace=str(database))

    @property
    def options(self) -> dict[str, Any]:
        """Transport options of broker and result backend."""
        return {"master_name": MASTER}

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self.master)
            self._stack.enter_context(self.replica)
            for one in self.sentinels:
                self._stack.callback(one.close)
                one.runner.start()
            for one in self.sentinels:
                wait_for(
                    one.ready,
                    30.0,
                    what="the Sentinels know each other",
                    ignoring=(redis.RedisError, KeyError),
                )
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
