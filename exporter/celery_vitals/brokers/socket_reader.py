"""The bytes of one connection, taken off its socket before they are needed.

Brokers give up on a reader whose bytes pile up at their side: Redis closes the connection.  So all that is there is
read into memory first, and decoded after, one block at a time, with a look at the socket before each.
"""

from __future__ import annotations

import select
import ssl
import time
from collections import deque
from typing import Any

BLOCK = 256 * 1024
"""Bytes that are read, and handed on for decoding, at once: some hundred events."""
GATHER = 0.05
"""Seconds between two reads while little arrives: waking up for each event would cost more than the event."""


class SocketReader:
    """Reads a connected socket, which is non-blocking from here on.  For one thread."""

    def __init__(self, sock: Any, max_buffer: int, send_timeout: float) -> None:
        self._socket = sock
        self._max_buffer = max_buffer
        self._send_timeout = send_timeout
        self._blocks: deque[tuple[bytes, float]] = deque()
        self._held = 0
        self._filled = self.sent = self.received = time.monotonic()
        self._end: Exception | None = None
        sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def read(self, seconds: float) -> tuple[bytes, float]:
        """The next bytes and the Unix time at which they were read; no bytes when none came within `seconds`.

        Raises what ended the connection, EOFError in the simplest case, after the last bytes have been taken.
        """
        if not self._blocks and self._end is None:
            if not self._poll.poll(seconds * 1000):
                return b"", 0.0
            early = self._filled + GATHER - time.monotonic()
            if early > 0:
                time.sleep(early)
        self._fill()
        if self._blocks:
            return self._take()
        if self._end is not None:
            raise self._end
        return b"", 0.0

    def send(self, data: bytes) -> None:
        """Send all of it; TimeoutError when the other side does not take it in time."""
        self._socket.settimeout(self._send_timeout)
        try:
            self._socket.sendall(data)
        finally:
            self._socket.setblocking(False)
        self.sent = time.monotonic()

    def _fill(self) -> None:
        """Take everything off the socket, up to the bound.  Beyond it the broker has to decide."""
        self._filled, arrived = time.monotonic(), time.time()
        while self._held < self._max_buffer and self._end is None:
            try:
                block = self._socket.recv(BLOCK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self._end = error
                return
            if not block:
                self._end = EOFError("the connection was closed by the other side")
                return
            self._blocks.append((block, arrived))
            self._held += len(block)
            self.received = self._filled

    def _take(self) -> tuple[bytes, float]:
        """The next block; small ones, as TLS makes them, together."""
        block, arrived = self._blocks.popleft()
        size, parts = len(block), [block]
        while self._blocks and size + len(self._blocks[0][0]) <= BLOCK:
            parts.append(self._blocks.popleft()[0])
            size += len(parts[-1])
        self._held -= size
        return (b"".join(parts) if len(parts) > 1 else block), arrived
