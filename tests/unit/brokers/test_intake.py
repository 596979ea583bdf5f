"""What is read of one reply, and of all replies of a round."""

from __future__ import annotations

import json
import socket
import threading
import uuid
import zlib
from collections.abc import Iterator
from contextlib import suppress
from struct import pack
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Producer, Queue

from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.filesystem import FilesystemConnection
from celery_vitals.brokers.generic.events import GenericReceiver
from celery_vitals.brokers.generic.mailbox import KombuMailbox
from celery_vitals.brokers.intake import MAX_REPLY, MAX_ROUND, Intake
from celery_vitals.brokers.redis.connection import CLIENT_OPTIONS, MAX_READ, ReplyTooLargeError
from celery_vitals.brokers.writability import PublisherBlock
from celery_vitals.deadline import Deadline
from celery_vitals.third_party import kombu_internals, py_amqp

MIB = 1024 * 1024


def test_replies_are_accepted_up_to_the_limit_of_one_and_of_the_round() -> None:
    intake = Intake()
    assert not intake.begin_round()
    assert intake.accepts(MAX_REPLY)
    assert not intake.accepts(MAX_REPLY + 1)
    assert not intake.accepts(0)
    assert intake.discarded == 2
    while intake.accepts(MAX_REPLY):
        pass
    assert not intake.accepts(1)
    assert intake.begin_round()
    assert (intake.discarded, intake.accepts(1)) == (0, True)
    assert not intake.begin_round()


@pytest.mark.parametrize("content_type", ["application/x-yaml", "application/x-python-serialize"])
def test_serializations_that_are_slow_to_decode_have_a_lower_limit(content_type: str) -> None:
    assert Intake().accepts(MIB, content_type)
    assert not Intake().accepts(MIB + 1, content_type)


class TestFrames:
    """The frames of AMQP messages; py-amqp's own handler collects those that are not left out."""

    def handle(self, *bodies: bytes, limit: int = 10) -> list[bytes]:
        taken: list[bytes] = []
        connection = SimpleNamespace(bytes_recv=0)
        handler = py_amqp.bounded_frame_handler(limit)(
            connection, lambda channel, method, args, message: taken.append(message.body or b"")
        )
        for body in bodies:
            handler((1, 1, pack(">HH", 60, 60)))
            handler((2, 1, pack(">HHQH", 60, 0, len(body), 0)))
            for at in range(0, len(body), 4):
                handler((3, 1, body[at : at + 4]))
        return taken

    def test_a_large_body_arrives_empty_and_the_next_one_complete(self) -> None:
        assert self.handle(b"0123456789", b"x" * 11, b"next", b"y" * 99, b"last") == [
            b"0123456789",
            b"",
            b"next",
            b"",
            b"last",
        ]

    def test_each_frame_of_a_large_body_ends_a_wait(self) -> None:
        handler = py_amqp.bounded_frame_handler(10)(SimpleNamespace(bytes_recv=0), lambda *_: None)
        handler((1, 1, pack(">HH", 60, 60)))
        assert handler((2, 1, pack(">HHQH", 60, 0, 12, 0)))
        assert [handler((3, 1, b"part")) for _ in range(3)] == [True] * 3


