"""Replies to remote control of a real Celery worker, captured from the broker."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amqp import basic_message
from celery import Celery
from kombu import Connection

from benchmarks.support.processes import wait_for
from benchmarks.support.servers import Broker

METHODS = ("stats", "active_queues")
TICKET = "5e5e5e5e-0000-4000-8000-5e5e5e5e5e5e"
"""The ticket in the samples; it has the length of a real one."""
_ASKER = "6f6f6f6f-0000-4000-8000-6f6f6f6f6f6f"


@dataclass(frozen=True)
class Sample:
    """One reply."""

    body: Any
    """The reply without the worker's name."""
    envelope: bytes
    """The parts of the message around the body.

    Redis: the message, with %(ticket)s, %(exchange)s, %(key)s and %(body)s where messages differ;
    RabbitMQ: the serialized properties, with TICKET in them.
    """


def capture(broker: Broker, worker: str) -> Mapping[str, Sample]:
    """Send the commands to a worker and return its replies by command."""
    with (
        Celery(broker=broker.url, set_as_current=False) as app,
        Connection(broker.url) as connection,
    ):
        mailbox = app.control.mailbox(connection)
        mailbox.__dict__["oid"] = _ASKER  # a cached property
        queue = mailbox.get_reply_queue()(connection.default_channel)
        queue.declare()
        take = _from_redis if broker.kind == "redis" else _from_rabbitmq
        samples = {}
        for method in METHODS:
            mailbox._publish(
                method,
                {},
                destination=[worker],
                reply_ticket=TICKET,
                channel=connection.default_channel,
            )
            samples[method] = take(broker, connection, queue.name, worker)
        queue.delete()
        return samples


def _from_redis(broker: Broker, _: Connection, queue: str, worker: str) -> Sample:
    with broker.client() as client:
        taken: Any = client.brpop([queue], timeout=4)
    message = json.loads(taken[1])
    body = json.loads(base64.b64decode(message["body"]))[worker]
    message["body"] = "@body"
    message["headers"]["ticket"] = "@ticket"
    message["properties"]["delivery_info"] |= {"exchange": "@exchange", "routing_key": "@key"}
    text = json.dumps(message).replace("%", "%%")
    for place in ("body", "ticket", "exchange", "key"):
        text = text.replace(f'"@{place}"', f'"%({place})s"')
    return Sample(body, text.encode())


def _from_rabbitmq(_: Broker, connection: Connection, queue: str, worker: str) -> Sample:
    message = wait_for(
        lambda: connection.default_channel.basic_get(queue, no_ack=True),
        what="the reply of a worker",
    )
    properties = basic_message.Message("", **message.properties)._serialize_properties()
    if TICKET.encode() not in properties:
        raise RuntimeError("the reply has no ticket")
    return Sample(json.loads(message.body)[worker], properties)
