"""The event stream: a backlog, invalid and unordered events, workers without events, shutdown."""

from __future__ import annotations

import datetime
import pickle
import re
import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.exporter import Exporter
from tests.support.servers import Broker, Publisher, RedisServer, Worker, publish, wait_for
from tests.support.task_series import (
    FAST,
    SENT_EVENTS,
    Events,
    StartWorker,
    event,
    event_stream_is_up,
    following,
    tasks_of,
    until,
    writing,
)

BACKLOG = 12_000


def test_a_backlog_is_counted_under_its_queue_with_its_waits(
    broker: Broker, start_worker: StartWorker
) -> None:
    with following(broker) as exporter:
        with Publisher(broker, SENT_EVENTS) as publisher:
            publisher.send("add", 1, 2, queue="bulk", count=BACKLOG)
        until(exporter, BACKLOG, "celery_task_sent_total", queue="bulk")
        start_worker(broker, "threads", queues=("bulk", "other"), events=True)
        scrape = until(exporter, BACKLOG, "celery_task_succeeded_total", timeout=60, queue="bulk")
        for what in ("received", "started", "succeeded"):
            assert scrape.total_by("queue", f"celery_task_{what}_total") == {"bulk": BACKLOG}
        assert scrape.total_by("queue", "celery_task_queue_wait_seconds_count") == {"bulk": BACKLOG}
        assert scrape.total_by("queue", "celery_task_runtime_seconds_count") == {"bulk": BACKLOG}
        assert scrape.total("celery_exporter_events_missed_total") == 0
        assert scrape.value("celery_exporter_tasks_in_flight_evicted_total") == 0
        wait_for(lambda: tasks_of(exporter).value("celery_exporter_tasks_in_flight") == 0, 10)


@pytest.fixture(scope="module")
def exporter(module_broker: Broker) -> Iterator[Exporter]:
    """An exporter that receives events of the test itself."""
    with following(module_broker) as exporter:
        yield exporter


@pytest.fixture(scope="module")
def events(module_broker: Broker) -> Iterator[Events]:
    with writing(module_broker) as events:
        yield events


def test_broken_events_are_counted_by_reason_and_the_others_with_them(
    module_broker: Broker, exporter: Exporter, events: Events
) -> None:
    good = event("task-received", "good", name="hand.good")
    events.write(event("task-started"), event("task-started", "x", hostname=""))
    events.write(event("task-exploded", "x"), {"uuid": "x", "hostname": "y"})
    events.write(
        event("worker-heartbeat") | {"hostname": None}, event("task-failed", "x") | {"uuid": None}
    )
    events.write(
        event("task-received", "x", name=["a"]), event("task-received", "x") | {"timestamp": "now"}
    )
    for body in (b"", b"5", b"{", b'"text"', b"null", b"\xff\xfe", b"[" * 5000, b'{"type": NaN}'):
        events.raw(body)
    pickled = {**good, "at": datetime.date(2026, 1, 2)}
    events.raw(pickle.dumps(pickled), "application/x-python-serialize")
    events.raw(b"\xc1", "application/x-msgpack")
    events.raw(b"good", "text/plain")
    events.write([event("task-sent", "good", name="hand.good", queue="q"), {"type": 1}, good])  # type: ignore[arg-type]
    events.raw(b'{"type": "task-sent", "args": "' + b"x" * 10_000_000 + b'"}')
    expected = {
        "no_uuid": 1,
        "no_hostname": 1,
        "unknown_type": 1,
        "content_type": 1,
        "pickled_objects": 1,
        "undecodable": 1,
        "too_large": 1,
    }
    if isinstance(module_broker.server, RedisServer):
        expected["envelope"] = 2
        with module_broker.server.client() as client:
            for data in (b"no message", b'{"body": 5}'):
                client.publish(f"/{module_broker.namespace}.celeryev/task.raw", data)
    scrape = until(exporter, 1, "celery_task_received_total", task="hand.good", queue="q")
    for reason in ("envelope", "too_large"):  # what comes last, by each of the two ways
        until(
            exporter,
            expected.get(reason, 0),
            "celery_exporter_events_rejected_total",
            reason=reason,
        )
    rejected = tasks_of(exporter).total_by("reason", "celery_exporter_events_rejected_total")
    undecoded = rejected.pop("malformed", 0), rejected.pop("not_json", 0)
    assert rejected == expected
    assert sum(undecoded) == 14  # what is no JSON, and what is JSON and no event
    assert undecoded[1] >= 3
    assert scrape.by("type", "celery_exporter_events_received_total")["task-received"] == 1
    assert event_stream_is_up(exporter)
    # Reported once for each reason, in the log and on the page; not a type of the application's.
    logged = re.findall(r"events are rejected \((\w+)\)", exporter.log)
    assert sorted(logged) == sorted({*expected, "malformed", "not_json"} - {"unknown_type"})
    assert scrape.value("celery_exporter_blind_spot", subject="rejected_events") == 1
    page = exporter.get("/")[1]
    assert "1 because their pickle contains objects" in page
    assert "level=error" not in exporter.log
    assert "Traceback" not in exporter.log


