"""A busy cluster for the dashboards: workers, traffic, an exporter, and Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kombu import Connection, Queue

from tests.support.exporter import Exporter
from tests.support.servers import Broker, PrometheusServer, Publisher, Worker

SENT_EVENTS = {"task_send_sent_event": True}
JOB = "shop/any-name"
QUEUES = ("orders", "mail", "images")
LIMITS = {"orders": 200, "mail": 200, "images": 50, "reports": 100}


@dataclass
class Traffic:
    """Sends a steady mix of tasks from its own thread, until it is paused."""

    broker: Broker
    tick: float = 0.5
    failing: threading.Event = field(default_factory=threading.Event)
    """While set, orders fail."""
    unserved: threading.Event = field(default_factory=threading.Event)
    """While set, tasks are sent to `reports`, a queue without consumers."""
    _paused: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _idle: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send tasks at every tick until stopped."""
        with Publisher(self.broker, SENT_EVENTS) as publisher:
            publisher.send("fail", queue="orders", count=2)
            publisher.send("retry", queue="orders")
            publisher.send("sleep", 1.0, queue="images", countdown=3600.0)
            number = 0
            while not self._stopped.wait(self.tick):
                if self._paused.is_set():
                    self._idle.set()
                    continue
                self._idle.clear()
                self._send(publisher, number)
                number += 1

    def _send(self, publisher: Publisher, number: int) -> None:
        publisher.send("add", 1, 2, queue="orders", count=3)
        publisher.send("bill", queue="orders", count=1 + number % 3)
        publisher.send("sleep", 0.1 + 0.05 * (number % 7), queue="mail", count=2)
        if number % 2 == 0:
            publisher.send("late", 0.6 + 0.1 * (number % 9), queue="images")
        if self.failing.is_set():
            publisher.send("fail", queue="orders", count=2)
        if self.unserved.is_set():
            publisher.send("bill", queue="reports", count=4)

    def pause(self) -> None:
        """Stop sending; return when the current tick is over."""
        self._paused.set()
        self._idle.wait(10)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()


@dataclass(frozen=True)
class Shop:
    """A running cluster."""

    broker: Broker
    workers: dict[str, Worker]
    traffic: Traffic
    exporter: Exporter
    prometheus: PrometheusServer


@contextmanager
def shop(
    broker: Broker,
    interval: float = 1.0,
    replicas: Sequence[str] = ("127.0.0.1",),
    rules: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Shop]:
    """Start three workers, their three queues, and a fourth queue without consumers.

    Each name in `replicas` is scraped as a target of its own; all of them reach one exporter.
    """
    with ExitStack() as stack:
        with Connection(broker.url) as connection:
            Queue("reports")(connection.default_channel).declare()
        workers = {
            name: _worker(broker, name) for name in ("web-1@shop", "web-2@shop", "images@shop")
        }
        for worker in workers.values():
            stack.callback(worker.close)
            worker.launch()
        for worker in workers.values():
            worker.wait_ready()
        limits = [f"--queue-limit={name}={limit}" for name, limit in LIMITS.items()]
        exporter = stack.enter_context(Exporter.of(broker, "--queue", "reports", *limits))
        port = urlsplit(exporter.address).port
        targets = [f"{host}:{port}" for host in replicas]
        prometheus = stack.enter_context(
            PrometheusServer(targets, interval=interval, job=JOB, rules=rules)
        )
        traffic = Traffic(broker)
        sender = threading.Thread(target=traffic.run)
        stack.callback(sender.join)
        stack.callback(traffic.stop)
        sender.start()
        yield Shop(broker, workers, traffic, exporter, prometheus)


def _worker(broker: Broker, name: str) -> Worker:
    web = name.startswith("web")
    return Worker(
        broker,
        "threads" if web else "prefork",
        name,
        queues=("orders", "mail") if web else ("images",),
        concurrency=4 if web else 2,
        events=True,
        args=("--heartbeat-interval", "1"),
    )
