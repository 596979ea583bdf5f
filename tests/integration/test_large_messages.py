"""Messages of any size cost the exporter neither its memory nor the time of a scrape."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.exporter import Exporter
from tests.support.large_replies import MIB, LargeReplier, Memory, publish_event
from tests.support.scraping import local_exporter, redis_client
from tests.support.servers import Broker, Worker, publish, wait_for

SCRAPE_TIMEOUT = 3.0


@pytest.mark.parametrize(
    ("size", "count"), [(100 * MIB, 1), (5 * MIB, 4), (MIB, 50)], ids=["one", "some", "many"]
)
def test_large_replies_are_left_out_and_the_worker_is_observed(
    broker: Broker, start_worker: Callable[..., Worker], size: int, count: int
) -> None:
    start_worker(broker, "solo", "w")
    with Exporter.of(broker, "--no-collector.tasks") as exporter:
        wait_for(lambda: exporter.scrape().value("celery_worker_up", worker="w@test") == 1)
        memory = Memory(exporter.pid)
        before = memory.now
        left_out, scrapes = [], []
        with LargeReplier(broker, size, count) as replier, memory.watched():

            def reported() -> bool:
                scrape = exporter.scrape(timeout=SCRAPE_TIMEOUT)
                scrapes.append(scrape)
                left_out.append(
                    scrape.value("celery_exporter_blind_spot", subject="worker_replies")
                )
                return replier.replied >= 3 and left_out[-3:].count(1) >= 1

            wait_for(reported, 60.0)
            for _ in range(4):
                reported()
        durations = [
            scrape.value("celery_scrape_collector_duration_seconds", collector="workers") or 0.0
            for scrape in scrapes
        ]
        print(f"slowest {max(durations):.2f} s of {len(durations)} scrapes")
        print(f"before {before:.0f}, peak {memory.peak:.0f}, after {memory.now:.0f} MiB")
        assert {scrape.value("celery_worker_up", worker="w@test") for scrape in scrapes} == {1}
        # Not what this process measures, in which the large messages are made.
        assert max(durations) < SCRAPE_TIMEOUT
        assert memory.peak < before + 200
        wait_for(lambda: memory.now < before + 80, 20.0)
        wait_for(
            lambda: (
                exporter.scrape().value("celery_exporter_blind_spot", subject="worker_replies")
                is None
            )
        )
        assert "Replies of workers are not read" in exporter.log


def test_large_events_are_rejected_and_the_others_counted(
    broker: Broker, start_worker: Callable[..., Worker]
) -> None:
    with Exporter.of(broker) as exporter:
        wait_for(lambda: exporter.scrape().value("celery_exporter_event_stream_up") == 1)
        start_worker(broker, "solo", "w", events=True)
        memory = Memory(exporter.pid)
        before = memory.now

        def rejected() -> float | None:
            return exporter.scrape().value(
                "celery_exporter_events_rejected_total", reason="too_large"
            )

        # Of more than 32 MB, Redis closes the connection of the subscriber itself.
        size = 20 * MIB if broker.kind == "redis" else 100 * MIB
        with memory.watched():
            for count in (1, 2):
                publish_event(broker, size)
                wait_for(lambda: rejected() == count, 30.0)  # noqa: B023
        print(f"before {before:.0f}, peak {memory.peak:.0f}, after {memory.now:.0f} MiB")
        assert memory.peak < before + 250
        wait_for(lambda: memory.now < before + 120, 20.0)
        wait_for(lambda: exporter.scrape().value("celery_exporter_event_stream_up") == 1)
        publish(broker, "add", 1, 2, count=3)
        wait_for(
            lambda: (
                exporter.scrape().value(
                    "celery_task_succeeded_total", task="project.add", queue="celery"
                )
                == 3
            )
        )
        assert exporter.scrape().value("celery_exporter_blind_spot", subject="rejected_events") == 1


def test_the_event_stream_returns_after_an_event_that_redis_does_not_deliver(
    redis_broker: Broker,
) -> None:
    with Exporter.of(redis_broker) as exporter:
        wait_for(lambda: exporter.scrape().value("celery_exporter_event_stream_up") == 1)
        memory = Memory(exporter.pid)
        before = memory.now
        with memory.watched():
            publish_event(redis_broker, 100 * MIB)
            wait_for(lambda: "event stream failed" in exporter.log)
            wait_for(lambda: exporter.scrape().value("celery_exporter_event_stream_up") == 1)
        assert memory.peak < before + 250
        wait_for(lambda: memory.now < before + 120, 20.0)


def test_bindings_that_are_too_large_are_a_blind_spot_and_cost_nothing_else(
    redis_broker: Broker,
) -> None:
    publish(redis_broker, "add", 1, 2, queue="orders", count=3)
    with redis_client(redis_broker) as client:
        for number in range(30):
            members = [f"\x06\x16\x06\x16{number}-{one:0>1000}" for one in range(1000)]
            client.sadd("_kombu.binding.huge", *members)
    with local_exporter(redis_broker) as local:
        wait_for(
            lambda: (
                local.scrape() is not None
                and "more than" in local.blind_spots().get("queue_discovery", "")
            )
        )
        scrape = local.scrape()
        assert scrape.by("queue", "celery_queue_length") == {"orders": 3}
        assert "more than 16 MiB" in local.blind_spots()["queue_discovery"]
        assert scrape.series("celery_probe_failures_total") == {}
