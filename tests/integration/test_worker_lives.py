"""Workers that end, are killed, come back, or share a name; and beat, which is none."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.scraping import LocalExporter, local_exporter, state
from tests.support.servers import Beat, Broker, Publisher, Worker, publish, wait_for
from tests.support.task_series import FAST

StartWorker = Callable[..., Worker]


def event_stream_is_up(local: LocalExporter) -> None:
    """Wait for the stream of events."""
    wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)


def test_worker_in_warm_shutdown_finishes_its_tasks_and_stays_down(
    broker: Broker, start_worker: StartWorker
) -> None:
    with local_exporter(broker) as local:
        event_stream_is_up(local)
        worker = start_worker(broker, "prefork", "leaving", events=True, args=FAST)
        publish(broker, "sleep", 6, count=2)
        wait_for(
            lambda: local.scrape().value("celery_worker_active_tasks", worker="leaving@test") == 2
        )
        wait_for(lambda: local.scrape().value("celery_task_running", task="project.sleep") == 2)
        worker.child.send_signal(signal.SIGTERM)
        wait_for(lambda: state(local.scrape(), "leaving") == "draining")
        scrape = local.scrape()
        assert scrape.value("celery_worker_up", worker="leaving@test") == 0
        seen_last = scrape.series("celery_worker_last_seen_timestamp_seconds")
        sign = {dict(labels)["source"]: at for labels, at in seen_last.items()}
        assert sign["farewell"] >= sign["heartbeat"]
        assert scrape.value("celery_task_running", task="project.sleep") == 2
        task = {"task": "project.sleep", "queue": "celery"}
        seen: list[str] = []

        def both_have_ended() -> bool:
            scrape = local.scrape()
            seen.append(state(scrape, "leaving"))
            assert scrape.value("celery_worker_up", worker="leaving@test") == 0
            return scrape.value("celery_task_succeeded_total", **task) == 2

        wait_for(both_have_ended, 30.0)
        wait_for(lambda: state(local.scrape(), "leaving") == "gone")
        assert set(seen) <= {"draining", "gone"}
        assert "gone" not in seen[:-2]
        last = local.scrape()
        assert last.value("celery_worker_up", worker="leaving@test") == 0
        assert last.value("celery_task_running", task="project.sleep") == 0


def test_tasks_of_a_killed_worker_are_not_running_once_it_is_down(
    broker: Broker, start_worker: StartWorker
) -> None:
    with local_exporter(broker, worker_timeout=3) as local:
        event_stream_is_up(local)
        start_worker(broker, "solo", "well", queues=("well",), args=FAST)
        worker = start_worker(broker, "prefork", "killed", events=True, args=FAST)
        publish(broker, "sleep", 600, count=2)
        wait_for(lambda: local.scrape().value("celery_task_running", task="project.sleep") == 2)
        worker.kill()
        wait_for(lambda: state(local.scrape(), "killed") == "gone")
        wait_for(lambda: local.scrape().value("celery_task_running", task="project.sleep") == 0)
        assert local.scrape().value("celery_worker_restarts_total", worker="killed@test") == 0
        worker.start()
        wait_for(lambda: state(local.scrape(), "killed") == "up")
        restarts = "celery_worker_restarts_total"
        wait_for(lambda: local.scrape().value(restarts, worker="killed@test") == 1)
        scrape = local.scrape()
        assert scrape.value("celery_worker_instances", worker="killed@test") == 1
        assert scrape.value("celery_task_running", task="project.sleep") == 0
        assert scrape.value("celery_worker_processed_total", worker="killed@test") == 0


PER_WORKER = (
    "celery_worker_up",
    "celery_exporter_events_missed_total",
    "celery_worker_task_events",
    "celery_worker_clock_offset_seconds",
)


def test_a_pod_that_vanishes_is_forgotten_with_its_tasks(
    broker: Broker, start_worker: StartWorker
) -> None:
    with local_exporter(broker, worker_timeout=3, worker_forget_after=6) as local:
        event_stream_is_up(local)
        start_worker(broker, "solo", "well", queues=("well",), args=FAST)
        pod = start_worker(broker, "prefork", "web-7d9f-abcde", events=True, args=FAST)
        publish(broker, "sleep", 600)
        wait_for(lambda: local.scrape().value("celery_task_running", task="project.sleep") == 1)
        wait_for(lambda: all("web" in str(local.scrape().series(name)) for name in PER_WORKER))
        pod.kill()
        wait_for(lambda: local.scrape().value("celery_task_running", task="project.sleep") == 0)

        def forgotten() -> bool:
            scrape = local.scrape()
            assert scrape.value("celery_task_running", task="project.sleep") == 0
            return not any("web" in str(scrape.series(name)) for name in PER_WORKER)

        wait_for(forgotten, 30.0)
        time.sleep(2.0)  # the events are compared with the registry once a second
        assert forgotten()


def test_tasks_of_a_frozen_worker_are_running_again_after_it_resumes(
    redis_broker: Broker, start_worker: StartWorker
) -> None:
    with local_exporter(redis_broker, worker_timeout=3) as local:
        event_stream_is_up(local)
        start_worker(redis_broker, "solo", "well", queues=("well",), args=FAST)
        worker = start_worker(redis_broker, "prefork", "frozen", events=True, args=FAST)
        publish(redis_broker, "sleep", 600, count=2)
        wait_for(lambda: local.scrape().value("celery_task_running", task="project.sleep") == 2)
        worker.freeze()
        wait_for(lambda: state(local.scrape(), "frozen") == "gone")
        wait_for(lambda: local.scrape().value("celery_task_running", task="project.sleep") == 0)
        worker.thaw()
        wait_for(lambda: state(local.scrape(), "frozen") == "busy")
        wait_for(lambda: local.scrape().value("celery_task_running", task="project.sleep") == 2)
        assert local.scrape().value("celery_worker_restarts_total", worker="frozen@test") == 0


def test_workers_that_share_a_name_are_a_blind_spot_and_keep_counters_correct(
    broker: Broker, start_worker: StartWorker
) -> None:
    with local_exporter(broker) as local, Publisher(broker) as publisher:
        event_stream_is_up(local)
        # By default a second worker of this name does not start on RabbitMQ, since Celery 5.7.
        twin: dict[str, Any] = {
            "events": True,
            "args": FAST,
            "conf": {"control_queue_exclusive": False},
        }
        first = start_worker(broker, "threads", "twin", queues=("first",), **twin)
        publisher.send("add", 1, 2, queue="first", count=30)
        wait_for(
            lambda: local.scrape().value("celery_worker_processed_total", worker="twin@test") == 30
        )
        assert local.scrape().value("celery_worker_instances", worker="twin@test") == 1
        assert not local.collector.status().blind_spots
        start_worker(broker, "threads", "twin", queues=("second",), **twin)
        for _ in range(3):
            publisher.run("add", 1, 2, queue="second")
        wait_for(lambda: local.scrape().value("celery_worker_instances", worker="twin@test") == 2)
        counts = {
            local.scrape().value("celery_worker_processed_total", worker="twin@test")
            for _ in range(20)
        }
        assert counts <= {30, 3}
        assert len(counts) == 1
        scrape = local.scrape()
        assert (scrape.value("celery_worker_restarts_total", worker="twin@test") or 0) <= 1
        assert scrape.value("celery_exporter_blind_spot", subject="worker_names") == 1
        (spot,) = [
            spot for spot in local.collector.status().blind_spots if spot.subject == "worker_names"
        ]
        assert "twin@test" in spot.reason
        beats = set[float | None]()

        def several_beats() -> bool:
            source = {"worker": "twin@test", "source": "heartbeat"}
            beats.add(local.scrape().value("celery_worker_last_seen_timestamp_seconds", **source))
            return len(beats) > 8

        wait_for(several_beats, 30.0)
        assert local.scrape().total("celery_exporter_events_missed_total", worker="twin@test") == 0
        first.kill()
        wait_for(lambda: local.scrape().value("celery_worker_instances", worker="twin@test") == 1)


@pytest.mark.parametrize("kind", ["switch", "setting"])
def test_beat_answers_ping_and_is_no_worker(
    broker: Broker, start_worker: StartWorker, kind: str
) -> None:
    conf = {"beat_schedule": {}, "beat_enable_remote_control": kind == "setting"}
    start_worker(broker, "solo", "one", args=FAST)
    args = ["--enable-remote-control"] if kind == "switch" else []
    with Beat(broker, conf, args), Publisher(broker) as publisher, local_exporter(broker) as local:
        control, connection = publisher.app.control, publisher._connection

        def both_answer() -> bool:
            answers = control.ping(connection=connection, timeout=1.0)
            return {name.partition("@")[0] for answer in answers for name in answer} == {
                "one",
                "celerybeat",
            }

        wait_for(both_answer)
        for _ in range(5):
            scrape = local.scrape()
            assert set(scrape.by("worker", "celery_worker_up")) == {"one@test"}
        assert scrape.seconds < 2.0
        assert state(scrape, "one") == "up"
        assert scrape.value("celery_queue_workers", queue="celery") == 1
