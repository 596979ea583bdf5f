"""Ends that no program reports elsewhere, of workers of every pool."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chord

from tests.support.exporter import Exporter
from tests.support.servers import Broker, Publisher, Worker, wait_for
from tests.support.task_series import FAST, SENT_EVENTS, StartWorker, following, tasks_of, until

POOLS = ("prefork", "threads", "gevent", "solo")


@pytest.fixture(scope="module", params=POOLS)
def exporter_and_publisher(
    request: pytest.FixtureRequest, module_broker: Broker
) -> Iterator[tuple[Exporter, Publisher]]:
    """An exporter that knows the settings of the tasks of one worker, and a publisher."""
    with (
        Worker(module_broker, request.param, events=True, conf=SENT_EVENTS, args=FAST),
        Publisher(module_broker, SENT_EVENTS) as publisher,
        following(module_broker, "--min-interval", "0") as exporter,
    ):

        def settings_known() -> bool:
            publisher.send("retry", 0)  # permits two
            return exporter.scrape().total("celery_task_retries_exhausted_total") > 0

        wait_for(settings_known, 30.0, interval=1.0)
        yield exporter, publisher


def test_each_silent_end_has_its_counter(
    exporter_and_publisher: tuple[Exporter, Publisher],
) -> None:
    exporter, publisher = exporter_and_publisher
    publisher.send("nowhere")
    publisher.send("requeue")
    publisher.send("reject")
    publisher.send("late", 1, countdown=2, expires=1)
    scrape = until(exporter, 1, "celery_task_unregistered_total", task="project.nowhere")
    producers = scrape.total_by("producer", "celery_task_unregistered_total")
    assert producers == {platform.node(): 1}
    until(exporter, 1, "celery_task_requeued_total", task="project.requeue")
    until(exporter, 1, "celery_task_succeeded_total", task="project.requeue")
    until(exporter, 1, "celery_task_rejected_total", task="project.reject")
    scrape = until(exporter, 1, "celery_task_revoked_total", task="project.late", reason="expired")
    assert scrape.total("celery_task_requeued_total") == 1
    assert scrape.total("celery_task_failed_total", task="project.requeue") == 0


def test_retries_that_are_exhausted(exporter_and_publisher: tuple[Exporter, Publisher]) -> None:
    exporter, publisher = exporter_and_publisher
    publisher.send("autoretry")  # permits one, by retry_kwargs
    publisher.send("fail")  # permits three, and is not retried
    until(exporter, 1, "celery_task_failed_total", task="project.autoretry")
    scrape = until(exporter, 1, "celery_task_failed_total", task="project.fail")
    exhausted = scrape.total_by("task", "celery_task_retries_exhausted_total")
    assert exhausted.keys() == {"project.retry", "project.autoretry"}
    assert exhausted["project.autoretry"] == 1


def test_a_chord_is_polled_until_its_tasks_have_ended(
    broker: Broker, start_worker: StartWorker, tmp_path: Path
) -> None:
    backend = {"result_backend": f"file://{tmp_path}"}  # which cannot count the tasks of a chord
    start_worker(broker, "threads", "polling", events=True, conf=backend, args=FAST)
    with following(broker) as exporter, Publisher(broker, backend) as publisher:
        assert tasks_of(exporter).value("celery_chord_unlock_max_retries") is None
        header = [publisher.app.signature("project.sleep", (6,))]
        body = publisher.app.signature("project.bill", (), immutable=True)
        chord(header, body, app=publisher.app).apply_async(interval=0.5)
        seen: list[float] = []

        def ended() -> bool:
            scrape = tasks_of(exporter)
            seen.append(scrape.value("celery_chord_unlock_max_retries") or 0)
            return scrape.total("celery_task_succeeded_total", task="project.bill") == 1

        wait_for(ended, 30.0)
        assert max(seen) >= 3
        until(exporter, 0, "celery_chord_unlock_max_retries")
