"""Stand-ins for workers: many per process, each with its own mailbox; they reply after 2 ms."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from struct import pack, unpack_from
from typing import Any
from urllib.parse import urlsplit

import hiredis
from celery import Celery
from kombu import Connection

from benchmarks.scrape.capture import TICKET, Sample

DELAY = 0.002
"""Seconds from a command to its reply."""


@dataclass(frozen=True)
class Standin:
    """One worker: its name, and its replies by command."""

    name: str
    replies: Mapping[str, Sample]


@dataclass(frozen=True)
class Question:
    """The relevant fields of a remote control message."""

    method: str
    destination: frozenset[str] | None
    """None for every worker; empty if no reply is requested."""
    ticket: str
    exchange: str
    key: str


def run(kind: str, url: str, standins: Sequence[Standin], ready: Callable[[], object]) -> None:
    """Reply until the broker disconnects; call `ready` when all stand-ins are subscribed."""
    asyncio.run(_run(kind, url, standins, ready))


async def _run(
    kind: str, url: str, standins: Sequence[Standin], ready: Callable[[], object]
) -> None:
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    with Celery(broker=url, set_as_current=False) as app, Connection(url, heartbeat=0) as first:
        kept = []
        for standin in standins:
            # On RabbitMQ the mailbox is exclusive to its connection; on Redis it is a set entry.
            connection = first if kind == "redis" else first.clone()
            queue = app.control.mailbox(connection).get_queue(standin.name)(
                connection.default_channel
            )
            queue.declare()
            if kind == "redis":
                _, pusher = await loop.create_connection(
                    partial(RedisPusher, url, gone), *_address(url)
                )
                answering = Answering(standin, pusher.send)
                await loop.create_connection(
                    partial(RedisListener, url, gone, answering), *_address(url)
                )
            else:
                queue.consume(no_ack=True)
                channel, sock = (
                    connection.default_channel.channel_id,
                    connection.connection.transport.sock,
                )
                await loop.create_connection(partial(AmqpTalker, standin, channel, gone), sock=sock)
            kept.append(connection)
        ready()
        await gone.wait()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 6379


class Answering:
    """Replies to the commands of one worker."""

    def __init__(self, standin: Standin, send: Callable[[Sample, Question, bytes], object]) -> None:
        self._name = standin.name
        self._send = send
        self._replies = {
            method: (sample, json.dumps({standin.name: sample.body}).encode())
            for method, sample in standin.replies.items()
        }
        self._loop = asyncio.get_running_loop()

    def __call__(self, question: Question) -> None:
        """Reply after the delay."""
        if question.destination is None or self._name in question.destination:
            sample, body = self._replies[question.method]
            self._loop.call_later(DELAY, self._send, sample, question, body)


class _Connected(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, gone: asyncio.Event) -> None:
        self._gone = gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()


class RedisListener(_Connected):
    """A subscriber, as a worker is."""

    def __init__(self, url: str, gone: asyncio.Event, answer: Answering) -> None:
        super().__init__(gone)
        self._topic = f"/{urlsplit(url).path.strip('/')}.celery.pidbox"
        self._answer = answer
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(f"PSUBSCRIBE {self._topic}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (push := self._reader.gets()) is not False:
            if push[0] == b"pmessage":
                self._answer(_unwrapped(push[3]))


class RedisPusher(_Connected):
    """The connection on which a worker sends its replies."""

    def __init__(self, url: str, gone: asyncio.Event) -> None:
        super().__init__(gone)
        self._database = urlsplit(url).path.strip("/")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(f"SELECT {self._database}\r\n".encode())

    def send(self, sample: Sample, question: Question, body: bytes) -> None:
        """LPUSH to the list of this exchange and routing key, as kombu resolves it."""
        address = {b"ticket": question.ticket.encode(), b"exchange": question.exchange.encode()}
        message = sample.envelope % {
            **address,
            b"key": question.key.encode(),
            b"body": base64.b64encode(body),
        }
        name = f"{question.key}.{question.exchange}" if question.exchange else question.key
        self.transport.write(b"*3\r\n$5\r\nLPUSH\r\n$%d\r\n%b\r\n" % (len(name), name.encode()))
        self.transport.write(b"$%d\r\n%b\r\n" % (len(message), message))


class AmqpTalker(_Connected):
    """A connection that consumes a mailbox and publishes the replies."""

    def __init__(self, standin: Standin, channel: int, gone: asyncio.Event) -> None:
        super().__init__(gone)
        self._answer = Answering(standin, self.send)
        self._channel = channel
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        """Parse frames; a command fits into one content frame."""
        data = self._unread + data
        at = 0
        while len(data) - at >= 7:
            kind, _, size = unpack_from(">BHI", data, at)
            if len(data) - at < size + 8:
                break
            if kind == 3:
                self._answer(_question(data[at + 7 : at + 7 + size]))
            at += size + 8
        self._unread = data[at:]

    def send(self, sample: Sample, question: Question, body: bytes) -> None:
        """Send a basic.publish."""
        properties = sample.envelope.replace(TICKET.encode(), question.ticket.encode())
        method = pack(">HHH", 60, 40, 0) + _short(question.exchange) + _short(question.key) + b"\0"
        header = pack(">HHQ", 60, 0, len(body)) + properties
        self.transport.write(self._frame(1, method) + self._frame(2, header) + self._frame(3, body))

    def _frame(self, kind: int, content: bytes) -> bytes:
        return pack(">BHI", kind, self._channel, len(content)) + content + b"\xce"


def _short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


@lru_cache(4)
def _unwrapped(message: bytes) -> Question:
    """Decode a message once for all workers of the process."""
    return _question(base64.b64decode(json.loads(message)["body"]))


@lru_cache(4)
def _question(body: bytes) -> Question:
    content: dict[str, Any] = json.loads(body)
    to = content.get("reply_to")
    if to is None:
        return Question(content["method"], frozenset(), "", "", "")
    destination = None if content["destination"] is None else frozenset(content["destination"])
    return Question(
        content["method"], destination, content["ticket"], to["exchange"], to["routing_key"]
    )
