"""Event messages of a real Celery worker and producer, captured from the broker."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from amqp import basic_message
from kombu import Connection, Consumer, Exchange, Queue
from kombu.utils.json import dumps

from benchmarks.support.servers import Broker
from benchmarks.support.workers import Worker, publishing_app

TYPES = (
    "task-sent",
    "task-received",
    "task-started",
    "task-succeeded",
    "task-failed",
    "worker-heartbeat",
)
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Envelope:
    """The parts of a message around its body.

    Redis: the text before and after the base64 body; RabbitMQ: the serialized properties.
    """

    address: str
    """The topic on Redis, the routing key on RabbitMQ."""
    head: bytes
    tail: bytes = b""


@dataclass(frozen=True)
class Samples:
    """Templates of events."""

    texts: Mapping[str, str]
    """JSON text by type of event, with `%(field)s` where events differ."""
    envelopes: Mapping[str, Envelope]
    """By type of event.

    Events with the same envelope may share a message, except task-sent and the heartbeat.
    """


@dataclass(frozen=True)
class _Message:
    body: bytes
    envelope: Envelope


def capture(broker: Broker) -> Samples:
    """Run a worker and two tasks, and capture the published events."""
    texts: dict[str, str] = {}
    envelopes: dict[str, Envelope] = {}
    with (
        _subscribed(broker) as receive,
        Worker(broker, "solo", "capture@bench", events=True) as worker,
    ):
        worker.wait_consuming()
        with publishing_app(broker, task_send_sent_event=True) as app:
            app.send_task("bench.add", (2, 2))
            app.send_task("bench.fail")
        until = time.monotonic() + _TIMEOUT
        while set(texts) != set(TYPES):
            if time.monotonic() > until:
                raise RuntimeError(f"the worker published no {set(TYPES) - set(texts)}")
            message = receive()
            if message is None:
                continue
            content = json.loads(message.body)
            if dumps(content).encode() != message.body:
                raise RuntimeError("an event does not survive encoding again")
            for event in content if isinstance(content, list) else [content]:
                # Replies to the control command have no counts.
                if event["type"] in TYPES and (
                    event["type"] != "worker-heartbeat" or "processed" in event
                ):
                    texts.setdefault(event["type"], _template(event))
                    envelopes.setdefault(event["type"], message.envelope)
    return Samples(texts, envelopes)


def _template(event: Mapping[str, Any]) -> str:
    """Return the text of an event with placeholders for the fields that differ."""
    quoted = {
        "uuid": "uuid",
        "root_id": "uuid",
        "name": "name",
        "queue": "queue",
        "routing_key": "queue",
    }
    quoted |= {"hostname": "host", "exception": "exception"}
    bare = {"timestamp": "timestamp", "active": "active", "processed": "processed"}
    places = {**quoted, **bare}
    text: str = dumps(
        {key: f"@{places[key]}" if key in places else value for key, value in event.items()}
    )
    text = text.replace("%", "%%")
    for place in quoted.values():
        text = text.replace(f'"@{place}"', f'"%({place})s"')
    for place in bare.values():
        text = text.replace(f'"@{place}"', f"%({place})s")
    return text


Receive = Callable[[], "_Message | None"]


@contextmanager
def _subscribed(broker: Broker) -> Iterator[Receive]:
    """Yield a function that returns the next message of events, or None after a timeout."""
    with (_on_redis if broker.kind == "redis" else _on_rabbitmq)(broker) as receive:
        yield receive


@contextmanager
def _on_redis(broker: Broker) -> Iterator[Receive]:
    with broker.client() as client, client.pubsub() as subscription:
        subscription.psubscribe(f"/{broker.database}.celeryev/*")

        def receive() -> _Message | None:
            found = subscription.get_message(ignore_subscribe_messages=True, timeout=0.5)
            if not found or found["type"] != "pmessage":
                return None
            body = json.loads(found["data"])["body"]
            head, tail = found["data"].split(body.encode(), 1)
            return _Message(base64.b64decode(body), Envelope(found["channel"].decode(), head, tail))

        receive()
        yield receive


@contextmanager
def _on_rabbitmq(broker: Broker) -> Iterator[Receive]:
    found: list[_Message] = []

    def take(message: Any) -> None:
        properties = basic_message.Message("", **message.properties)._serialize_properties()
        body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
        found.append(_Message(body, Envelope(message.delivery_info["routing_key"], properties)))

    exchange = Exchange("celeryev", "topic")
    queue = Queue("", exchange, routing_key="#", exclusive=True, auto_delete=True)
    with (
        Connection(broker.url) as connection,
        Consumer(connection, [queue], no_ack=True, on_message=take),
    ):

        def receive() -> _Message | None:
            try:
                if not found:
                    connection.drain_events(timeout=0.5)
            except TimeoutError:
                return None
            return found.pop(0) if found else None

        yield receive
