"""The bytes of a socket, and AMQP frames in them: whole, in pieces, too large, foreign, broken."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from struct import pack

import amqp.exceptions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.brokers.rabbitmq import frames
from celery_vitals.brokers.serialization import MAX_MESSAGE
from celery_vitals.brokers.socket_reader import SocketReader
from celery_vitals.errors import Reason
from celery_vitals.reasons import reason_of
from tests.support.sockets import BODY, pair


def fill(sock: socket.socket) -> int:
    """Send until the kernel buffers no more; return how much that was."""
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += sock.send(b"x" * 4096)
    return sent


class TestSocketReader:
    def test_returns_what_was_sent_and_then_raises_why_it_ended(self) -> None:
        with pair() as (ours, theirs):
            reader = SocketReader(ours, 10**6, 1.0)
            theirs.sendall(b"hello")
            assert reader.read(1)[0] == b"hello"
            assert reader.read(0.01)[0] == b""
            theirs.sendall(b"bye")
            theirs.close()
            assert reader.read(1)[0] == b"bye"
            with pytest.raises(EOFError):
                reader.read(1)

    def test_empties_the_socket_before_returning_a_block(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("celery_vitals.brokers.socket_reader.BLOCK", 1024)
        with pair() as (ours, theirs):
            theirs.setblocking(False)
            reader = SocketReader(ours, 10**8, 1.0)
            for _ in range(5):
                assert fill(theirs) > 20 * 1024
                assert len(reader.read(1)[0]) == 1024

    def test_reads_no_more_than_its_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celery_vitals.brokers.socket_reader.BLOCK", 1024)
        with pair() as (ours, theirs):
            theirs.setblocking(False)
            reader = SocketReader(ours, 10 * 1024, 1.0)
            for _ in range(5):
                fill(theirs)
                assert len(reader.read(1)[0]) == 1024
                assert reader._buffered <= 10 * 1024

    def test_a_wait_ends_in_time(self) -> None:
        with pair() as (ours, _):
            started = time.monotonic()
            assert SocketReader(ours, 10**6, 1.0).read(0.1)[0] == b""
            assert 0.09 < time.monotonic() - started < 1

    def test_sending_to_a_peer_that_does_not_read_times_out(self) -> None:
        with pair() as (ours, _), pytest.raises(TimeoutError):
            SocketReader(ours, 10**6, 0.1).send(b"x" * 10**8)


def delivery(
    body: bytes,
    tag: int = 1,
    kind: str = "application/json",
    encoding: str = "utf-8",
    piece: int = 0,
) -> bytes:
    """A message as RabbitMQ delivers it; `piece`: the most bytes of it in one frame."""
    method = pack(">HH", 60, 60) + frames.short("amq.ctag-x") + pack(">QB", tag, 0)
    method += frames.short("celeryev") + frames.short("task.multi")
    flags, texts = (0x8000 if kind else 0) | (0x4000 if encoding else 0) | 0x1000, [kind, encoding]
    header = (
        pack(">HHQH", 60, 0, len(body), flags)
        + b"".join(frames.short(text) for text in texts if text)
        + b"\1"
    )
    size = piece or max(1, len(body))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(
        [frames.frame(frames.METHOD, 1, method), frames.frame(frames.HEADER, 1, header)]
        + [frames.frame(frames.BODY, 1, piece) for piece in pieces]
    )


class Parsing:
    """A parser, and what it reports besides bodies."""

    def __init__(self, frame_max: int = 131072) -> None:
        self.methods: list[tuple[frames.Method, bytes]] = []
        self.rejected: list[str] = []
        self.parser = frames.FrameParser(
            frame_max, lambda *method: self.methods.append(method), self.rejected.append
        )

    def all(self, *blocks: bytes) -> list[bytes]:
        return [body for block in blocks for body in self.parser.parse(block)]


MIXED = b"".join(
    [
        delivery(BODY, 1),
        frames.heartbeat(),
        delivery(b"[" + b"1," * 50 + b"1]", 2, piece=30),
        frames.frame(frames.METHOD, 0, pack(">HH", *frames.UNBLOCKED)),
        delivery(b"\x80\x04]\x94}\x94a.", 3, kind="application/x-python-serialize", encoding=""),
        delivery(b"cos\nsystem\n.", 3, kind="application/x-python-serialize", encoding="binary"),
        delivery(b"\x81\xa1a\x01", 3, kind="application/x-msgpack", encoding="binary"),
        delivery(b"{}", 4, encoding=""),
    ]
)


class TestFrames:
    def test_frames_are_assembled_wherever_they_are_split(self) -> None:
        whole = Parsing()
        bodies = whole.all(MIXED)
        assert bodies == [BODY, b"[" + b"1," * 50 + b"1]", b"[{}]", b'[{"a": 1}]', b"{}"]
        assert whole.parser.tag == 4
        for at in range(len(MIXED)):
            split = Parsing()
            assert split.all(MIXED[:at], MIXED[at:]) == bodies
            assert (
                (split.methods, split.rejected)
                == (whole.methods, whole.rejected)
                == (
                    [(frames.UNBLOCKED, b"")],
                    ["pickled_objects"],
                )
            )

    def test_frames_arrive_byte_by_byte_over_a_socket(self) -> None:
        with pair() as (ours, theirs):
            reader, parsing, bodies = SocketReader(ours, 10**6, 1.0), Parsing(), []
            for byte in MIXED[:60]:
                theirs.sendall(bytes([byte]))
                bodies += parsing.all(reader.read(1)[0])
            theirs.sendall(MIXED[60:])
            theirs.close()
            with suppress(EOFError):
                while True:
                    bodies += parsing.all(reader.read(1)[0])
            assert len(bodies) == 5

    def test_delivery_tag_is_set_when_the_message_is_complete(self) -> None:
        parsing, message = Parsing(), delivery(BODY, 7)
        parsing.all(message[:-1])
        assert parsing.parser.tag == 0
        parsing.all(message[-1:])
        assert parsing.parser.tag == 7

    def test_a_body_of_megabytes_in_many_frames(self) -> None:
        body = json.dumps(["x" * 5_000_000]).encode()
        message = delivery(body, piece=131064)
        parsing = Parsing()
        assert parsing.all(*(message[at : at + 16384] for at in range(0, len(message), 16384))) == [
            body
        ]

    def test_a_message_that_is_too_large_is_not_buffered(self) -> None:
        parsing = Parsing()
        message = delivery(b"[" + b" " * MAX_MESSAGE + b"]", piece=131064)
        for at in range(0, len(message), 65536):
            assert parsing.all(message[at : at + 65536]) == []
            assert sum(map(len, parsing.parser._blocks)) < 300_000
        assert parsing.rejected == ["too_large"]
        assert parsing.all(delivery(BODY)) == [BODY]

    @pytest.mark.parametrize(
        "noise", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\1\0\1\xff\xff\xff\xff" + b"x" * 9]
    )
    def test_bytes_that_are_no_frame_are_an_error(self, noise: bytes) -> None:
        with pytest.raises(amqp.exceptions.AMQPError) as caught:
            Parsing().all(noise * 3)
        assert reason_of(caught.value) is Reason.PROTOCOL

    @given(st.binary(max_size=200), st.integers(0, len(MIXED)))
    def test_noise_ends_in_bodies_or_an_error_of_amqp(self, noise: bytes, at: int) -> None:
        parsing = Parsing(1000)
        try:
            parsing.all(MIXED[:at] + noise, MIXED[at:])
        except amqp.exceptions.AMQPError:
            return

    @given(
        st.binary(max_size=60), st.sampled_from([frames.METHOD, frames.HEADER, frames.BODY, 8, 9])
    )
    def test_any_content_of_a_frame_ends_in_bodies_or_an_error_of_amqp(
        self, content: bytes, kind: int
    ) -> None:
        parsing = Parsing(1000)
        try:
            parsing.all(frames.frame(kind, 1, content), MIXED)
        except amqp.exceptions.AMQPError:
            return
