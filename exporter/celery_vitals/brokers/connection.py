"""One open connection to a broker, and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kombu import Connection

from celery_vitals.brokers.writability import PublisherBlock

CLIENT_NAME = "celery-vitals"
"""The name that the exporter gives its connections."""


class BrokerConnection:
    """One open connection.  For one thread at a time."""

    def __init__(self, kombu: Connection, block: PublisherBlock) -> None:
        self.kombu = kombu
        self.channel = kombu.default_channel
        self.block = block

    @property
    def sockets(self) -> int:
        """How many connections of the operating system it consists of."""
        return 1

    def round_trip(self) -> None:
        """Send a request that only the broker can answer.  Raises the library's error."""

    def raise_if_blocked(self) -> None:
        """Raise BlockedError while the broker accepts no messages."""

    def close(self) -> None:
        """Close in good order."""
        self.kombu.release()

    def abandon(self) -> None:
        """Close without waiting for the broker, which may hang."""
        self.discard(self.kombu)

    @staticmethod
    def discard(kombu: Connection) -> None:
        """Close a connection of kombu without waiting for the broker."""
        kombu.release()


ConnectionT = TypeVar("ConnectionT", bound=BrokerConnection)


@dataclass(frozen=True)
class ConnectRequest:
    """How to open a connection."""

    tls: Any = field(repr=False)
    """TLS options as kombu takes them."""
    options: Mapping[str, Any] = field(repr=False)
    """The application's transport options."""
    login_method: str | None
    connect_timeout: float
    """Seconds."""
    io_timeout: float
    """Seconds for one read or write."""
    listening: bool
    """Whether the connection mostly receives, so that a silent broker has to be detected."""
    named: bool
    """Whether to send CLIENT_NAME."""
    block: PublisherBlock = field(default_factory=PublisherBlock)
    """Changes while the broker accepts no messages."""
