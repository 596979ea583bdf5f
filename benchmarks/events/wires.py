"""Publish encoded events without the per-message overhead of a client library."""

from __future__ import annotations

import socket
from base64 import b64encode
from struct import pack
from typing import Any, Protocol
from urllib.parse import urlsplit

from kombu import Connection

from benchmarks.events.capture import Envelope

_TIMEOUT = 60.0


class SocketReader(Protocol):
    """A connection to a broker."""

    def encode(self, envelope: Envelope, body: bytes) -> bytes:
        """Return the bytes of a message on the wire."""

    def send(self, data: bytes) -> None:
        """Send any number of messages."""

    def finish(self) -> None:
        """Wait until the broker has received all messages, and disconnect."""


def connect(kind: str, url: str) -> SocketReader:
    """Connect to the broker at a URL."""
    return RedisWire(url) if kind == "redis" else AmqpWire(url)


class RedisWire:
    """PUBLISH without replies."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port or 6379), _TIMEOUT)
        self._socket.sendall(b"CLIENT REPLY OFF\r\n")
        self._commands: dict[str, bytes] = {}

    def encode(self, envelope: Envelope, body: bytes) -> bytes:
        """See `Wire`."""
        command = self._commands.get(envelope.address)
        if command is None:
            topic = envelope.address.encode()
            command = self._commands[envelope.address] = (
                b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(topic), topic)
            )
        text = b64encode(body)
        size = len(envelope.head) + len(text) + len(envelope.tail)
        return b"%b%d\r\n%b%b%b\r\n" % (command, size, envelope.head, text, envelope.tail)

    def send(self, data: bytes) -> None:
        """See `Wire`."""
        self._socket.sendall(data)

    def finish(self) -> None:
        """See `Wire`."""
        self._socket.sendall(b"CLIENT REPLY ON\r\n")
        self._socket.recv(100)
        self._socket.close()


class AmqpWire:
    """basic.publish without confirms."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(url, connect_timeout=_TIMEOUT)
        amqp: Any = self._connection.connection
        self._channel = amqp.channel()
        self._socket = amqp.transport.sock
        self._socket.settimeout(_TIMEOUT)
        self._methods: dict[str, bytes] = {}

    def encode(self, envelope: Envelope, body: bytes) -> bytes:
        """See `Wire`."""
        method = self._methods.get(envelope.address)
        if method is None:
            content = (
                pack(">HHH", 60, 40, 0) + _short("celeryev") + _short(envelope.address) + b"\0"
            )
            method = self._methods[envelope.address] = self._frame(1, content)
        header = pack(">HHQ", 60, 0, len(body)) + envelope.head
        return method + self._frame(2, header) + self._frame(3, body)

    def _frame(self, kind: int, content: bytes) -> bytes:
        return pack(">BHI", kind, self._channel.channel_id, len(content)) + content + b"\xce"

    def send(self, data: bytes) -> None:
        """See `Wire`."""
        self._socket.sendall(data)

    def finish(self) -> None:
        """See `Wire`: a reply on the same channel follows all earlier messages."""
        self._channel.exchange_declare("celeryev", "topic", passive=True)
        self._connection.release()


def _short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()
