"""Transport options that the exporter is not given: lengths are right or absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from tests.support.scraping import lengths, local_exporter
from tests.support.servers import Broker, Worker, publish, wait_for

StartWorker = Callable[..., Worker]

UNACKED = "celery_queue_unacked_messages"
PRETIX = {
    "sep": ":",
    "priority_steps": list(range(10)),
    "queue_order_strategy": "priority",
}
"""The transport options of pretix."""


def send(broker: Broker, options: dict[str, Any], count: int = 5, queue: str = "waiting") -> None:
    """Send `count` messages at each priority; no worker consumes the queue."""
    conf = {"broker_transport_options": options}
    for priority in range(10):
        publish(broker, "add", 1, 2, queue=queue, count=count, priority=priority, conf=conf)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority_steps": list(range(10))},
        {"priority_steps": (0, 5)},
        {"priority_steps": [9, 6, 3, 0]},
        {"priority_steps": [0, 0, 7]},
        {"priority_steps": [4]},
    ],
)
def test_messages_at_all_priority_steps_are_counted_without_workers(
    redis_broker: Broker, options: dict[str, Any]
) -> None:
    send(redis_broker, options)
    with local_exporter(redis_broker) as local:
        assert lengths(local.scrape()) == {"waiting": 50}


@pytest.mark.parametrize(
    "options",
    [
        PRETIX,
        {"sep": ":"},
        {"sep": "*[?]"},
        {"sep": "\\", "priority_steps": (0, 2)},
    ],
)
def test_options_that_workers_report_apply(
    redis_broker: Broker, start_worker: StartWorker, options: dict[str, Any]
) -> None:
    start_worker(redis_broker, "solo", conf={"broker_transport_options": options})
    send(redis_broker, options)
    with local_exporter(redis_broker) as local:
        wait_for(lambda: lengths(local.scrape()) == {"celery": 0, "waiting": 50})
        assert "queue_discovery" not in local.blind_spots()


@pytest.mark.parametrize("queues", [(), ("waiting",)])
def test_another_separator_without_workers_is_a_blind_spot(
    redis_broker: Broker, queues: tuple[str, ...]
) -> None:
    send(redis_broker, PRETIX)
    with local_exporter(redis_broker, queues=queues) as local:
        assert lengths(local.scrape()) == {}
        assert "separator" in local.blind_spots()["queue_length"]
    with local_exporter(
        redis_broker, queues=queues, broker_transport_options={"sep": ":"}
    ) as local:
        assert lengths(local.scrape()) == {"waiting": 50}
        assert "queue_length" not in local.blind_spots()


def test_another_prefix_is_a_blind_spot(redis_broker: Broker) -> None:
    options = {"global_keyprefix": "shop:"}
    send(redis_broker, options)
    with local_exporter(redis_broker, queues=("waiting", "never-used")) as local:
        assert lengths(local.scrape()) == {"never-used": 0}
        assert "prefix" in local.blind_spots()["queue_length"]
    send(redis_broker, {}, count=1)  # another application of the same database
    with local_exporter(redis_broker, queues=("waiting",)) as local:
        assert lengths(local.scrape()) == {"waiting": 10}
        assert "queue_length" not in local.blind_spots()
    with local_exporter(redis_broker, broker_transport_options=options) as local:
        assert lengths(local.scrape()) == {"waiting": 50}


def test_workers_with_other_separators_than_each_other(
    redis_broker: Broker, start_worker: StartWorker
) -> None:
    for name, options in (("one", {}), ("two", PRETIX)):
        conf = {"broker_transport_options": options}
        start_worker(redis_broker, "solo", name, queues=(name,), conf=conf)
        send(redis_broker, options, queue=f"of-{name}")
    with local_exporter(redis_broker) as local:
        expected = {"one": 0, "two": 0, "of-one": 50, "of-two": 50}
        wait_for(lambda: lengths(local.scrape()) == expected)


class TestUnacked:
    OPTIONS: ClassVar = {
        "unacked_key": "held",
        "unacked_index_key": "held_index",
        "visibility_timeout": 77,
    }

    def test_are_counted_under_the_keys_of_the_workers(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        conf = {"broker_transport_options": self.OPTIONS}
        start_worker(redis_broker, "threads", conf=conf)
        publish(redis_broker, "late", 60, count=3, conf=conf)
        with local_exporter(redis_broker) as local:
            wait_for(lambda: local.scrape().value(UNACKED, queue="celery") == 3)
            assert local.scrape().value("celery_broker_visibility_timeout_seconds") == 77

    def test_are_absent_where_workers_disagree(
        self, redis_broker: Broker, start_worker: StartWorker
    ) -> None:
        for name, options in (("one", self.OPTIONS), ("two", {})):
            conf = {"broker_transport_options": options}
            start_worker(redis_broker, "solo", name, conf=conf)
        with local_exporter(redis_broker) as local:
            scrape = wait_for(
                lambda: (
                    scrape
                    if len((scrape := local.scrape()).series("celery_worker_up")) == 2
                    else None
                )
            )
            assert scrape is not None
            scrape = local.scrape()
            assert lengths(scrape) == {"celery": 0}
            assert scrape.series(UNACKED) == {}
            assert scrape.value("celery_broker_unacked_messages") is None
            assert "workers report different" in local.blind_spots()["queue_unacked_messages"]
            assert scrape.value("celery_broker_visibility_timeout_seconds") == 77
