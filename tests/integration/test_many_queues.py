"""Many queues in one request: each has its own length, even if some are missing."""

from __future__ import annotations

from kombu import Connection, Exchange, Queue

from tests.support.exporter import Exporter
from tests.support.servers import Broker, Publisher

MANY = 120
MISSING = ("a_missing", "queue_050_missing", "queue_051_missing", "z_missing")


def test_each_has_its_own_length(broker: Broker) -> None:
    lengths = {f"queue_{number:03}": number % 4 for number in range(MANY)}
    with Publisher(broker) as publisher, Connection(broker.url) as connection:
        for name, length in lengths.items():
            Queue(name, Exchange(name), routing_key=name)(connection.default_channel).declare()
            publisher.send("add", 1, 2, queue=name, count=length)
    arguments = [part for name in MISSING for part in ("--queue", name)]
    with Exporter.of(broker, *arguments) as exporter:
        for _ in range(3):
            scrape = exporter.scrape()
            assert scrape.value("celery_scrape_collector_success", collector="queues") == 1
            found = scrape.by("queue", "celery_queue_length")
            # On Redis a queue without messages is not there at all, and one that is named reads 0.
            assert found == lengths | (dict.fromkeys(MISSING, 0) if broker.kind == "redis" else {})
