"""Lost and kept events: cut streams, restarts of broker and worker, durable event queues."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from tests.support.exporter import Exporter
from tests.support.servers import Broker, Fault, Proxy, Publisher, RabbitMQServer, Worker, wait_for
from tests.support.task_series import (
    FAST,
    SENT_EVENTS,
    StartWorker,
    event_stream_is_up,
    following,
    tasks_of,
    until,
    wait_heartbeats,
)

STARTED, SUCCEEDED = "celery_task_started_total", "celery_task_succeeded_total"
MISSED = "celery_exporter_events_missed_total"


def executed(worker: Worker) -> int:
    """Return the number of executed tasks in the log of a worker, over all its starts."""
    return worker.log.count("] succeeded in ")


@contextmanager
def watching_through_a_proxy(broker: Broker) -> Iterator[tuple[Exporter, Proxy]]:
    """Start an exporter behind a proxy that can cut its connections."""
    port = urlsplit(broker.url).port
    assert port
    with Proxy(port) as proxy, following(replace(broker, url=proxy.url(broker.url))) as exporter:
        yield exporter, proxy


def test_tasks_that_run_while_the_stream_is_cut_are_counted_as_missed(
    broker: Broker, start_worker: StartWorker
) -> None:
    start_worker(broker, "threads", "w", events=True, args=FAST)
    with (
        watching_through_a_proxy(broker) as (exporter, proxy),
        following(broker) as witness,  # its stream is never cut
        Publisher(broker, SENT_EVENTS) as publisher,
    ):
        # The worker's own count is compared from its first heartbeat on: no task may be in flight
        # then, since its started event can arrive before or after that heartbeat.
        wait_heartbeats(exporter, "w@test", 1)
        publisher.send("add", 1, 2, count=10)
        # These end, and two more start, while the stream is cut.
        publisher.send("sleep", 1.5, count=2)
        publisher.send("busy", 0.01, count=2)
        until(exporter, 2, "celery_task_running", task="project.sleep")
        until(exporter, 14, "celery_task_sent_total")
        wait_heartbeats(exporter, "w@test")
        proxy.fault = Fault.REFUSE
        wait_for(lambda: not event_stream_is_up(exporter))
        publisher.send("add", 1, 2, count=100)
        # A worker buffers events: only the witness shows that it has published the last of them.
        until(witness, 114, SUCCEEDED)
        proxy.fault = Fault.NONE
        wait_for(lambda: event_stream_is_up(exporter))
        until(
            exporter,
            114 - tasks_of(exporter).total(STARTED),
            MISSED,
            worker="w@test",
            event="start",
        )
        scrape = tasks_of(exporter)
        assert scrape.total(STARTED, task="project.add") == 10
        assert 100 <= scrape.total(MISSED, event="start") <= 102
        publisher.send("add", 1, 2, count=10)
        until(exporter, 20, SUCCEEDED, task="project.add")
        scrape = wait_heartbeats(exporter, "w@test", 3)
        assert scrape.total(STARTED) + scrape.total(MISSED, event="start") == 124
        assert scrape.total(SUCCEEDED) + scrape.total(MISSED, event="end") == 124
        assert scrape.total("celery_task_running") == 0
        assert scrape.series("celery_queue_oldest_message_timestamp_seconds") == {}
        assert witness.scrape().total(MISSED) == 0


def test_of_tasks_that_end_while_the_stream_is_cut_only_the_ends_are_missed(
    broker: Broker, start_worker: StartWorker
) -> None:
    start_worker(broker, "threads", "w", events=True, args=FAST)
    with (
        watching_through_a_proxy(broker) as (exporter, proxy),
        following(broker) as witness,  # its stream is never cut
        Publisher(broker, SENT_EVENTS) as publisher,
    ):
        wait_heartbeats(exporter, "w@test", 1)
        publisher.send("sleep", 6, count=2)
        until(exporter, 2, "celery_task_running", task="project.sleep")
        wait_heartbeats(exporter, "w@test", 1)
        proxy.fault = Fault.REFUSE
        wait_for(lambda: not event_stream_is_up(exporter))
        until(witness, 2, SUCCEEDED)
        assert tasks_of(exporter).total("celery_task_running") == 2
        proxy.fault = Fault.NONE
        wait_for(lambda: event_stream_is_up(exporter))
        until(exporter, 2, MISSED, worker="w@test", event="end")
        scrape = wait_heartbeats(exporter, "w@test")
        assert scrape.total_by("event", MISSED) == {"end": 2}
        assert (scrape.total(STARTED), scrape.total(SUCCEEDED)) == (2, 0)
        assert scrape.total("celery_task_running") == 0


def test_restarts_of_broker_and_worker_lose_no_task(own_broker: Broker) -> None:
    with (
        Worker(own_broker, "threads", "w", events=True, args=FAST) as worker,
        following(own_broker) as exporter,
    ):
        send(own_broker, 5)
        until(exporter, 5, SUCCEEDED)
        pid, wait = exporter.pid, wait_heartbeats(exporter, "w@test")
        assert wait.total(MISSED) == 0
        own_broker.server.kill()
        wait_for(lambda: not event_stream_is_up(exporter))
        own_broker.server.start()
        back = time.monotonic()
        wait_for(lambda: event_stream_is_up(exporter), 10)
        assert time.monotonic() - back < 10
        wait_heartbeats(exporter, "w@test", 1, 40)
        send(own_broker, 5)
        wait_for(lambda: executed(worker) == 10, 30)
        wait_for(lambda: all_counted(exporter, 10))
        assert tasks_of(exporter).total_by("queue", SUCCEEDED) == {"celery": 10}
        worker.stop()
        worker.start()
        send(own_broker, 10)
        wait_for(lambda: executed(worker) == 20)
        wait_for(lambda: all_counted(exporter, 20))
        assert exporter.pid == pid
        assert exporter.child.alive
        assert "level=error" not in exporter.log


def send(broker: Broker, count: int) -> None:
    with Publisher(broker) as publisher:
        publisher.send("add", 1, 2, count=count)


def all_counted(exporter: Exporter, expected: int) -> bool:
    """Check that started and missed tasks add up to the executed ones."""
    scrape = tasks_of(exporter)
    started, missed = scrape.total(STARTED), scrape.total(MISSED, event="start")
    assert started + missed == expected, (
        f"{started:g} counted and {missed:g} missed, not {expected}"
    )
    ended, missed = scrape.total(SUCCEEDED), scrape.total(MISSED, event="end")
    assert ended + missed == expected, f"{ended:g} counted and {missed:g} missed, not {expected}"
    return True


@pytest.fixture
def exporters(rabbitmq_broker: Broker) -> Iterator[list[Exporter]]:
    """Two replicas that share a queue of events; not started."""
    both = [
        Exporter.of(rabbitmq_broker, "--no-collector.backend", "--event-queue", "shared")
        for _ in range(2)
    ]
    yield both
    for exporter in both:
        exporter.__exit__(None, None, None)


def test_a_queue_of_events_outlives_the_exporter(
    rabbitmq_broker: Broker, exporters: list[Exporter]
) -> None:
    exporter = exporters[0].start()
    wait_for(lambda: event_stream_is_up(exporter))
    with Worker(rabbitmq_broker, "threads", "w", events=True, args=FAST) as worker:
        exporter.kill()
        with Publisher(rabbitmq_broker, SENT_EVENTS) as publisher:
            publisher.send("sleep", 0.2, count=50)
        wait_for(lambda: executed(worker) == 50)
        ended = time.time()
        time.sleep(7)  # longer than what could be taken for the way of an event
        exporter.start()
        scrape = until(exporter, 50, SUCCEEDED, task="project.sleep", queue="celery")
        assert scrape.total("celery_task_sent_total") == 50
        assert scrape.total(STARTED) == 50
        assert scrape.total("celery_task_queue_wait_seconds_count") == 50
        last = scrape.value("celery_task_last_succeeded_timestamp_seconds", task="project.sleep")
        assert last == pytest.approx(ended, abs=1)
        offset = wait_heartbeats(exporter, "w@test").value(
            "celery_worker_clock_offset_seconds", worker="w@test"
        )
        assert offset == pytest.approx(0, abs=1)
        assert tasks_of(exporter).total(MISSED) == 0


def test_of_two_replicas_on_one_queue_one_reads_and_the_other_takes_over(
    rabbitmq_broker: Broker, exporters: list[Exporter]
) -> None:
    reader, standby = (exporter.start() for exporter in exporters)
    wait_for(lambda: event_stream_is_up(reader) and event_stream_is_up(standby))
    with (
        Worker(rabbitmq_broker, "threads", "w", events=True, args=FAST),
        Publisher(rabbitmq_broker, SENT_EVENTS) as publisher,
    ):
        publisher.send("add", 1, 2, count=20)
        wait_for(lambda: sum(tasks_of(one).total(SUCCEEDED) for one in (reader, standby)) == 20)
        if not tasks_of(reader).total(SUCCEEDED):
            reader, standby = standby, reader
        assert tasks_of(reader).total(SUCCEEDED) == 20
        assert tasks_of(standby).total(SUCCEEDED) == 0
        assert standby.scrape().value("celery_worker_up", worker="w@test") == 1
        reader.kill()
        publisher.send("add", 1, 2, count=30)
        until(standby, 30, SUCCEEDED, task="project.add", queue="celery")
        assert isinstance(rabbitmq_broker.server, RabbitMQServer)
        assert standby.stop() == 0
        names = [
            one["name"]
            for one in rabbitmq_broker.server.api("GET", f"queues/{rabbitmq_broker.namespace}")
        ]
        assert [name for name in names if "celeryev" in name] == ["celeryev.shared"]
