"""The receiver on RabbitMQ: acknowledgements, alarms, heartbeats, and what ends the connection."""

from __future__ import annotations

import socket
from struct import pack
from types import SimpleNamespace
from typing import Any

import amqp.exceptions
import pytest

from celery_vitals.brokers.rabbitmq import frames
from celery_vitals.brokers.rabbitmq.events import AmqpReceiver
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.reasons import reason_of
from tests.support.sockets import BODY, RecordingListener, pair


class FakeChannel:
    """A channel of py-amqp; some exchanges are missing."""

    channel_id = 1

    def __init__(self, missing: frozenset[str], bindings: list[tuple[str, str]]) -> None:
        self._missing = missing
        self._bindings = bindings

    def exchange_declare(self, name: str, kind: str, passive: bool = False, **_: Any) -> None:
        if passive and name in self._missing:
            raise amqp.exceptions.NotFound

    def queue_bind(self, queue: str, exchange: str, key: str) -> None:
        self._bindings.append((queue.split(".")[1], key))

    def queue_declare(self, *_: Any, **__: Any) -> None: ...

    def basic_qos(self, *_: Any) -> None: ...

    def basic_consume(self, *_: Any, **__: Any) -> None: ...


def receiver_on(
    sock: socket.socket,
    *,
    durable: str | None = None,
    heartbeat: float = 0,
    missing: frozenset[str] = frozenset(),
    bindings: list[tuple[str, str]] | None = None,
) -> tuple[AmqpReceiver, RecordingListener]:
    listener, made = RecordingListener(), bindings if bindings is not None else []
    connection = SimpleNamespace(
        heartbeat=heartbeat,
        frame_max=131072,
        transport=SimpleNamespace(sock=sock),
        channel=lambda: FakeChannel(missing, made),
    )
    fake: Any = SimpleNamespace(kombu=SimpleNamespace(connection=connection))
    receiver = AmqpReceiver(
        fake, "celeryev", listener, 10**6, canary_key="vitals.canary", durable_queue=durable
    )
    return receiver, listener


def delivered(tag: int) -> bytes:
    """An event as RabbitMQ delivers it."""
    method = pack(">HH", 60, 60) + frames.short("ctag") + pack(">QB", tag, 0)
    rest = frames.publish(1, "celeryev", "task.multi", BODY)
    published = 8 + int.from_bytes(rest[3:7], "big")
    return frames.frame(frames.METHOD, 1, method + frames.short("x") * 2) + rest[published:]


def method(kind: tuple[int, int], arguments: bytes = b"") -> bytes:
    return frames.frame(frames.METHOD, 0, pack(">HH", *kind) + arguments)


@pytest.mark.parametrize("durable", [None, "kept"])
def test_only_events_of_a_durable_queue_are_acknowledged(durable: str | None) -> None:
    with pair() as (ours, theirs):
        theirs.settimeout(0.2)
        receiver, listener = receiver_on(ours, durable=durable)
        theirs.sendall(delivered(6) + delivered(7))
        receiver.receive(1)
        assert listener.bodies == [BODY, BODY]
        if durable:
            assert theirs.recv(1000) == frames.ack(1, 7)
        else:
            with pytest.raises(TimeoutError):
                theirs.recv(1000)


def test_the_own_queue_receives_only_canaries_beside_a_durable_one() -> None:
    for durable, expected in (
        (None, [("celery-vitals", "#")]),
        ("kept", [("celery-vitals", "vitals.canary"), ("kept", "#")]),
    ):
        with pair() as (ours, _):
            bindings: list[tuple[str, str]] = []
            receiver_on(ours, durable=durable, bindings=bindings)
            assert bindings == expected


def test_an_alarm_blocks_the_receiver_until_it_ends() -> None:
    with pair() as (ours, theirs):
        receiver, _ = receiver_on(ours)
        for kind, blocked in ((frames.BLOCKED, True), (frames.UNBLOCKED, False)):
            theirs.sendall(method(kind, frames.short("low on memory")))
            receiver.receive(1)
            assert receiver.blocked is blocked


def test_heartbeats_are_sent_and_their_absence_is_an_error() -> None:
    with pair() as (ours, theirs):
        receiver, _ = receiver_on(ours, heartbeat=10)
        receiver._socket.sent -= 6
        receiver.receive(0)
        assert theirs.recv(1000) == frames.heartbeat()
        receiver._socket.received -= 19
        receiver.receive(0)
        receiver._socket.received -= 2
        with pytest.raises(ProbeError, match="no heartbeat") as caught:
            receiver.receive(0)
        assert caught.value.reason is Reason.TIMEOUT


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (method(frames.CANCEL), Reason.UNAVAILABLE),
        (
            method(frames.CHANNEL_CLOSE, pack(">H", 403) + frames.short("ACCESS_REFUSED - no")),
            Reason.PERMISSION,
        ),
        (method(frames.CONNECTION_CLOSE, pack(">H", 320) + frames.short("bye")), Reason.CLOSED),
    ],
)
def test_events_before_the_end_are_delivered(end: bytes, reason: Reason) -> None:
    with pair() as (ours, theirs):
        receiver, listener = receiver_on(ours)
        theirs.sendall(delivered(1) + end)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - errors of several libraries
            receiver.receive(1)
        assert reason_of(caught.value) is reason
        assert listener.bodies == [BODY]


@pytest.mark.parametrize("events", [False, True])
def test_close_deletes_an_exchange_that_was_missing_and_is_unused(events: bool) -> None:
    with pair() as (ours, theirs):
        receiver, _ = receiver_on(ours, missing=frozenset({"celeryev"}))
        if events:
            theirs.sendall(delivered(1))
            receiver.receive(1)
        theirs.sendall(method(frames.CONNECTION_CLOSE_OK))
        receiver.close(Deadline.after(1))
        sent = theirs.recv(10_000)
        assert (frames.delete_unused_exchange(1, "celeryev") in sent) is not events
        assert sent.endswith(frames.connection_close())


def test_close_ends_at_its_deadline() -> None:
    with pair() as (ours, _):
        receiver, _listener = receiver_on(ours)
        receiver.close(Deadline.after(0.1))