def test_events_in_any_order_make_one_task(exporter: Exporter, events: Events) -> None:
    events.write(event("task-sent", "first", name="hand.any", queue="right"))
    now = time.time()
    story = [
        event("task-received", "any", name="hand.any", timestamp=now),
        event("task-started", "any", timestamp=now + 0.01),
        event("task-succeeded", "any", runtime=0.5, timestamp=now + 0.51),
        event("task-sent", "any", name="hand.any", queue="right", timestamp=now - 0.1),
    ]
    events.write(*story)
    scrape = until(exporter, 1, "celery_task_succeeded_total", task="hand.any")
    for what in ("received", "started", "succeeded"):
        assert scrape.total_by("queue", f"celery_task_{what}_total", task="hand.any") == {
            "right": 1
        }
    assert scrape.total("celery_task_queue_wait_seconds_count", task="hand.any") == 1
    assert scrape.total("celery_task_queue_wait_seconds_sum", task="hand.any") == pytest.approx(
        0.11, abs=0.05
    )


def test_timestamps_are_never_in_the_future(exporter: Exporter, events: Events) -> None:
    future = time.time() + 3e9
    events.write(event("task-received", "future", name="hand.future", timestamp=future))
    events.write(event("task-succeeded", "future", runtime=1e9, timestamp=future))
    scrape = until(exporter, 1, "celery_task_succeeded_total", task="hand.future")
    last = scrape.value("celery_task_last_succeeded_timestamp_seconds", task="hand.future")
    assert last is not None
    assert last < time.time() + 1


def test_unusual_task_names_are_escaped_or_dropped(exporter: Exporter, events: Events) -> None:
    before = tasks_of(exporter).total("celery_task_received_total")
    odd = ['quote"', "back\\slash", "new\nline", "ünï", "", None, "\x00", "x" * 100_000, "\ud800"]
    for number, name in enumerate(odd):
        events.write(event("task-received", f"odd{number}", name=name, hostname="odd@test"))
    scrape = tasks_of(exporter)
    wait_for(
        lambda: tasks_of(exporter).total("celery_task_received_total") >= before + len(odd) - 1
    )
    scrape = tasks_of(exporter)
    names = scrape.total_by("task", "celery_task_received_total")
    assert names["_other"] == 1
    assert {'quote"', "back\\slash", "new\nline", "ünï"} <= set(names)
    assert max(map(len, names)) <= 200
    assert max(map(len, scrape.by("task", "celery_task_running"))) <= 200
    assert exporter.scrape().status == 200


def test_workers_without_task_events_are_listed_and_enabled_on_request(
    broker: Broker, start_worker: StartWorker
) -> None:
    start_worker(broker, "threads", "eventless", queues=("eventless",), args=FAST)
    with following(broker) as exporter:
        wait_for(
            lambda: "eventless@test" in exporter.scrape().by("worker", "celery_worker_active_tasks")
        )
        publish(broker, "add", 1, 2, queue="eventless", count=20)
        publish(broker, "fail", queue="eventless", count=5)
        wait_for(
            lambda: (
                tasks_of(exporter).value("celery_worker_task_events", worker="eventless@test") == 0
            )
        )
        scrape = exporter.scrape()
        accepted = scrape.total_by(
            "task", "celery_worker_tasks_accepted_total", worker="eventless@test"
        )
        assert accepted == {"project.add": 20, "project.fail": 5}
        assert scrape.value("celery_exporter_blind_spot", subject="task_events") == 1
        assert scrape.total("celery_exporter_events_missed_total") == 0
        _, page = exporter.get("/")
        assert "eventless@test" in page
        assert "--enable-events" in page
        assert "Task events are off at eventless@test" in page
        with following(broker, "--enable-events") as asking:
            check_enabled(broker, asking, "eventless")
            start_worker(broker, "threads", "later", queues=("later",), args=FAST)
            check_enabled(broker, asking, "later")
        events_on = {"eventless@test": 1.0, "later@test": 1.0}
        wait_for(lambda: tasks_of(exporter).by("worker", "celery_worker_task_events") == events_on)
        wait_for(
            lambda: (
                exporter.scrape().value("celery_exporter_blind_spot", subject="task_events") is None
            )
        )


def check_enabled(broker: Broker, exporter: Exporter, name: str) -> None:
    """The tasks of a worker come to be counted, under its queue."""

    def counted() -> bool:
        publish(broker, "sleep", 0.0, queue=name)
        exporter.scrape()
        return (
            tasks_of(exporter).total(
                "celery_task_succeeded_total", task="project.sleep", queue=name
            )
            > 0
        )

    wait_for(counted, 10, interval=0.5)


def test_offline_event_sets_worker_down_and_late_results_do_not_revive_it(
    broker: Broker, start_worker: StartWorker
) -> None:
    worker: Worker = start_worker(broker, "prefork", "w", events=True)
    with following(broker) as exporter:
        wait_for(lambda: exporter.scrape().value("celery_worker_up", worker="w@test") == 1)
        publish(broker, "sleep", 5, count=2)
        until(exporter, 2, "celery_task_running", task="project.sleep")
        worker.child.send_signal(signal.SIGTERM)
        wait_for(lambda: exporter.scrape().value("celery_worker_up", worker="w@test") == 0, 3)
        assert worker.alive
        assert tasks_of(exporter).total("celery_task_succeeded_total") == 0
        scrape = until(exporter, 2, "celery_task_succeeded_total")
        assert scrape.value("celery_task_running", task="project.sleep") == 0
        wait_for(lambda: not worker.alive)
        for _ in range(3):
            assert exporter.scrape().value("celery_worker_up", worker="w@test") == 0
            time.sleep(0.3)
