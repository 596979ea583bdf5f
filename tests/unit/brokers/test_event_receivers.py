"""Event bodies of messages that Redis pushes; the canary; the stream on a scripted receiver."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection
from kombu.transport.virtual import Channel
from kombu.utils.json import dumps as kombu_dumps

from celery_vitals.brokers.base import EventListener
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.kombu_message import read_json_body, write
from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.redis.events import RedisReceiver
from celery_vitals.brokers.serialization import MAX_MESSAGE, RejectedMessage
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.events.canary import Canary
from celery_vitals.events.stream import Stream
from celery_vitals.reasons import reason_of
from tests.support.event_streams import Recorder, cluster_of
from tests.support.servers import wait_for
from tests.support.sockets import BODY, RecordingListener, pair

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


EVENTS = st.dictionaries(st.text(), JSON, max_size=5) | st.lists(JSON, max_size=5)


@pytest.fixture(scope="module")
def kombu_channel() -> Iterator[Channel]:
    with Connection("memory://") as connection:
        yield connection.default_channel


def kombu_writes(
    channel: Channel, body: bytes, headers: dict[str, Any], packed: str | None
) -> bytes:
    """A message as kombu itself puts it on Redis."""
    message = channel.prepare_message(
        body.decode(),
        0,
        "application/json",
        "utf-8",
        headers,
        {"delivery_mode": 1, "delivery_info": {}},
    )
    encoding, channel.body_encoding = channel.body_encoding, packed
    channel._inplace_augment_message(message, "celeryev", "task.multi")
    channel.body_encoding = encoding
    return str(kombu_dumps(message)).encode()


class TestEnvelope:
    @given(
        event=EVENTS,
        headers=st.dictionaries(st.text(), JSON, max_size=3),
        packed=st.sampled_from(["base64", None]),
    )
    def test_json_body_equals_what_kombu_reads(
        self, kombu_channel: Channel, event: Any, headers: dict[str, Any], packed: str | None
    ) -> None:
        body = json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")
        try:
            written = kombu_writes(kombu_channel, body, headers, packed)
        except UnicodeDecodeError:
            return
        read = kombu_channel.message_to_python(json.loads(written))
        theirs = read.body if isinstance(read.body, bytes) else read.body.encode()
        assert read_json_body(written) == theirs == body

    @given(event=JSON)
    def test_kombu_reads_a_written_message(self, kombu_channel: Channel, event: Any) -> None:
        body = json.dumps(event).encode()
        message = kombu_channel.message_to_python(
            json.loads(write(body, "celeryev", "vitals.canary"))
        )
        message.accept = {"application/json"}
        assert message.payload == event
        assert message.delivery_info["routing_key"] == "vitals.canary"

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "envelope"),
            (b"nonsense", "envelope"),
            (b"\xff\xfe\x00", "envelope"),
            (b"null", "envelope"),
            (b"[1]", "envelope"),
            (b'{"body": "W10="}', "envelope"),
            (b"[" * 100_000, "envelope"),
            (write(BODY, "e", "k").replace(b'"W', b'"!W').replace(b'"e', b'"!', 1), "envelope"),
            (
                write(BODY, "e", "k").replace(
                    b"application/json", b"application/x-python-serialize"
                ),
                "undecodable",
            ),
            (write(BODY, "e", "k").replace(b'"utf-8"', b'"utf-16"'), "undecodable"),
            (write(b"W10", "e", "k").replace(b'"application/json"', b"null"), "content_type"),
            (write(b" " * MAX_MESSAGE, "e", "k"), "too_large"),
        ],
    )
    def test_unusable_message_is_rejected_with_a_reason(self, data: bytes, reason: str) -> None:
        with pytest.raises(RejectedMessage, match=reason):
            read_json_body(data)

    @given(st.binary(max_size=100), st.integers(0, 400))
    def test_noise_is_a_body_or_rejected(self, noise: bytes, at: int) -> None:
        data = write(BODY, "e", "k")
        try:
            read_json_body(data[:at] + noise + data[at + len(noise) :])
        except RejectedMessage:
            return


class RawRedis:
    """What a receiver uses of a connection of redis-py."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send_command(self, *arguments: Any, check_health: bool = True) -> None:
        self._sock.sendall(b"|".join(str(one).encode() for one in arguments))

    def can_read(self, seconds: float) -> bool:
        return False


