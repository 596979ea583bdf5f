"""Messages that leave a queue without an event: purged, expired in the broker, or rejected."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from celery import Celery
from kombu import Connection

from tests.support.scrape import Scrape
from tests.support.scraping import LocalExporter, lengths, local_exporter
from tests.support.servers import Broker, Publisher, Worker, queues_conf, wait_for
from tests.support.task_series import SENT_EVENTS

OLDEST = "celery_queue_oldest_message_timestamp_seconds"
IN_FLIGHT = "celery_exporter_tasks_in_flight"
QUEUE = "waiting"


@pytest.fixture(autouse=True)
def confirmed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_vitals.events.waiting_tasks._CONFIRMED_AFTER", 2.0)


@pytest.fixture
def local(broker: Broker) -> Iterator[LocalExporter]:
    with local_exporter(broker, queues=(QUEUE,)) as local:
        wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
        yield local


def aged(local: LocalExporter, count: int) -> Scrape:
    """The first scrape after the sent events of so many tasks."""

    def scraped() -> Scrape | None:
        scrape = local.scrape()
        return scrape if scrape.value(IN_FLIGHT) == count else None

    scrape = wait_for(scraped)
    assert scrape is not None
    assert OLDEST in scrape.text
    return scrape


def purge(broker: Broker) -> None:
    with Celery(broker=broker.url, set_as_current=False).connection_for_write() as connection:
        connection.default_channel.queue_purge(QUEUE)


def test_purged_queue_has_no_oldest_message(broker: Broker, local: LocalExporter) -> None:
    with Publisher(broker, SENT_EVENTS) as publisher:
        publisher.send("add", 1, 2, queue=QUEUE, count=5)
        first = aged(local, 5).value(OLDEST, queue=QUEUE)
        purge(broker)
        scrape = local.scrape()
        assert lengths(scrape)[QUEUE] == 0
        assert scrape.value(OLDEST, queue=QUEUE) is None
        publisher.send("add", 1, 2, queue=QUEUE, count=2)
        second = wait_for(lambda: local.scrape().value(OLDEST, queue=QUEUE))
        assert second > first  # type: ignore[operator]
        wait_for(lambda: local.scrape().value(IN_FLIGHT) == 2)


def test_queue_that_is_purged_and_filled_between_two_scrapes(
    broker: Broker, local: LocalExporter
) -> None:
    with Publisher(broker, SENT_EVENTS) as publisher:
        publisher.send("add", 1, 2, queue=QUEUE, count=5)
        aged(local, 5)
        purge(broker)
        sent_after = time.time()
        publisher.send("add", 1, 2, queue=QUEUE, count=20)

        def of_the_present() -> float | None:
            oldest = local.scrape().value(OLDEST, queue=QUEUE)
            return oldest if oldest is not None and oldest >= sent_after else None

        oldest = wait_for(of_the_present)
        wait_for(lambda: local.scrape().value(IN_FLIGHT) == 20)
        assert local.scrape().value(OLDEST, queue=QUEUE) == oldest


def test_tasks_that_workers_hold_keep_their_age(broker: Broker, local: LocalExporter) -> None:
    worker = Worker(broker, "threads", concurrency=1, queues=(QUEUE,), events=True)
    try:
        worker.start()
        with Publisher(broker, SENT_EVENTS) as publisher:
            publisher.send("late", 60, queue=QUEUE, count=10)
            wait_for(lambda: local.scrape().by("queue", "celery_queue_length").get(QUEUE) == 6)
            purge(broker)

            def held() -> bool:
                scrape = local.scrape()
                # One runs and three are prefetched.
                return (
                    scrape.value(IN_FLIGHT) == 4 and scrape.value(OLDEST, queue=QUEUE) is not None
                )

            wait_for(held)
    finally:
        worker.close()


def test_vanished_queue_has_no_oldest_message(rabbitmq_broker: Broker) -> None:
    with (
        local_exporter(rabbitmq_broker) as local,
        Publisher(rabbitmq_broker, SENT_EVENTS) as publisher,
    ):
        wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
        publisher.send("add", 1, 2, queue=QUEUE, count=5)
        aged(local, 5)
        with Connection(rabbitmq_broker.url) as connection:
            connection.default_channel.queue_delete(QUEUE)
        scrape = local.scrape()
        assert lengths(scrape) == {}
        assert scrape.series(OLDEST) == {}
        wait_for(lambda: local.scrape().value(IN_FLIGHT) == 0)


@pytest.mark.parametrize("by_queue", [True, False])
def test_messages_that_expire_in_the_broker(rabbitmq_broker: Broker, by_queue: bool) -> None:
    conf = {**SENT_EVENTS, **(queues_conf(QUEUE, **{"x-message-ttl": 3000}) if by_queue else {})}
    with (
        local_exporter(rabbitmq_broker, queues=(QUEUE,)) as local,
        Publisher(rabbitmq_broker, conf) as publisher,
    ):
        wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
        options = {} if by_queue else {"expiration": 3.0}
        publisher.send("add", 1, 2, queue=QUEUE, count=5, **options)
        aged(local, 5)
        wait_for(lambda: lengths(local.scrape())[QUEUE] == 0)
        assert local.scrape().value(OLDEST, queue=QUEUE) is None
        wait_for(lambda: local.scrape().value(IN_FLIGHT) == 0)


def test_task_that_rejects_itself_without_late_acknowledgement_ends(
    broker: Broker, local: LocalExporter
) -> None:
    conf = {"task_annotations": {"project.reject": {"acks_late": False}}}
    worker = Worker(broker, "solo", queues=(QUEUE,), events=True, conf=conf)
    try:
        worker.start()
        with Publisher(broker, SENT_EVENTS) as publisher:
            publisher.send("reject", queue=QUEUE, count=5)

            def rejected() -> bool:
                scrape = local.scrape()
                running = scrape.value("celery_task_running", task="project.reject")
                return (
                    running == scrape.value(IN_FLIGHT) == 0
                    and scrape.value(
                        "celery_task_rejected_total", task="project.reject", queue=QUEUE
                    )
                    == 5
                )

            wait_for(rejected)
    finally:
        worker.close()
