"""A durable event queue on RabbitMQ: no event is lost, a second reader is on standby."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.event_streams import (
    CANARY_EVERY,
    SILENT_AFTER,
    Recorder,
    cluster_of,
    listening,
    sending,
)
from tests.support.servers import Broker, Fault, Proxy, RabbitMQServer, wait_for
from tests.support.servers.child import Child
from tests.support.servers.process_reaper import process_reaper


def queues(broker: Broker) -> dict[str, dict[str, Any]]:
    """The queues of a virtual host."""
    assert isinstance(broker.server, RabbitMQServer)
    return {row["name"]: row for row in broker.server.api("GET", f"queues/{broker.namespace}")}


@pytest.fixture
def reader(rabbitmq_broker: Broker) -> Iterator[Child]:
    folder = process_reaper().folder("reader")
    path = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    argv = [
        sys.executable,
        "-m",
        "tests.support.durable_reader",
        rabbitmq_broker.url,
        "vitals",
        str(folder / "seen"),
    ]
    child = Child("reader", argv, os.environ | path, folder)
    child.start()
    yield child
    child.remove()


def test_nothing_is_lost_when_the_reader_is_killed(rabbitmq_broker: Broker, reader: Child) -> None:
    seen = reader.folder / "seen"
    wait_for(lambda: "celeryev.vitals" in queues(rabbitmq_broker))
    with sending(rabbitmq_broker) as send:
        sent = [send() for _ in range(3000)]
        wait_for(lambda: seen.exists() and len(seen.read_text().split()) > 100)
        reader.kill()
        sent += [send() for _ in range(2000)]
        first = set(seen.read_text().split())
        assert len(first) < len(sent)
        sink = Recorder()
        with listening(cluster_of(rabbitmq_broker.url), sink, durable_queue="vitals"):
            wait_for(lambda: first | sink.ids() == set(sent))
            wait_for(
                lambda: queues(rabbitmq_broker)["celeryev.vitals"].get("messages") == 0,
                interval=0.2,
            )


def test_few_events_are_received_twice_after_a_cut_connection(rabbitmq_broker: Broker) -> None:
    """Also of events that come without a pause."""
    sink = Recorder()
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(rabbitmq_broker.server.port))
        send = stack.enter_context(sending(rabbitmq_broker))
        cluster = cluster_of(proxy.url(rabbitmq_broker.url))
        stream = stack.enter_context(listening(cluster, sink, durable_queue="vitals"))
        sent = []
        for number in range(400):
            sent.append(send())
            time.sleep(0.01)
            if number == 300:
                proxy.fault = Fault.REFUSE
        proxy.fault = Fault.NONE
        wait_for(lambda: stream.up and sink.ids() == set(sent))
    assert sink.connects >= 2
    assert (
        sum(times - 1 for times in Counter(event["uuid"] for event in sink.events).values()) < 100
    )


def test_arguments_bound_it(rabbitmq_broker: Broker) -> None:
    with listening(cluster_of(rabbitmq_broker.url), Recorder(), durable_queue="vitals"):
        row = queues(rabbitmq_broker)["celeryev.vitals"]
        assert row["durable"]
        assert not row["exclusive"]
        assert row["arguments"]["x-expires"] == row["arguments"]["x-message-ttl"] == 600_000
    assert list(queues(rabbitmq_broker)) == ["celeryev.vitals"]


def test_second_reader_is_on_standby_and_takes_over(rabbitmq_broker: Broker) -> None:
    first, second = Recorder(), Recorder()
    cluster, options = cluster_of(rabbitmq_broker.url), {"durable_queue": "vitals"}
    with ExitStack() as later, sending(rabbitmq_broker) as send:
        with listening(cluster, first, **options):
            standby = later.enter_context(
                listening(cluster_of(rabbitmq_broker.url), second, **options)
            )
            sent = {send() for _ in range(500)}
            wait_for(lambda: first.ids() == sent)
            time.sleep(SILENT_AFTER + CANARY_EVERY)
            assert standby.up
            assert (second.connects, second.events) == (1, [])
        more = {send() for _ in range(500)}
        wait_for(lambda: second.ids() == more)
