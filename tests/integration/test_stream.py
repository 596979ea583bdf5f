"""The event stream on every kind of broker and connection: receives events, leaves nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from celery_vitals.brokers.kombu_message import write as envelope
from tests.support.event_streams import (
    CANARY_EVERY,
    Recorder,
    TlsFront,
    cluster_of,
    listening,
    sending,
    wait_received,
)
from tests.support.servers import (
    HOST,
    Broker,
    RabbitMQServer,
    RedisServer,
    Worker,
    free_port,
    publish,
    wait_for,
)
from tests.support.servers.child import Child
from tests.support.servers.finding import find_redis
from tests.support.servers.process_reaper import process_reaper

StartWorker = Callable[..., Worker]


def client(broker: Broker) -> redis.Redis:
    assert isinstance(broker.server, RedisServer)
    return broker.server.client(int(broker.namespace))


class TestReceives:
    def test_events_alone_and_in_batches(self, broker: Broker) -> None:
        sink = Recorder()
        with listening(cluster_of(broker.url), sink) as stream, sending(broker) as send:
            one = send("task-sent", name="shop.ünïcode", args="('\"\\\\',)")
            wait_for(lambda: sink.ids() == {one})
            assert sink.events[0]["name"] == "shop.ünïcode"
            assert stream.lag is not None
            assert 0 < stream.lag < 0.5
            assert (stream.reason, sink.connects) == (None, 1)
            assert not sink.refused

    def test_a_real_worker_and_its_batches(self, broker: Broker, start_worker: StartWorker) -> None:
        sink = Recorder()
        with listening(cluster_of(broker.url), sink):
            start_worker(broker, "threads", events=True)
            ids = set(publish(broker, "add", 1, 2, count=50))

            def complete() -> bool:
                return all(
                    {e["uuid"] for e in sink.events if e["type"] == kind} == ids
                    for kind in ("task-received", "task-started", "task-succeeded")
                )

            wait_for(complete)
            wait_for(
                lambda: (
                    {"worker-online", "worker-heartbeat"}
                    <= {event["type"] for event in sink.events}
                )
            )
            assert not sink.refused

    def test_bodies_of_megabytes(self, broker: Broker) -> None:
        sink = Recorder()
        with listening(cluster_of(broker.url), sink), sending(broker) as send:
            sent = [
                send("task-failed", traceback="x" * size)
                for size in (130_000, 140_000, 5_000_000, 10)
            ]
            wait_for(lambda: sink.ids() == set(sent))
            assert [len(event["traceback"]) for event in sink.events] == [
                130_000,
                140_000,
                5_000_000,
                10,
            ]

    def test_is_idle_while_nothing_comes(self, broker: Broker) -> None:
        sink = Recorder()
        with listening(cluster_of(broker.url), sink, canary_every=1.0):
            time.sleep(0.3)
            before, idles = time.process_time(), sink.idles
            time.sleep(3)
            assert time.process_time() - before < 0.06
            assert 2 <= sink.idles - idles <= 6

    def test_switches_events_on_where_asked_to(
        self, broker: Broker, start_worker: StartWorker
    ) -> None:
        sink = Recorder()
        with listening(cluster_of(broker.url), sink, enable_events=True) as stream:
            start_worker(broker, "solo")
            stream.enable_now()

            def reported() -> bool:
                publish(broker, "add", 1, 2)
                return any(event["type"] == "task-succeeded" for event in sink.events)

            wait_for(reported, interval=0.3)

    def test_leaves_events_off_otherwise(self, broker: Broker, start_worker: StartWorker) -> None:
        sink = Recorder()
        with listening(cluster_of(broker.url), sink) as stream:
            start_worker(broker, "solo")
            stream.enable_now()
            publish(broker, "add", 1, 2, count=3)
            wait_for(lambda: any(event["type"] == "worker-heartbeat" for event in sink.events))
            time.sleep(1.0)
            assert not [event for event in sink.events if event["type"].startswith("task")]


class TestWays:
    @pytest.mark.parametrize(
        "options",
        [
            {"global_keyprefix": "shop:"},
            {"fanout_prefix": "events-of-{db}."},
            {"fanout_prefix": False},
            {"fanout_patterns": False},
        ],
        ids=str,
    )
    def test_with_the_transport_options_of_the_application(
        self, redis_broker: Broker, options: dict[str, Any]
    ) -> None:
        sink = Recorder()
        cluster = cluster_of(redis_broker.url, broker_transport_options=options)
        with (
            listening(cluster, sink),
            sending(redis_broker, broker_transport_options=options) as send,
        ):
            wait_received(sink, send)

    def test_on_the_exchange_of_the_application(self, broker: Broker) -> None:
        app = Celery("shop", broker=broker.url, set_as_current=False)
        app.conf.event_exchange = "shopev"
        sink = Recorder()
        with (
            listening(cluster_of(broker.url, app), sink),
            sending(broker, event_exchange="shopev") as send,
        ):
            wait_received(sink, send)
        app.close()

    def test_over_tls(self, broker: Broker, tmp_path: Path) -> None:
        sink = Recorder()
        scheme, _, rest = broker.url.partition("://")
        assert broker.server.port
        with TlsFront(broker.server.port) as front:
            (tmp_path / "ca.pem").write_bytes(front.ca_pem)
            prefix = "ssl_" if broker.kind == "redis" else ""
            ssl_options = {
                f"{prefix}cert_reqs": "required",
                f"{prefix}ca_certs": str(tmp_path / "ca.pem"),
            }
            url = f"{scheme}s://{rest.replace(str(broker.server.port), str(front.port))}"
            with (
                listening(cluster_of(url, broker_ssl_options=ssl_options), sink),
                sending(broker) as send,
            ):
                sent = {send("task-failed", traceback="x" * 1000) for _ in range(2000)}
                wait_for(lambda: sink.ids() == sent)

    def test_with_a_user_and_password(self) -> None:
        with RedisServer(password="s3cr@t:/?#%") as server, server.namespace() as broker:
            sink = Recorder()
            with listening(cluster_of(broker.url), sink), sending(broker) as send:
                wait_received(sink, send)

    def test_through_sentinel(self, redis_broker: Broker) -> None:
        program, port, folder = find_redis(), free_port(), process_reaper().folder("s")
        (folder / "sentinel.conf").write_text(
            f"port {port}\nbind {HOST}\n"
            f"sentinel monitor mymaster {HOST} {redis_broker.server.port} 1\n"
        )
        sentinel = Child(
            "sentinel", [str(program), "sentinel.conf", "--sentinel"], os.environ, folder
        )
        sentinel.start()
        try:
            wait_for(lambda: redis.Redis(HOST, port).ping(), ignoring=(redis.ConnectionError,))
            sink = Recorder()
            url = f"sentinel://{HOST}:{port}/{redis_broker.namespace}"
            cluster = cluster_of(url, broker_transport_options={"master_name": "mymaster"})
            with listening(cluster, sink), sending(redis_broker) as send:
                wait_received(sink, send)
        finally:
            sentinel.remove()

    def test_over_the_file_system(self, tmp_path: Path) -> None:
        for name in ("messages", "control"):
            (tmp_path / name).mkdir()
        messages, control = str(tmp_path / "messages"), str(tmp_path / "control")
        options = {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": control,
        }
        broker, sink = Broker("filesystem", "filesystem://", "", None), Recorder()  # type: ignore[arg-type]
        cluster = cluster_of(broker.url, broker_transport_options=options)
        with listening(cluster, sink), sending(broker, broker_transport_options=options) as send:
            wait_received(sink, send)
        with sending(broker, broker_transport_options=options) as send:
            send()
        assert list((tmp_path / "messages").iterdir()) == []


class TestRefuses:
    def test_rejects_invalid_events_and_continues(self, broker: Broker) -> None:
        sink = Recorder(keep=False)
        bodies = [b"junk", b"null", b"[" * 5000, b"\xff\xfe", b" " * 10_000_000]
        with listening(cluster_of(broker.url), sink) as stream:
            send_raw(broker, bodies)
            send_raw(broker, [b"cos\nsystem\n."], "application/x-python-serialize")
            send_raw(broker, [b"junk"], "application/x-unknown")
            reasons = {"content_type": 1, "too_large": 1, "pickled_objects": 1}
            wait_for(lambda: sink.refused == reasons)
            wait_for(lambda: sink.messages == 4)
            time.sleep(2 * CANARY_EVERY)
            assert stream.up
            assert sink.connects == 1

    def test_rejects_messages_without_kombu_envelope(self, redis_broker: Broker) -> None:
        sink = Recorder(keep=False)
        with listening(cluster_of(redis_broker.url), sink), client(redis_broker) as writer:
            for data in (b"", b"junk", b"{}", b'{"body": 1}', b"\x00\xff", b"[" * 1000):
                writer.publish(f"/{redis_broker.namespace}.celeryev/x", data)
            wait_for(lambda: sink.refused == {"envelope": 6})
            assert sink.connects == 1


def send_raw(broker: Broker, bodies: list[bytes], kind: str = "application/json") -> None:
    """Publish messages as events, whatever is in them."""
    if broker.kind == "redis":
        with client(broker) as writer:
            for body in bodies:
                data = envelope(body, "celeryev", "task.x").replace(
                    b"application/json", kind.encode()
                )
                writer.publish(f"/{broker.namespace}.celeryev/task.x", data)
        return
    with Celery(
        "raw", broker=broker.url, set_as_current=False
    ).connection_for_write() as connection:
        producer = connection.Producer(auto_declare=False)
        for body in bodies:
            producer.publish(
                body,
                exchange="celeryev",
                routing_key="task.x",
                content_type=kind,
                content_encoding="utf-8",
            )


class TestLeavesNothing:
    def test_on_redis(self, redis_broker: Broker) -> None:
        with client(redis_broker) as watcher:

            def state() -> Any:
                names = [row["name"] for row in watcher.client_list()]
                return watcher.keys("*"), watcher.pubsub_numpat(), names.count("celery-vitals")

            before = state()
            cluster = cluster_of(redis_broker.url)
            with listening(cluster, Recorder()):
                assert state() == (before[0], before[1] + 1, 2)
                assert cluster.connections == 2
            wait_for(lambda: state() == before)

    @pytest.mark.parametrize("enable", [False, True])
    def test_on_rabbitmq(self, rabbitmq_broker: Broker, enable: bool) -> None:
        server = rabbitmq_broker.server
        assert isinstance(server, RabbitMQServer)

        def state() -> Any:
            names = ("queues", "exchanges", "bindings")
            return [server.api("GET", f"{name}/{rabbitmq_broker.namespace}") for name in names]

        before = state()
        with listening(cluster_of(rabbitmq_broker.url), Recorder(), enable_events=enable):
            (queue,) = state()[0]
            assert queue["name"].startswith("celeryev.celery-vitals.")
        wait_for(lambda: state() == before, interval=0.2)

    def test_of_the_exchange_when_others_use_it(self, rabbitmq_broker: Broker) -> None:
        sink = Recorder()
        with sending(rabbitmq_broker) as send:
            with listening(cluster_of(rabbitmq_broker.url), sink):
                wait_received(sink, send)
            with listening(cluster_of(rabbitmq_broker.url), sink):
                wait_received(sink, send)
