"""Queues whose names change with each process: of a Broadcast, direct ones, those of events."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.utils.nodenames import worker_direct
from kombu import Queue
from kombu.common import Broadcast

from celery_vitals.brokers.target import target_of
from celery_vitals.settings import Settings
from tests.support.scrape import Scrape
from tests.support.scraping import local_exporter
from tests.support.servers import Broker, Publisher, Worker, publish, wait_for

StartWorker = Callable[..., Worker]

BROADCASTS = ({"name": "news"}, {"name": "alerts", "queue": "unique", "unique": True})


def producer(broker: Broker) -> Publisher:
    """Return a producer whose queues have names of its own, as each process of an app has."""
    queues = [Queue("celery"), *(Broadcast(**given) for given in BROADCASTS)]
    return Publisher(broker, {"task_queues": queues, "task_send_sent_event": True})


def queues_in(scrape: Scrape) -> set[str]:
    """Return the values of the label `queue`, over all series."""
    return set(re.findall(r'queue="([^"]*)"', scrape.text))


def test_queues_of_processes_count_under_the_names_that_they_share(
    broker: Broker, start_worker: StartWorker
) -> None:
    conf: dict[str, Any] = {"broadcasts": BROADCASTS, "worker_direct": True}
    with local_exporter(broker, max_queue_names=5) as local:
        wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
        for name in ("one", "two"):
            start_worker(broker, "solo", name, queues=(), events=True, conf=conf)
        wait_for(lambda: local.scrape().value("celery_queue_workers", queue="alerts") == 2)
        for number in range(4):
            with producer(broker) as publisher:
                publisher.send("add", 1, 2, queue="news")
                publisher.send("add", 1, 2, queue="alerts")
                publisher.send("add", 1, 2, queue=worker_direct(f"celery@pod-{number}"))
                publisher.send("add", 1, 2, queue="celery")
        sent = {"news": 4, "alerts": 4, "C.dq2": 4, "celery": 4}

        def all_sent() -> bool:
            found = local.scrape().by("queue", "celery_task_sent_total")
            assert found == sent
            return True

        wait_for(all_sent)
        direct = {"one@test.dq2", "two@test.dq2"}
        for _ in range(3):  # the broker is scanned again
            scrape = local.scrape()
            assert queues_in(scrape) <= {*sent, *direct, "unknown"}
            assert set(scrape.by("queue", "celery_queue_length")) == {"celery", *direct}
            assert scrape.by("queue", "celery_queue_workers") == {
                **dict.fromkeys(direct, 1),
                **dict.fromkeys(("celery", "news", "alerts"), 2),
            }
            assert scrape.value("celery_worker_consumed_queues", worker="one@test") == 4


@pytest.mark.parametrize("exclusive", [True, False])
def test_queues_of_events_and_control_have_any_prefix(
    broker: Broker, start_worker: StartWorker, exclusive: bool
) -> None:
    conf = {
        "event_queue_prefix": "shop",
        "event_exchange": "shop-events",
        "control_exchange": "shop",
        "event_queue_exclusive": exclusive,
        "control_queue_exclusive": exclusive,
    }
    start_worker(broker, "solo", "gossiping", gossip=True, mingle=True, conf=conf)
    publish(broker, "add", 1, 2, queue="emails")
    with local_exporter(broker) as local:
        wait_for(lambda: "emails" in local.scrape().by("queue", "celery_queue_length"))
        for _ in range(3):
            assert queues_in(local.scrape()) == {"celery", "emails"}


ROUTED = {"a": {"queue": "news"}, "b": "alerts", "c": {"queue": "emails"}}


def test_app_names_no_queue_of_its_own_process() -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.task_queues = [
        Queue("celery"),
        Queue("tenant.0f4a6b6e-2d0c-3b1e-9a4f-5d1c6f7e8a9b"),
        Broadcast("fixed", queue="same-for-all"),
        *(Broadcast(**given) for given in BROADCASTS),
    ]
    app.conf.task_routes = [{**ROUTED, "d": {"queue": Broadcast("other")}}]
    assert target_of(Settings(), app).queues == {
        "celery",
        "tenant.0f4a6b6e-2d0c-3b1e-9a4f-5d1c6f7e8a9b",
        "same-for-all",
        "emails",
    }
