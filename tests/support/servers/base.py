"""What every server of the tests can do, wherever it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from .waiting import wait_for

if TYPE_CHECKING:
    from typing_extensions import Self


class Runner(Protocol):
    """How a server runs: as a child process or in a container."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    @property
    def log(self) -> str:
        """What it has written so far."""

    def start(self) -> None:
        """Start it, or start it again on its old data."""

    def stop(self) -> None:
        """Ask it to end and wait until it has."""

    def kill(self) -> None:
        """SIGKILL."""

    def freeze(self) -> None:
        """Stop all of it in its tracks."""

    def thaw(self) -> None:
        """Let it run on."""

    def remove(self) -> None:
        """SIGKILL, and remove its files."""


class Server(ABC):
    """A real server on 127.0.0.1.

    As a context manager it is started, and leaves nothing behind.
    """

    name: str
    port: int
    start_timeout = 30.0

    def __init__(self, name: str, port: int, runner: Runner) -> None:
        self.name = name
        self.port = port
        self.runner = runner

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it, with its credentials."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it serves; exceptions mean that it does not."""

    @property
    def alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self.runner.alive

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self.runner.log

    def start(self) -> Self:
        """Start it and wait until it serves; RuntimeError with its output when it does not."""
        self.runner.start()
        try:
            wait_for(
                self._ready_or_dead,
                self.start_timeout,
                what=f"{self.name} ready",
                ignoring=(Exception,),
            )
        except AssertionError as exc:
            raise RuntimeError(f"{exc}\n{self.log}") from exc
        if not self.alive:
            raise RuntimeError(f"{self.name} ended while it started:\n{self.log}")
        return self

    def _ready_or_dead(self) -> bool:
        return not self.alive or self.ready()

    def stop(self) -> None:
        """Ask it to end and wait until it has; start() starts it again on the same port."""
        self.runner.stop()

    def kill(self) -> None:
        """End it by SIGKILL; start() starts it again on the same port."""
        self.runner.kill()

    def restart(self) -> None:
        """Stop it and start it on the same port, with whatever data it keeps on disk."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop every process of it in its tracks; the kernel still accepts connections for it."""
        self.runner.freeze()

    def thaw(self) -> None:
        """Let it run on."""
        self.runner.thaw()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Frozen inside the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def heal(self) -> None:
        """Whatever a test did to it, have it serve again."""
        if self.alive:
            self.thaw()
        else:
            self.start()

    def close(self) -> None:
        """End it at once and remove its files."""
        self.runner.remove()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Broker:
    """A namespace on a broker that one test has for itself."""

    kind: str
    """redis or rabbitmq."""
    url: str
    """For `broker_url`."""
    backend_url: str
    """For `result_backend`: the same Redis database, or rpc:// on RabbitMQ."""
    server: BrokerServer
    management_url: str = ""
    """RabbitMQ's HTTP API with credentials; empty on Redis."""
    namespace: str = ""
    """The number of the database or the name of the virtual host."""


class BrokerServer(Server):
    """A server that Celery takes as its broker."""

    kind: str

    @abstractmethod
    def namespace(self) -> AbstractContextManager[Broker]:
        """Yield a new namespace, and remove it afterwards."""