CONFIRMED = b"*3\r\n$10\r\npsubscribe\r\n$1\r\nx\r\n:1\r\n"


def subscribed(
    ours: socket.socket,
    theirs: socket.socket,
    listener: RecordingListener,
    answer: bytes = CONFIRMED,
    **options: Any,
) -> RedisReceiver:
    """A receiver on a socket, with a Redis at the other end that answers the subscription."""
    channel = SimpleNamespace(
        **{
            "global_keyprefix": "",
            "keyprefix_fanout": "/3.",
            "keyprefix_queue": "_kombu.binding.%s",
            "fanout_patterns": True,
            "sep": "\x06\x16",
            "priority_steps": (0, 3, 6, 9),
            "unacked_key": "unacked",
            "unacked_index_key": "unacked_index",
            "ack_emulation": True,
            "socket_timeout": 1.0,
            **options,
        }
    )
    connection: Any = SimpleNamespace(channel=channel, dedicated_connection=lambda: RawRedis(ours))
    theirs.sendall(answer)
    broker: RedisConnection = connection
    return RedisReceiver(broker, "celeryev", listener, 10**6, Deadline.after(0.2))


def pushed(data: bytes, kind: bytes = b"*4") -> bytes:
    """A message as Redis pushes it: `*4` in version 2 of the protocol, `>4` in version 3."""
    parts = (b"pmessage", b"/3.celeryev/*", b"/3.celeryev/task.multi", data)
    return kind + b"\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


class TestRedis:
    @pytest.mark.parametrize(
        ("options", "pattern"),
        [
            ({}, b"/3.celeryev/*"),
            ({"global_keyprefix": "shop:"}, b"shop:/3.celeryev/*"),
            ({"global_keyprefix": "a*[b]?\\"}, rb"a\*\[b\]\?\\/3.celeryev/*"),
            ({"keyprefix_fanout": ""}, b"celeryev/*"),
            ({"fanout_patterns": False}, b"/3.celeryev"),
        ],
    )
    def test_subscribes_to_the_topic_of_the_transport_options(
        self, options: dict[str, Any], pattern: bytes
    ) -> None:
        with pair() as (ours, theirs):
            subscribed(ours, theirs, RecordingListener(), **options)
            assert theirs.recv(1000) == b"PSUBSCRIBE|" + pattern

    @pytest.mark.parametrize("kind", [b"*4", b">4"])
    def test_messages_are_assembled_wherever_they_are_split(self, kind: bytes) -> None:
        data = pushed(write(BODY, "celeryev", "task.multi"), kind) + pushed(b"junk", kind)
        with pair() as (ours, theirs):
            listener = RecordingListener()
            receiver = subscribed(ours, theirs, listener)
            for at in range(len(data)):
                bodies = [*receiver._parse(data[:at]), *receiver._parse(data[at:])]
                assert bodies == [BODY]
            assert listener.rejected == ["envelope"] * len(data)

    def test_an_error_of_redis_is_raised_after_the_messages_before_it(self) -> None:
        with pair() as (ours, theirs):
            listener = RecordingListener()
            receiver = subscribed(ours, theirs, listener)
            theirs.sendall(pushed(write(BODY, "celeryev", "x")) + b"-NOPERM no permission\r\n")
            with pytest.raises(Exception, match="NOPERM") as caught:
                receiver.receive(1)
            assert reason_of(caught.value) is Reason.PERMISSION
            assert listener.bodies == [BODY]

    def test_a_refused_or_unanswered_subscription_is_an_error(self) -> None:
        with pair() as (ours, theirs):
            theirs.sendall(b"-NOPERM\r\n")
            with pytest.raises(Exception, match="NOPERM"):
                subscribed(ours, theirs, RecordingListener(), answer=b"")
        with pair() as (ours, theirs), pytest.raises(ProbeError, match="does not answer"):
            subscribed(ours, theirs, RecordingListener(), answer=b":1\r\n")

    def test_an_endless_message_is_not_buffered(self) -> None:
        with pair() as (ours, theirs):
            listener = RecordingListener()
            receiver = subscribed(ours, theirs, listener)
            receiver._parse(pushed(b"")[:-6] + b"$500000000\r\n")
            for _ in range(40):
                receiver._parse(b"x" * 1024 * 1024)
            assert listener.rejected[:1] == ["too_large"]
            theirs.sendall(b"x")
            with pytest.raises(ProbeError):
                receiver.receive(1)


