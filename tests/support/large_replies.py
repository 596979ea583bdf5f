"""Programs on the broker that answer remote control with large messages, and what that costs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import psutil
from kombu import Connection, Consumer, Exchange, Message, Producer, Queue
from typing_extensions import Self

from celery_vitals.third_party.celery_internals import event_exchange
from tests.support.servers import Broker

MIB = 1024 * 1024


class LargeReplier:
    """Answers every command `count` times with a JSON object of `size` bytes, on a thread."""

    def __init__(self, broker: Broker, size: int, count: int = 1, **publishing: Any) -> None:
        self.replied = 0
        self._url = broker.url
        self._body = json.dumps({"large@test": {"total": {"x" * size: 1}}}).encode()
        self._count = count
        self._publishing = publishing
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with Connection(self._url) as connection:
            exchange = Exchange("celery.pidbox", type="fanout", durable=False)
            queue = Queue("large@test.celery.pidbox", exchange, durable=False, auto_delete=True)
            producer = Producer(connection)

            def reply(message: Message) -> None:
                request = json.loads(message.body)
                for _ in range(self._count):
                    producer.publish(
                        self._body,
                        exchange="",
                        routing_key=request["reply_to"]["routing_key"],
                        headers={"ticket": request["ticket"]},
                        content_type="application/json",
                        content_encoding="utf-8",
                        **self._publishing,
                    )
                    self.replied += 1

            with Consumer(connection, [queue], on_message=reply, no_ack=True):
                while not self._stop.is_set():
                    with suppress(TimeoutError):
                        connection.drain_events(timeout=0.2)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(30)


class Memory:
    """The memory of a process in MiB."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = 0.0

    @property
    def now(self) -> float:
        """Its resident memory."""
        return float(self._process.memory_info().rss) / MIB

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure the peak meanwhile."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.01):
                self.peak = max(self.peak, self.now)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def publish_event(broker: Broker, size: int) -> None:
    """Publish one event of `size` bytes."""
    event = {"type": "task-sent", "uuid": "large", "hostname": "large@test", "name": "x" * size}
    with Connection(broker.url) as connection:
        exchange = event_exchange(connection, "celeryev")
        Producer(connection).publish(
            json.dumps(event).encode(),
            exchange=exchange,
            declare=[exchange],
            routing_key="task.sent",
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=1,
        )