class TestRedisReplies:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[Any, socket.socket]]:
        """A connection of redis-py, and the server's end of it."""
        ours, theirs = socket.socketpair()
        connection = redis.Connection(parser_class=CLIENT_OPTIONS["parser_class"], protocol=2)
        connection._sock = ours
        connection._parser.on_connect(connection)
        with ours, theirs:
            yield connection, theirs

    def test_one_over_the_limit_is_not_read_to_its_end(
        self, ends: tuple[Any, socket.socket]
    ) -> None:
        connection, theirs = ends
        theirs.sendall(b"+first\r\n*2\r\n$3\r\nkey\r\n$%d\r\n" % (100 * MIB))
        assert connection.read_response() == b"first"
        sent: list[int] = []

        def send() -> None:
            with suppress(OSError):
                for _ in range(100):
                    theirs.sendall(bytes(MIB))
                    sent.append(MIB)

        thread = threading.Thread(target=send)
        thread.start()
        with pytest.raises(ReplyTooLargeError):
            connection.read_response()
        thread.join(10)
        assert sum(sent) <= MAX_READ + 2 * MIB

    def test_many_small_ones_are_no_large_one(self, ends: tuple[Any, socket.socket]) -> None:
        connection, theirs = ends
        for _ in range(2 * MAX_READ // 65536):
            theirs.sendall(b"$%d\r\n" % 65536 + bytes(65536) + b"\r\n")
            assert len(connection.read_response()) == 65536


@pytest.fixture
def memory() -> Iterator[BrokerConnection]:
    with Connection("memory://", transport_options={"polling_interval": 0.01}) as kombu:
        yield BrokerConnection(kombu, PublisherBlock())


def test_a_reply_that_is_too_large_is_counted_and_the_next_one_returned(
    memory: BrokerConnection,
) -> None:
    mailbox = KombuMailbox(memory, f"celery-{uuid.uuid4()}")
    request = {"ticket": str(uuid.uuid4())}
    mailbox.broadcast([request])
    with memory.kombu.Producer() as producer:
        for content in ("x" * MAX_REPLY, "pong"):
            producer.publish(
                {"w@h": content}, headers=request, serializer="json", **mailbox.address
            )
    (reply,) = mailbox.receive(Deadline.after(5))
    assert (reply.body, mailbox.intake.discarded) == ({"w@h": "pong"}, 1)


def test_replies_that_a_full_round_left_are_removed_before_the_next(
    memory: BrokerConnection,
) -> None:
    mailbox = KombuMailbox(memory, f"celery-{uuid.uuid4()}")
    request = {"ticket": str(uuid.uuid4())}
    mailbox.broadcast([request])
    assert not mailbox.intake.accepts(MAX_ROUND + 1)
    with memory.kombu.Producer() as producer:
        producer.publish({"w@h": "late"}, headers=request, serializer="json", **mailbox.address)
    mailbox.broadcast([request])
    assert mailbox.receive(Deadline.after(0.2)) == []


def test_a_compressed_body_is_not_inflated(memory: BrokerConnection) -> None:
    bomb = zlib.compress(json.dumps({"w@h": "x" * 50 * MIB}).encode())
    mailbox = KombuMailbox(memory, f"celery-{uuid.uuid4()}")
    request = {"ticket": str(uuid.uuid4())}
    mailbox.broadcast([request])
    bodies: list[Any] = []
    on_message = mailbox._on_message

    def recorded(message: Any) -> None:
        bodies.append(message.body)
        on_message(message)

    mailbox._consumer.on_message = recorded
    with memory.kombu.Producer() as producer:
        producer.publish(
            bomb,
            headers={**request, "compression": "application/x-gzip"},
            content_type="application/json",
            content_encoding="binary",
            **mailbox.address,
        )
    assert mailbox.receive(Deadline.after(0.2)) == []
    assert max(map(len, bodies)) == len(bomb)


def test_a_large_file_is_taken_from_the_folder_without_being_read(tmp_path: Any) -> None:
    options = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path)}
    options["control_folder"] = str(tmp_path / "control")
    with Connection("filesystem://", transport_options=options) as kombu:
        connection = FilesystemConnection(kombu, PublisherBlock())
        rejected: list[str] = []
        delivered: list[bytes] = []
        listener: Any = SimpleNamespace(
            reject=rejected.append, deliver=lambda bodies, _: delivered.extend(bodies)
        )
        receiver = GenericReceiver(connection, "celeryev", listener)
        queue = receiver._queue.name
        for name, size in (("1", 17 * MIB), ("2", 0)):
            body = json.dumps({"type": "x", "pad": "x" * size})
            envelope = {
                "body": body,
                "content-type": "application/json",
                "content-encoding": "utf-8",
                "headers": {},
                "properties": {"delivery_tag": name, "delivery_info": {}},
            }
            (tmp_path / f"{name}.{queue}.msg").write_text(json.dumps(envelope))
        while not delivered:
            receiver.receive(0.2)
        assert rejected == ["too_large"]
        assert json.loads(delivered[0]) == {"type": "x", "pad": ""}
        assert not list(tmp_path.glob(f"*.{queue}.msg"))


def test_a_consumer_still_gets_ordinary_messages(memory: BrokerConnection) -> None:
    kombu_internals.keep_compressed(memory.channel)
    queue = Queue(str(uuid.uuid4()))(memory.channel)
    queue.declare()
    bodies: list[Any] = []
    with Consumer(memory.channel, [queue], on_message=lambda message: bodies.append(message.body)):
        Producer(memory.channel).publish({"a": 1}, routing_key=queue.name, serializer="json")
        memory.kombu.drain_events(timeout=5)
    assert json.loads(bodies[0]) == {"a": 1}
