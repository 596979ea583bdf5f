"""The series of tasks as the tests read them, and an exporter that follows the events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery.events.event import get_exchange
from kombu import Connection, Producer

from tests.support.exporter import Exporter
from tests.support.scrape import Scrape
from tests.support.servers import Broker, Worker, wait_for

StartWorker = Callable[..., Worker]

SENT_EVENTS = {"task_send_sent_event": True}
"""Celery setting: producers send task-sent events."""


FAST = ("--heartbeat-interval", "1")
"""Arguments of a worker whose heartbeats the test waits for."""


def tasks_of(exporter: Exporter) -> Scrape:
    """Scrape the collector `tasks`, which sends no request."""
    return exporter.scrape(collect="tasks")


def until(
    exporter: Exporter, expected: float, name: str, timeout: float = 15.0, **labels: str
) -> Scrape:
    """The first scrape in which the series with these labels add up to `expected`."""
    seen: list[Scrape] = []

    def there() -> bool:
        seen[:] = [tasks_of(exporter)]
        value = seen[0].total(name, **labels)
        assert value == expected, f"{name} {labels} is {value:g}, not {expected:g}"
        return True

    wait_for(there, timeout, interval=0.1)
    return seen[0]


def event_stream_is_up(exporter: Exporter) -> bool:
    """Whether the stream of events is up."""
    return tasks_of(exporter).value("celery_exporter_event_stream_up") == 1


@contextmanager
def following(broker: Broker, *arguments: str) -> Iterator[Exporter]:
    """Start an exporter that receives events and has probed the workers."""
    with Exporter.of(broker, "--no-collector.backend", *arguments) as exporter:
        wait_for(lambda: event_stream_is_up(exporter))
        exporter.scrape()
        yield exporter


def wait_heartbeats(
    exporter: Exporter, worker: str, count: int = 2, timeout: float = 20.0
) -> Scrape:
    """Wait for so many more heartbeats of a worker; the scrape after the last."""
    times: set[float] = set()

    def beaten() -> Scrape | None:
        scrape = exporter.scrape()
        seen = scrape.value(
            "celery_worker_last_seen_timestamp_seconds", worker=worker, source="heartbeat"
        )
        times.update([seen] if seen is not None else [])
        return scrape if len(times) > count else None

    scrape = wait_for(beaten, timeout, what=f"{count} heartbeats of {worker}", interval=0.2)
    assert scrape is not None
    return scrape


class Events:
    """Writes events by hand, where workers write theirs."""

    def __init__(self, connection: Connection) -> None:
        self._producer = Producer(connection.channel(), get_exchange(connection), auto_declare=True)

    def raw(self, body: bytes, content_type: str = "application/json") -> None:
        """A message of this body."""
        self._producer.publish(
            body,
            routing_key="task.raw",
            content_type=content_type,
            content_encoding="utf-8",
            delivery_mode=1,
        )

    def write(self, *events: dict[str, Any]) -> None:
        """A message for each event."""
        for event in events:
            self.raw(json.dumps(event).encode())


def event(kind: str, uuid: str = "", hostname: str = "hand@test", **fields: Any) -> dict[str, Any]:
    """An event as Celery would send it now."""
    return {
        "type": kind, "uuid": uuid, "hostname": hostname, "pid": 1, "clock": 1, "utcoffset": 0,
        "timestamp": time.time(), **fields,
    }  # fmt: skip


@contextmanager
def writing(broker: Broker) -> Iterator[Events]:
    """Write events on a broker."""
    with Connection(broker.url) as connection:
        yield Events(connection)
