"""Reads the bytes of one connection into memory before they are decoded.

Brokers drop a consumer whose output piles up: Redis closes the connection.  So the socket is
emptied first and the bytes are decoded after, one block at a time, with a read before each.
"""

from __future__ import annotations

import select
import ssl
import time
from collections import deque
from typing import Any

BLOCK = 256 * 1024
"""Bytes that are read and returned at once: some hundred events."""
GATHER = 0.05
"""Seconds between two reads at a low rate: a wake-up per event would cost more than the event."""


class SocketReader:
    """Reads a connected socket, which becomes non-blocking.  For one thread."""

    def __init__(self, sock: Any, max_buffer: int, send_timeout: float) -> None:
        self._socket = sock
        self._max_buffer = max_buffer
        self._send_timeout = send_timeout
        self._blocks: deque[tuple[bytes, float]] = deque()
        self._buffered = 0
        self._last_fill = self.sent = self.received = time.monotonic()
        self._end: Exception | None = None
        sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def read(self, seconds: float) -> tuple[bytes, float]:
        """Return the next bytes and the Unix time at which they were read; wait up to `seconds`.

        After the last bytes it raises what ended the connection, EOFError in the simplest case.
        """
        if not self._blocks and self._end is None:
            if not self._poll.poll(seconds * 1000):
                return b"", 0.0
            early = self._last_fill + GATHER - time.monotonic()
            if early > 0:
                time.sleep(early)
        self._fill()
        if self._blocks:
            return self._take()
        if self._end is not None:
            raise self._end
        return b"", 0.0

    def send(self, data: bytes) -> None:
        """Send all of it; raises TimeoutError when the other side does not read it in time."""
        self._socket.settimeout(self._send_timeout)
        try:
            self._socket.sendall(data)
        finally:
            self._socket.setblocking(False)
        self.sent = time.monotonic()

    def _fill(self) -> None:
        """Read everything from the socket, up to the bound; beyond it the broker buffers."""
        self._last_fill, arrived = time.monotonic(), time.time()
        while self._buffered < self._max_buffer and self._end is None:
            try:
                block = self._socket.recv(BLOCK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self._end = error
                return
            if not block:
                self._end = EOFError("connection closed by the broker")
                return
            self._blocks.append((block, arrived))
            self._buffered += len(block)
            self.received = self._last_fill

    def _take(self) -> tuple[bytes, float]:
        """Return the next block; small ones, as TLS makes them, are joined."""
        block, arrived = self._blocks.popleft()
        size, parts = len(block), [block]
        while self._blocks and size + len(self._blocks[0][0]) <= BLOCK:
            parts.append(self._blocks.popleft()[0])
            size += len(parts[-1])
        self._buffered -= size
        return (b"".join(parts) if len(parts) > 1 else block), arrived
