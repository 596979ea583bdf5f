"""A listener, a message and a pair of sockets for tests of event receivers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

BODY = json.dumps(
    {"type": "task-started", "uuid": "1", "hostname": "w@h", "timestamp": 1.5}
).encode()


class RecordingListener:
    """Records what a receiver delivers and rejects."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.rejected: list[str] = []

    def deliver(self, bodies: list[bytes], arrived: float) -> None:
        assert abs(arrived - time.time()) < 5
        self.bodies += bodies

    def reject(self, reason: str) -> None:
        self.rejected.append(reason)


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a connected pair of sockets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs
