"""AMQP 0-9-1: a parser of the frames of a connection, and the few frames that are sent."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, pack
from struct import error as StructError  # noqa: N812 - it is an exception

from amqp.exceptions import FrameSyntaxError, UnexpectedFrame

from celery_vitals.brokers.serialization import (
    JSON,
    MAX_MESSAGE,
    UTF8,
    RejectedMessage,
    to_json,
)

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = 0xCE
_FRAME = Struct(">BHI").unpack_from
_LONG = Struct(">Q").unpack_from
_TAG = Struct(">QB").unpack_from
_OVERHEAD = 8
"""Bytes of a frame besides its content: seven before it, one after."""
_DELIVER = pack(">HH", 60, 60)
# How the properties of a JSON message begin: the usual content type and encoding.
_JSON_UTF8 = b"\x10application/json\x05utf-8"
_HAS_TYPE, _HAS_ENCODING = 0x80, 0x40

Method = tuple[int, int]
CANCEL = (60, 30)
CHANNEL_CLOSE, CONNECTION_CLOSE, CONNECTION_CLOSE_OK = (20, 40), (10, 50), (10, 51)
BLOCKED, UNBLOCKED = (10, 60), (10, 61)


class FrameParser:
    """Assembles the bodies of JSON messages from their frames, for one channel."""

    def __init__(
        self,
        frame_max: int,
        on_method: Callable[[Method, bytes], None],
        reject: Callable[[str], None],
        was_processed: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """`was_processed`: whether a body that is delivered again is left out."""
        self.tag = 0
        """The delivery tag of the last complete message."""
        self._frame_max = frame_max
        self._on_method = on_method
        self._reject = reject
        self._was_processed = was_processed
        self._blocks: list[bytes] = []
        self._size = 0
        self._need = _OVERHEAD
        self._next_tag = 0
        self._redelivered = 0
        self._missing = 0
        self._parts: list[bytes] | None = None
        self._content: tuple[str, str] | None = None
        """Type and encoding of the present message, unless it is JSON in UTF-8."""

    def parse(self, block: bytes) -> list[bytes]:
        """Return the bodies that end in this block.

        Raises an AMQP error for bytes that are no frame, and what `on_method` raises.
        """
        self._blocks.append(block)
        self._size += len(block)
        if self._size < self._need:
            return []
        data = b"".join(self._blocks) if len(self._blocks) > 1 else block
        bodies: list[bytes] = []
        try:
            at = self._take_frames(data, bodies)
        except (IndexError, StructError) as error:
            raise FrameSyntaxError(f"frame too short: {error}") from error
        self._blocks, self._size = ([data[at:]], len(data) - at) if at < len(data) else ([], 0)
        return bodies

    def _take_frames(self, data: bytes, bodies: list[bytes]) -> int:
        """Take all complete frames; return where the rest begins."""
        at, size = 0, len(data)
        self._need = _OVERHEAD
        while size - at >= _OVERHEAD:
            kind, _, length = _FRAME(data, at)
            start = at + 7
            end = start + length
            if end >= size:
                self._need = length + _OVERHEAD
                if length > self._frame_max:
                    raise FrameSyntaxError(f"frame too large: {length} bytes")
                break
            if data[end] != END:
                raise UnexpectedFrame(f"frame ends in {data[end]:#x}")
            if kind == BODY:
                self._add_body(data[start:end], bodies)
            elif kind == METHOD:
                if data.startswith(_DELIVER, start):
                    tag_at = start + 5 + data[start + 4]
                    self._next_tag, self._redelivered = _TAG(data, tag_at)
                else:
                    self._on_method((data[start + 1], data[start + 3]), data[start + 4 : end])
            elif kind == HEADER:
                self._start_message(data[start:end], bodies)
            at = end + 1
        return at

    def _start_message(self, header: bytes, bodies: list[bytes]) -> None:
        """Take the header of a message: the length of its body, and whether it is accepted."""
        self._missing = _LONG(header, 4)[0]
        self._parts = []
        self._content = None
        if not (header[12] >= _HAS_TYPE + _HAS_ENCODING and header.startswith(_JSON_UTF8, 14)):
            content_type, encoding = _type_and_encoding(header)
            if content_type != JSON or encoding not in UTF8:
                self._content = content_type, encoding
        if self._missing > MAX_MESSAGE:
            self._reject("too_large")
            self._parts = None
        if not self._missing:
            self._add_body(b"", bodies)

    def _add_body(self, part: bytes, bodies: list[bytes]) -> None:
        """Take a piece of a body, which usually is all of it."""
        self._missing -= len(part)
        parts = self._parts
        if self._missing > 0:
            if parts is not None:
                parts.append(part)
            return
        self.tag = self._next_tag
        if parts is not None:
            body = b"".join([*parts, part]) if parts else part
            if self._content is not None:
                self._add_foreign(body, *self._content, bodies)
            elif not (self._redelivered and self._was_processed(body)):
                bodies.append(body)

    def _add_foreign(
        self, body: bytes, content_type: str, encoding: str, bodies: list[bytes]
    ) -> None:
        """Take the body of a message that is not JSON in UTF-8."""
        try:
            body = to_json(body, content_type, encoding)
        except RejectedMessage as rejected:
            self._reject(str(rejected))
            return
        if not (self._redelivered and self._was_processed(body)):
            bodies.append(body)


def _type_and_encoding(header: bytes) -> tuple[str, str]:
    """Return content type and encoding of a message by its properties; empty where it has none."""
    flags, at, values = header[12], 14, ["", ""]
    for index, flag in enumerate((_HAS_TYPE, _HAS_ENCODING)):
        if flags & flag:
            values[index] = header[at + 1 : at + 1 + header[at]].decode("latin-1")
            at += 1 + header[at]
    return values[0], values[1]


def short(text: str) -> bytes:
    """Encode a short string."""
    raw = text.encode()
    return bytes([len(raw)]) + raw


def read_short(data: bytes, at: int) -> str:
    """Decode the short string at an offset."""
    return data[at + 1 : at + 1 + data[at]].decode("utf-8", "replace")


def frame(kind: int, channel: int, content: bytes) -> bytes:
    """Encode a frame."""
    return pack(">BHI", kind, channel, len(content)) + content + bytes([END])


def heartbeat() -> bytes:
    """Encode a heartbeat."""
    return frame(HEARTBEAT, 0, b"")


def ack(channel: int, tag: int) -> bytes:
    """Encode an acknowledgement of everything delivered up to a tag."""
    return frame(METHOD, channel, pack(">HHQB", 60, 80, tag, 1))


def publish(
    channel: int,
    exchange: str,
    routing_key: str,
    body: bytes,
    content_type: str = JSON,
    encoding: str = "utf-8",
) -> bytes:
    """Encode a transient message; `body` has to fit into one frame."""
    method = pack(">HHH", 60, 40, 0) + short(exchange) + short(routing_key) + b"\0"
    # The flags of content type, content encoding and delivery mode.
    header = pack(">HHQH", 60, 0, len(body), 0xD000) + short(content_type) + short(encoding) + b"\1"
    return (
        frame(METHOD, channel, method) + frame(HEADER, channel, header) + frame(BODY, channel, body)
    )


def delete_queue(channel: int, name: str) -> bytes:
    """Encode the deletion of a queue, without an answer."""
    return frame(METHOD, channel, pack(">HHH", 50, 40, 0) + short(name) + b"\4")


def delete_unused_exchange(channel: int, name: str) -> bytes:
    """Encode the deletion of an exchange unless a queue is bound to it, without an answer."""
    return frame(METHOD, channel, pack(">HHH", 40, 20, 0) + short(name) + b"\3")


def connection_close() -> bytes:
    """Encode the closing of the connection."""
    return frame(METHOD, 0, pack(">HHHBHH", *CONNECTION_CLOSE, 200, 0, 0, 0))


def connection_close_ok() -> bytes:
    """Encode the answer to the broker closing the connection."""
    return frame(METHOD, 0, pack(">HH", *CONNECTION_CLOSE_OK))
