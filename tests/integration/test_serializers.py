"""Applications whose serializer is not JSON: their events are counted, their workers reply."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.servers import Broker, Worker, publish
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