class TestCanary:
    def test_finds_its_own_and_ignores_those_of_others(self) -> None:
        mine, other = Canary(), Canary()
        assert mine.remove([BODY, mine.body(), other.body(), BODY]) == [BODY, BODY]
        assert (mine.returned, other.returned) == (1, 0)
        assert mine.lag is not None
        assert 0 <= mine.lag < 1

    def test_is_short_enough_to_be_found(self) -> None:
        assert len(Canary().body()) < 230

    @pytest.mark.parametrize(
        "body",
        [
            b'{"type": "task-received", "name": "vitals-canary"}',
            b'"vitals-canary"',
            b'[{"type": "vitals-canary"}]',
            b"vitals-canary",
            b'{"type": "vitals-canary"',
            b'{"type": "task-sent", "args": "' + b"vitals-canary " * 100 + b'"}',
        ],
    )
    def test_leaves_everything_else(self, body: bytes) -> None:
        assert Canary().remove([body]) == [body]


class Scripted:
    """A receiver that delivers its own canaries, as long as it is not blocked."""

    def __init__(self, listener: EventListener) -> None:
        self.blocked = False
        self.published: list[tuple[str, str]] = []
        self._listener = listener

    def receive(self, seconds: float) -> None:
        time.sleep(0.01)

    def publish(self, exchange: str, routing_key: str, body: bytes, *content: str) -> None:
        self.published.append((exchange, routing_key))
        self._listener.deliver([body], time.time())

    def close(self, deadline: Deadline) -> None:
        self.blocked = True


class TestStream:
    @pytest.fixture
    def receivers(self, monkeypatch: pytest.MonkeyPatch) -> list[Scripted]:
        made: list[Scripted] = []

        def subscribe(stream: Stream, connection: BrokerConnection, deadline: Deadline) -> Scripted:
            made.append(Scripted(stream._listener))
            return made[-1]

        monkeypatch.setattr(Stream, "_subscribe", subscribe)
        return made

    def test_a_blocked_broker_is_not_disconnected(self, receivers: list[Scripted]) -> None:
        with streaming() as stream:
            wait_for(lambda: stream.up)
            (receiver,) = receivers
            receiver.blocked = True
            time.sleep(0.1)
            published = len(receiver.published)
            wait_for(lambda: not stream.up)
            time.sleep(0.5)
            assert len(receiver.published) == published
            receiver.blocked = False
            wait_for(lambda: stream.up)
            assert receivers == [receiver]

    def test_enable_events_is_sent_once_for_many_new_workers(
        self, receivers: list[Scripted]
    ) -> None:
        with streaming(enable_events=True) as stream:
            wait_for(lambda: stream.up)
            (receiver,) = receivers
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                stream.enable_now()
                time.sleep(0.01)
            assert receiver.published.count(("celery.pidbox", "")) == 1
            wait_for(lambda: receiver.published.count(("celery.pidbox", "")) == 2)

    def test_no_stream_on_a_broker_without_broadcast(self) -> None:
        stream = Stream(cluster_of("sqla+sqlite://"), Recorder())
        stream.start()
        assert not stream._thread.is_alive()
        assert not stream.up
        stream.stop(Deadline.after(1))


@contextmanager
def streaming(**options: Any) -> Iterator[Stream]:
    stream = Stream(
        cluster_of("memory://"), Recorder(), canary_every=0.05, silence_timeout=0.3, **options
    )
    stream.start()
    yield stream
    stream.stop(Deadline.after(1))
    assert not stream._thread.is_alive()
