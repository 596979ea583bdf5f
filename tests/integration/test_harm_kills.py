"""A broker after many scrapes and many exporters that were killed: nothing is more than before.

`make test-harm` takes the full numbers, and a real minute.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest
import urllib3

from tests.support.broker_inventory import client_of, inventory
from tests.support.exporter import Exporter
from tests.support.servers import Broker, RabbitMQServer, Worker, wait_for

StartWorker = Callable[..., Worker]

FULL = "HARM_FULL" in os.environ
SCRAPES, KILLS = (1000, 50) if FULL else (100, 5)
MINUTE = 60.0
REGISTRY = b"celery-vitals.mailboxes"
"""The one key on Redis that stays for a while: it identifies the mailbox of a killed exporter."""

pytestmark = pytest.mark.timeout(1800 if FULL else 180)


def test_after_many_scrapes_and_kills(broker: Broker, start_worker: StartWorker) -> None:
    worker = start_worker(broker, "threads", events=True)
    before = held(broker)
    scrape_and_kill(broker, worker)
    let_a_minute_pass(broker)
    with Exporter.of(broker) as next_one:
        assert next_one.scrape().value("celery_worker_replied", worker="threads@test") == 1
        assert next_one.stop() == 0
    wait_for(lambda: held(broker) == before, MINUTE, interval=0.5)


def test_with_a_queue_that_keeps_events(rabbitmq_broker: Broker, start_worker: StartWorker) -> None:
    worker = start_worker(rabbitmq_broker, "threads", events=True)
    before = held(rabbitmq_broker)
    scrape_and_kill(rabbitmq_broker, worker, "--event-queue", "kept")

    def one_queue_more() -> bool:
        after = held(rabbitmq_broker)
        name = "celeryev.kept"
        added = {"queues": {name}, "bindings": {("", name, name), ("celeryev", name, "#")}}
        return after == before | {what: before[what] | more for what, more in added.items()}

    wait_for(one_queue_more, MINUTE, interval=0.5)
    server = rabbitmq_broker.server
    assert isinstance(server, RabbitMQServer)
    kept = server.api("GET", f"queues/{rabbitmq_broker.namespace}/celeryev.kept")
    assert kept["arguments"]["x-expires"] > 0


def scrape_and_kill(broker: Broker, worker: Worker, *arguments: str) -> None:
    """Run exporters one after the other, each with its share of the scrapes, each killed as it
    waits for a reply, which arrives after its end.
    """
    for _ in range(KILLS):
        with Exporter.of(broker, *arguments) as exporter:
            wait_for(partial(event_stream_is_up, exporter))
            for _ in range(SCRAPES // KILLS):
                assert exporter.scrape().value("celery_worker_replied", worker="threads@test") == 1
            scrape = threading.Thread(target=scrape_in_vain, args=(exporter,))
            with frozen(worker):
                scrape.start()
                time.sleep(0.2)
                exporter.kill()
            scrape.join()


@contextmanager
def frozen(worker: Worker) -> Iterator[None]:
    worker.freeze()
    try:
        yield
    finally:
        worker.thaw()


def event_stream_is_up(exporter: Exporter) -> bool:
    return exporter.scrape().value("celery_exporter_event_stream_up") == 1


def scrape_in_vain(exporter: Exporter) -> None:
    with suppress(urllib3.exceptions.HTTPError, OSError):
        exporter.scrape()


def let_a_minute_pass(broker: Broker) -> None:
    """The time after which a mailbox on Redis has no owner."""
    if broker.kind != "redis":
        return
    if FULL:
        time.sleep(MINUTE)
        return
    with client_of(broker) as client:
        entries: Any = client.zrange(REGISTRY, 0, -1, withscores=True)
        assert len(entries) == KILLS
        client.zadd(REGISTRY, {name: at - MINUTE for name, at in entries})


def held(broker: Broker) -> dict[str, Any]:
    """What the broker holds, without the key that expires."""
    found = inventory(broker)
    if broker.kind == "redis" and REGISTRY in found["keys"]:
        with client_of(broker) as client:
            assert client.ttl(REGISTRY) > 0
        found["keys"].remove(REGISTRY)
        del found["sorted"][REGISTRY]
    return found
