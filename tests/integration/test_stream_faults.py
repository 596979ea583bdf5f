"""The event stream with a silent, unreachable, closing or flooded broker: detects and recovers."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from celery_vitals.brokers.kombu_message import write as envelope
from celery_vitals.deadline import Deadline
from celery_vitals.errors import Reason
from celery_vitals.events.stream import Stream
from tests.support.event_streams import (
    CANARY_EVERY,
    SILENT_AFTER,
    Recorder,
    cluster_of,
    listening,
    sending,
    wait_received,
)
from tests.support.servers import HOST, Broker, Fault, Proxy, RabbitMQServer, RedisServer, wait_for

SLACK = 1.5
BODY = (
    b'[{"type": "task-started", "uuid": "%s", "hostname": "w@h", "pid": 1, "timestamp": 1.5}]'
    % (b"x" * 200)
)


class TestSilentBroker:
    def test_half_open_connection_is_detected_and_closed(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "celery_vitals")
        sink = Recorder()
        with Proxy(broker.server.port) as proxy, sending(broker) as send:
            cluster = cluster_of(proxy.url(broker.url), io_timeout=0.5)
            with listening(cluster, sink) as stream:
                wait_received(sink, send)
                proxy.fault, started = Fault.SILENT, time.monotonic()
                wait_for(lambda: not stream.up and stream.reason is Reason.TIMEOUT)
                assert time.monotonic() - started < SILENT_AFTER + SLACK
                time.sleep(2)
                proxy.fault = Fault.NONE
                wait_for(lambda: stream.up)
                wait_received(sink, send)
                assert sink.connects >= 2
        messages = [record.message for record in caplog.records if record.levelno >= logging.INFO]
        assert messages[0] == messages[-1] == "event stream is live"
        assert len(messages) <= 4

    def test_stream_stays_up_while_events_arrive_and_the_canary_is_late(
        self, broker: Broker
    ) -> None:
        sink = Recorder()
        with (
            listening(cluster_of(broker.url), sink, canary_every=60.0) as stream,
            sending(broker) as send,
        ):
            until = time.monotonic() + 2 * SILENT_AFTER
            while time.monotonic() < until:
                send()
                time.sleep(0.1)
                assert stream.up
            assert sink.connects == 1
            wait_for(lambda: sink.connects == 2)
            assert stream.reason is Reason.TIMEOUT


class TestUnreachableBroker:
    def test_a_broker_that_restarts(self, own_broker: Broker) -> None:
        sink = Recorder()
        with listening(cluster_of(own_broker.url), sink) as stream:
            own_broker.server.restart()
            wait_for(lambda: stream.up and sink.connects == 2, 30)
            assert stream.reason in (Reason.CLOSED, Reason.REFUSED)
            with sending(own_broker) as send:
                wait_received(sink, send)

    def test_a_broker_that_comes_later(self, broker: Broker) -> None:
        sink = Recorder()
        with Proxy(broker.server.port) as proxy:
            proxy.fault = Fault.REFUSE
            stream = Stream(cluster_of(proxy.url(broker.url)), sink, canary_every=CANARY_EVERY)
            stream.start()
            wait_for(lambda: stream.reason is Reason.REFUSED)
            assert not stream.up
            assert (sink.connects, stream.lag) == (0, None)
            proxy.fault = Fault.NONE
            wait_for(lambda: stream.up)
            assert sink.connects == 1
            stop(stream)

    @pytest.mark.parametrize("fault", [Fault.SILENT, Fault.BLACKHOLE, Fault.REFUSE, Fault.NONE])
    def test_it_stops_in_time_whatever_the_broker_does(self, broker: Broker, fault: Fault) -> None:
        with Proxy(broker.server.port) as proxy:
            stream = Stream(cluster_of(proxy.url(broker.url), io_timeout=0.5), Recorder())
            stream.start()
            wait_for(lambda: stream.up)
            proxy.fault = fault
            stop(stream)

    def test_rabbitmq_closes_the_connection_or_deletes_the_queue(
        self, rabbitmq_broker: Broker
    ) -> None:
        server, sink = rabbitmq_broker.server, Recorder()
        assert isinstance(server, RabbitMQServer)
        with (
            listening(cluster_of(rabbitmq_broker.url), sink, durable_queue="v") as stream,
            sending(rabbitmq_broker) as send,
        ):
            server.api("DELETE", f"queues/{rabbitmq_broker.namespace}/celeryev.v")
            wait_for(lambda: stream.up and sink.connects == 2)
            assert stream.reason is Reason.UNAVAILABLE
            wait_received(sink, send)

            def close() -> bool:
                for row in server.api("GET", f"vhosts/{rabbitmq_broker.namespace}/connections"):
                    if row.get("user_provided_name") == "celery-vitals":
                        server.api("DELETE", f"connections/{quote(row['name'])}")
                return sink.connects == 3

            wait_for(close, interval=0.3)
            assert "CONNECTION_FORCED" in stream.detail
            wait_for(lambda: stream.up)
            wait_received(sink, send)

    def test_user_without_permission_to_subscribe(self, own_broker: Broker) -> None:
        cluster = cluster_of(forbidden(own_broker))
        stream = Stream(cluster, Recorder())
        stream.start()
        wait_for(lambda: stream.reason)
        assert stream.reason is Reason.PERMISSION
        stop(stream)
        assert cluster.connections == 0


def stop(stream: Stream) -> None:
    """Stop a stream, which must not take long."""
    started = time.monotonic()
    stream.stop(Deadline.after(3))
    assert not stream._thread.is_alive()
    assert time.monotonic() - started < 3


def forbidden(broker: Broker) -> str:
    """Return the URL of a user that may connect but not subscribe."""
    server = broker.server
    if isinstance(server, RedisServer):
        with server.client() as client:
            client.acl_setuser(
                "silent", enabled=True, passwords=["+pw"], commands=["+@all"], keys=["*"]
            )
        return broker.url.replace("redis://", "redis://silent:pw@")
    assert isinstance(server, RabbitMQServer)
    server.api("PUT", "users/silent", {"password": "pw", "tags": ""})
    nothing = {"configure": "^$", "write": "^$", "read": "^$"}
    server.api("PUT", f"permissions/{broker.namespace}/silent", nothing)
    return broker.url.replace(f"{server.user}:{server.password}@", "silent:pw@")


def flood(broker: Broker, messages: int, rate: float = float("inf")) -> None:
    """Publish at a rate per second, or as fast as possible; return when Redis has all messages."""
    parts = (
        b"PUBLISH",
        f"/{broker.namespace}.celeryev/task.multi".encode(),
        envelope(BODY, "celeryev", "task.multi"),
    )
    block = (b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)) * 500
    with socket.create_connection((HOST, broker.server.port)) as sock:
        sock.sendall(b"CLIENT REPLY OFF\r\n")
        started = time.monotonic()
        for number in range(messages // 500):
            sock.sendall(block)
            time.sleep(max(0.0, started + number * 500 / rate - time.monotonic()))
        sock.sendall(b"CLIENT REPLY ON\r\n")
        assert sock.recv(5) == b"+OK\r\n"


class TestFlood:
    def test_a_burst_on_redis_loses_nothing(self, redis_broker: Broker) -> None:
        sink = Recorder(keep=False)
        sink.before_feeding = sleeping_now_and_then()
        count = 300_000
        with listening(cluster_of(redis_broker.url), sink) as stream:
            started = time.monotonic()
            flood(redis_broker, count, rate=200_000)
            assert time.monotonic() - started < 6  # at least 50,000 a second
            wait_for(lambda: sink.messages >= count, 20)
            assert (sink.messages, sink.connects, stream.reason) == (count, 1, None)
            assert stream.up

    def test_burst_over_the_output_buffer_limit_is_recovered_from(self) -> None:
        sink = Recorder(keep=False)
        small = ["--client-output-buffer-limit", "pubsub 4mb 4mb 1"]
        with RedisServer(extra_args=small) as server, server.namespace() as broker:
            sink.before_feeding = lambda: time.sleep(0.01)
            with listening(cluster_of(broker.url), sink, max_buffer=10**6) as stream:
                flood(broker, 300_000)
                wait_for(lambda: sink.connects >= 2 and stream.up, 20)
                assert stream.reason is Reason.CLOSED
                assert 0 < sink.messages < 300_000
                sink.before_feeding, before = lambda: None, sink.messages
                flood(broker, 1000)
                wait_for(lambda: sink.messages == before + 1000)

    def test_a_burst_on_rabbitmq_loses_nothing(self, rabbitmq_broker: Broker) -> None:
        sink, count = Recorder(keep=False), 30_000
        sink.before_feeding = sleeping_now_and_then()
        with listening(cluster_of(rabbitmq_broker.url), sink), sending(rabbitmq_broker) as send:
            for _ in range(count):
                send("task-sent", name="x" * 100)
            wait_for(lambda: sink.messages >= count, 20)
            assert (sink.messages, sink.connects) == (count, 1)


def sleeping_now_and_then() -> Callable[[], None]:
    """Sleeps for 50 ms, three times a second."""
    last = [time.monotonic()]

    def sleep() -> None:
        if time.monotonic() - last[0] > 0.3:
            time.sleep(0.05)
            last[0] = time.monotonic()

    return sleep


def test_failing_sink_loses_only_its_messages(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Any:
        raise ValueError("broken")

    sink = Recorder()
    with listening(cluster_of(broker.url), sink), sending(broker) as send:
        sink.before_feeding = fail
        send()
        wait_for(lambda: sink.refused["internal"] == 1)
        sink.before_feeding = lambda: None
        wait_received(sink, send)
        assert sink.connects == 1
    assert "cannot process event messages" in caplog.text
