"""A TCP proxy with faults."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from .finding import HOST, free_port

if TYPE_CHECKING:
    from typing_extensions import Self


class Fault(Enum):
    """What the proxy does to its clients, those already connected included."""

    NONE = "none"
    REFUSE = "refuse"
    """New connections are refused, the established ones are reset."""
    SILENT = "silent"
    """Connections are accepted, and nothing is ever answered."""
    BLACKHOLE = "blackhole"
    """Packets are lost: even connecting hangs."""
    SLOW = "slow"
    """Answers arrive one byte at a time."""


class Proxy:
    """Between clients and the server on `target_port`; both on 127.0.0.1.

    What a fault holds back is delivered when the fault is over, as TCP would.  `delay`: seconds
    that every piece of data is held up in each direction; `byte_interval`: seconds between two
    bytes under Fault.SLOW.
    """

    def __init__(self, target_port: int, *, delay: float = 0.0, byte_interval: float = 1.0) -> None:
        self.target_port = target_port
        self.port = free_port()
        self.delay = delay
        self.byte_interval = byte_interval
        self.accepted = 0
        """How many connections were accepted since the start."""
        self._fault = Fault.NONE
        self._closed = False
        self._changed = threading.Condition()
        self._links: set[_Link] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []

    def url(self, url: str) -> str:
        """The same URL with the proxy's port instead of the server's."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{HOST}:{self.port}"))

    @property
    def connections(self) -> int:
        """How many clients are connected, those that are held up included."""
        with self._changed:
            return len(self._links)

    @property
    def fault(self) -> Fault:
        """What it does at present; assign to change it."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        with self._changed:
            previous, self._fault = self._fault, fault
            self._changed.notify_all()
        unreachable = (Fault.REFUSE, Fault.BLACKHOLE)
        if previous in unreachable or fault in unreachable:
            self._stop_listening()
        if fault is Fault.REFUSE:
            self.cut()
        elif fault is Fault.BLACKHOLE:
            self._listen_without_accepting()
        elif self._listener is None:
            self._listen()

    def cut(self) -> None:
        """Reset every established connection; new ones are treated as before."""
        with self._changed:
            links = list(self._links)
        for link in links:
            link.reset()

    def start(self) -> Self:
        """Listen."""
        self._listen()
        return self

    def close(self) -> None:
        """End everything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._stop_listening()
        self.cut()
        for thread in self._threads:
            thread.join(10.0)

    def _listen(self) -> None:
        self._listener = listener = _listening(self.port, 128)
        self._spawn(self._accept, listener)

    def _listen_without_accepting(self) -> None:
        """A listener that never accepts, its queue full: the kernel then drops what else comes."""
        self._listener = _listening(self.port, 0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect((HOST, self.port))
            self._fillers.append(filler)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            # Closing alone would not wake up the thread that accepts.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    def _spawn(self, target: Callable[..., None], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, name="proxy", daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            link = _Link(client)
            with self._changed:
                self._links.add(link)
                self.accepted += 1
            self._spawn(self._serve, link)

    def _serve(self, link: _Link) -> None:
        """One connection, until both directions have ended."""
        try:
            if self._may_pass(link):
                server = link.connect(self.target_port)
                back = threading.Thread(
                    target=self._pump, args=(link, server, link.client), name="proxy", daemon=True
                )
                back.start()
                self._pump(link, link.client, server)
                back.join()
        except OSError:
            link.reset()
        finally:
            with self._changed:
                self._links.discard(link)
            link.close()

    def _may_pass(self, link: _Link) -> bool:
        """Wait while the fault holds data back; False when the connection is over instead."""
        with self._changed:
            held = (Fault.SILENT, Fault.BLACKHOLE)
            while self._fault in held and not self._closed and not link.was_reset:
                self._changed.wait(0.1)
        return not self._closed and not link.was_reset

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        """Pass data one way until either end closes, then close the other."""
        with suppress(OSError):
            while data := source.recv(65536):
                self._hold(self.delay)
                while data and self._may_pass(link):
                    slow = self._fault is Fault.SLOW and sink is link.client
                    piece, data = (data[:1], data[1:]) if slow else (data, b"")
                    sink.sendall(piece)
                    self._hold(self.byte_interval if slow else 0.0)
        if not link.was_reset:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def _hold(self, seconds: float) -> None:
        """Wait for so long, or until the fault changes."""
        if seconds:
            with self._changed:
                fault = self._fault
                self._changed.wait_for(lambda: self._closed or self._fault is not fault, seconds)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Link:
    """A client's connection and, once made, the proxy's own to the server."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.was_reset = False

    def connect(self, port: int) -> socket.socket:
        self.server = socket.create_connection((HOST, port), timeout=10.0)
        self.server.settimeout(None)
        return self.server

    def _ends(self) -> list[socket.socket]:
        return [one for one in (self.client, self.server) if one is not None]

    def reset(self) -> None:
        """Have close() send RST instead of FIN, and wake up the reading thread, which closes it."""
        self.was_reset = True
        for one in self._ends():
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        for one in self._ends():
            one.close()


def _listening(port: int, snapshot: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(snapshot)
    return listener
