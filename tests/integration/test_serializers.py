"""Applications whose serializer is not JSON: their events are counted, their workers reply."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery

from tests.support.scraping import local_exporter
from tests.support.servers import Broker, Worker, publish, wait_for
from tests.support.task_series import FAST, SENT_EVENTS, event_stream_is_up, following, until

StartWorker = Callable[..., Worker]


@pytest.mark.parametrize("serializer", ["msgpack", "yaml", "pickle"])
def test_events_of_every_serializer_are_counted(
    broker: Broker, start_worker: StartWorker, serializer: str
) -> None:
    conf = {"event_serializer": serializer, **SENT_EVENTS}
    with following(broker) as exporter:
        start_worker(broker, conf=conf, events=True, args=FAST)
        publish(broker, "add", 1, 2, count=5, conf=conf)
        publish(broker, "fail", conf=conf)
        until(exporter, 6, "celery_task_sent_total", queue="celery")
        until(exporter, 5, "celery_task_succeeded_total", task="project.add", queue="celery")
        until(exporter, 1, "celery_task_failed_total", task="project.fail", exception="ValueError")
        scrape = exporter.scrape()
        assert scrape.series("celery_exporter_events_rejected_total") == {}
        assert scrape.value("celery_exporter_blind_spot", subject="rejected_events") is None
        assert scrape.value("celery_worker_up", worker="prefork@test") == 1
        assert event_stream_is_up(exporter)


def refusals(worker: Worker) -> int:
    """How many commands a worker has refused, one critical error each."""
    return worker.log.count("CRITICAL/")


def accepting(serializer: str) -> dict[str, object]:
    return {"accept_content": [serializer], "task_serializer": serializer}


def wait_for_mailboxes(broker: Broker, count: int, serializer: str = "json") -> None:
    """Wait until so many workers receive commands: on Redis they subscribe after they are ready."""
    with Celery("x", broker=broker.url, set_as_current=False) as app:
        app.conf.update(accepting(serializer))
        wait_for(lambda: len(app.control.ping(timeout=1)) == count)


@pytest.mark.parametrize("serializer", ["msgpack", "pickle", "application/x-msgpack"])
def test_with_app_workers_get_commands_that_they_accept(
    broker: Broker, start_worker: StartWorker, serializer: str
) -> None:
    name = serializer.rpartition("-")[2]
    conf = {"accept_content": [serializer], "task_serializer": name}
    app = Celery("x", set_as_current=False)
    app.conf.update(conf)
    root = {"C_FORCE_ROOT": "1"}  # for pickle
    workers = [start_worker(broker, "solo", one, conf=conf, env=root) for one in ("a", "b")]
    with local_exporter(broker, app, enable_events=True) as local:
        wait_for(
            lambda: local.scrape().by("worker", "celery_worker_up") == {"a@test": 1, "b@test": 1}
        )
        wait_for(lambda: all("enabled by remote" in worker.log for worker in workers))
        publish(broker, "add", 1, 2, count=3, conf=conf)

        def counted() -> bool:
            scrape = local.scrape()
            return (
                scrape.value("celery_queue_workers", queue="celery") == 2
                and scrape.by("worker", "celery_worker_pool_slots") == {"a@test": 1, "b@test": 1}
                and scrape.total("celery_task_succeeded_total") == 3
            )

        wait_for(counted)
        assert "workers" not in local.blind_spots()
    for worker in workers:
        assert "CRITICAL" not in worker.log
        assert "ERROR" not in worker.log


def test_without_app_a_refused_command_is_not_repeated(
    broker: Broker, start_worker: StartWorker
) -> None:
    workers = [
        start_worker(broker, "solo", one, conf=accepting("msgpack"), args=FAST) for one in "ab"
    ]
    wait_for_mailboxes(broker, 2, "msgpack")
    with local_exporter(broker, enable_events=True) as local:
        local.scrape()
        names = {"a@test": 1, "b@test": 1}
        wait_for(lambda: local.scrape().by("worker", "celery_worker_up") == names)
        for _ in range(5):
            scrape = local.scrape()
        assert [refusals(worker) for worker in workers] == [2, 2]
        assert scrape.seconds < 2
        assert scrape.value("celery_scrape_collector_success", collector="workers") == 1
        # What only replies show is absent.
        assert scrape.series("celery_queue_workers") == {}
        assert scrape.series("celery_worker_replied") == {}
        assert scrape.value("celery_exporter_blind_spot", subject="workers") == 1
        assert "do not accept it (accept_content)" in local.blind_spots()["workers"]


def test_after_a_restart_of_all_workers_commands_are_sent_again(
    broker: Broker, start_worker: StartWorker
) -> None:
    refusing = start_worker(broker, "solo", "a", conf=accepting("msgpack"), args=FAST)
    wait_for_mailboxes(broker, 1, "msgpack")
    with local_exporter(broker, worker_timeout=3, worker_forget_after=60) as local:
        local.scrape()
        wait_for(lambda: local.scrape().by("worker", "celery_worker_up") == {"a@test": 1})
        newer = start_worker(broker, "solo", "b", args=FAST)
        wait_for(
            lambda: local.scrape().by("worker", "celery_worker_up") == {"a@test": 1, "b@test": 1}
        )
        assert local.scrape().series("celery_queue_workers") == {}
        refusing.stop()
        wait_for(lambda: local.scrape().value("celery_queue_workers", queue="celery") == 1)
        assert refusals(refusing) == 2
        assert "CRITICAL" not in newer.log


def test_a_frozen_worker_answers_later(broker: Broker, start_worker: StartWorker) -> None:
    worker = start_worker(broker, "solo", heartbeat=False)
    wait_for_mailboxes(broker, 1)
    worker.freeze()
    with local_exporter(broker) as local:
        for _ in range(3):
            assert local.scrape().series("celery_queue_workers") == {}
        assert "busy or frozen" in local.blind_spots()["workers"]
        worker.thaw()
        wait_for(lambda: local.scrape().value("celery_queue_workers", queue="celery") == 1)
        assert "workers" not in local.blind_spots()


def test_workers_that_cannot_encode_their_statistics_are_up(
    broker: Broker, start_worker: StartWorker
) -> None:
    conf = accepting("yaml")
    app = Celery("x", set_as_current=False)
    app.conf.update(conf)
    worker = start_worker(broker, "solo", conf=conf)
    with local_exporter(broker, app) as local:
        wait_for(lambda: local.scrape().value("celery_worker_replied", worker="solo@test") == 1)
        for _ in range(3):
            scrape = local.scrape()
        assert scrape.value("celery_worker_up", worker="solo@test") == 1
        assert scrape.value("celery_queue_workers", queue="celery") == 1
        assert "worker_stats" in local.blind_spots()
        assert "Control command error" not in worker.log
