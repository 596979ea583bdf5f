"""A receiver of events that shares no code with the exporter."""

from __future__ import annotations

import base64
import json
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
import redis
from typing_extensions import Self

from tests.support.servers import Broker, wait_for

ENDS = ("task-succeeded", "task-failed", "task-retried", "task-rejected", "task-revoked")


@dataclass(frozen=True)
class TaskEvent:
    """What the comparison requires of an event."""

    kind: str
    worker: str
    pid: int
    at: float
    requeue: bool = False


@dataclass
class Process:
    """What the heartbeats of a worker process show."""

    last_seen: float = 0.0
    last_start: float = 0.0
    active: int = 0
    """Tasks that run, by its last heartbeat."""


class Recorder(ABC):
    """Receives in a thread of its own, and connects again after an error."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.tasks: dict[str, list[TaskEvent]] = {}
        """The started events and the ends of each task id, in the order of arrival."""
        self.kinds: Counter[str] = Counter()
        self.processes: dict[tuple[str, int], Process] = {}
        self.connected = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    @property
    def ended(self) -> int:
        """How many executions ended."""
        return sum(self.kinds[kind] for kind in ENDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with suppress(OSError, redis.RedisError, amqp.AMQPError):
                for event in self._events():
                    self._add(event)
            self.connected.clear()
            self._stopping.wait(0.05)

    @abstractmethod
    def _events(self) -> Iterator[dict[str, Any]]:
        """Connect, set `connected`, yield events until stopped."""

    def _add(self, event: dict[str, Any]) -> None:
        kind, worker, pid = event["type"], event.get("hostname", ""), event.get("pid", 0)
        self.kinds[kind] += 1
        if kind.startswith("worker-"):
            process = self.processes.setdefault((worker, pid), Process())
            process.last_seen = time.time()
            process.active = event.get("active") or 0
        elif kind == "task-started" or kind in ENDS:
            at, requeue = event["timestamp"], bool(event.get("requeue"))
            one = TaskEvent(kind, worker, pid, at, requeue)
            self.tasks.setdefault(event["uuid"], []).append(one)
            if kind == "task-started":
                self.processes.setdefault((worker, pid), Process()).last_start = time.time()

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(self.connected.is_set, 15.0, what="the recorder connected")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10.0)


class RedisRecorder(Recorder):
    """Subscribes to the channels of the events."""

    def _events(self) -> Iterator[dict[str, Any]]:
        client = redis.Redis.from_url(self.broker.url, socket_timeout=5.0)
        with client, client.pubsub() as pubsub:
            pubsub.psubscribe(f"/{self.broker.namespace}.celeryev/*")
            while not self._stopping.is_set():
                message = pubsub.get_message(timeout=0.5)
                if message is None:
                    continue
                if message["type"] != "pmessage":
                    self.connected.set()
                    continue
                yield from _content(
                    json.loads(base64.b64decode(json.loads(message["data"])["body"]))
                )


class RabbitMQRecorder(Recorder):
    """Binds a queue to the exchange of the events."""

    def _events(self) -> Iterator[dict[str, Any]]:
        url = urlsplit(self.broker.url)
        received: list[bytes] = []
        with amqp.Connection(
            f"{url.hostname}:{url.port}",
            userid=unquote(url.username or ""),
            password=unquote(url.password or ""),
            virtual_host=unquote(url.path[1:]),
            connect_timeout=5.0,
        ) as connection:
            channel = connection.channel()
            channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
            queue = channel.queue_declare(exclusive=True).queue
            channel.queue_bind(queue, "celeryev", "#")
            channel.basic_consume(
                queue, no_ack=True, callback=lambda message: received.append(message.body)
            )
            self.connected.set()
            while not self._stopping.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.5)
                while received:
                    yield from _content(json.loads(received.pop(0)))


def _content(content: Any) -> list[dict[str, Any]]:
    """Return the events of a message, which has one or a list of them."""
    return content if isinstance(content, list) else [content]


def recorder_of(broker: Broker) -> Recorder:
    """Return a recorder for a broker."""
    return (RedisRecorder if broker.kind == "redis" else RabbitMQRecorder)(broker)
