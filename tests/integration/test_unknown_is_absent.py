"""Values that nothing reports are absent, not 0, and a blind spot names the setting."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.exporter import Exporter
from tests.support.scraping import LocalExporter, local_exporter
from tests.support.servers import Broker, Publisher, Worker, publish, wait_for
from tests.support.task_series import FAST, SENT_EVENTS, following, until

StartWorker = Callable[..., Worker]
NO_CONTROL = {"worker_enable_remote_control": False}


def worker_is_up(local: LocalExporter, name: str) -> bool:
    return local.scrape().value("celery_worker_up", worker=name) == 1


def test_a_worker_without_remote_control_may_consume_any_queue(
    broker: Broker, start_worker: StartWorker
) -> None:
    publish(broker, "add", 1, 2, queue="unserved", count=3)
    with local_exporter(broker) as local:
        wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
        start_worker(broker, "solo", "silent", conf=NO_CONTROL, args=FAST)
        wait_for(lambda: worker_is_up(local, "silent@test"))
        wait_for(lambda: "worker_replies" in local.blind_spots())
        scrape = local.scrape()
        assert scrape.by("queue", "celery_queue_workers") == {}
        assert scrape.by("queue", "celery_queue_slots") == {}
        assert scrape.value("celery_queue_length", queue="unserved") == 3
        assert {queue.workers for queue in local.collector.status().queues} == {None}
        assert "silent@test" in local.blind_spots()["worker_replies"]
        start_worker(broker, "solo", "known", queues=("known",), args=FAST)
        wait_for(lambda: local.scrape().by("queue", "celery_queue_workers") == {"known": 1})


def test_consumers_without_events_and_remote_control_are_not_denied(
    rabbitmq_broker: Broker, start_worker: StartWorker
) -> None:
    """RabbitMQ counts them."""
    publish(rabbitmq_broker, "add", 1, 2, queue="unserved", count=3)
    start_worker(rabbitmq_broker, "solo", "silent", conf=NO_CONTROL, heartbeat=False)
    with local_exporter(rabbitmq_broker) as local:
        wait_for(lambda: local.scrape().value("celery_queue_consumers", queue="celery") == 1)
        assert local.scrape().by("queue", "celery_queue_workers") == {"unserved": 0}


def sent_events_are_missing(exporter: Exporter) -> bool:
    return exporter.scrape().value("celery_exporter_blind_spot", subject="sent_events") == 1


def test_tasks_of_producers_without_sent_events_are_not_counted_as_sent(
    broker: Broker, start_worker: StartWorker
) -> None:
    start_worker(broker, "threads", "one", events=True, args=FAST)
    with following(broker) as exporter:
        publish(broker, "add", 1, 2, count=20)
        scrape = until(exporter, 20, "celery_task_received_total", task="project.add")
        assert scrape.series("celery_task_sent_total") == {}
        wait_for(lambda: sent_events_are_missing(exporter))
        page = exporter.get("/")[1]
        assert "<code>task_send_sent_event = True</code>" in page
        assert "for project.add:" in page
        with Publisher(broker, SENT_EVENTS) as publisher:
            publisher.send("add", 1, 2, count=5)
        until(exporter, 5, "celery_task_sent_total", task="project.add")
        wait_for(lambda: not sent_events_are_missing(exporter))


def test_no_series_has_an_empty_worker(broker: Broker, start_worker: StartWorker) -> None:
    start_worker(broker, "threads", "one", events=True, args=FAST)
    with following(broker, "--task-labels", "worker") as exporter:
        publish(broker, "add", 1, 2, count=3, conf=SENT_EVENTS)
        scrape = until(exporter, 3, "celery_task_succeeded_total", task="project.add")
        assert scrape.total_by("worker", "celery_task_succeeded_total") == {"one@test": 3}
        assert scrape.total("celery_task_sent_total") == 3
        assert 'worker=""' not in scrape.text
