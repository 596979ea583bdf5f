"""Queues in task events: discovery, and the oldest waiting task where the broker has no age."""

from __future__ import annotations

import time

from tests.support.exporter import Exporter
from tests.support.scrape import Scrape
from tests.support.servers import HOST, Broker, Publisher, free_port, publish, wait_for
from tests.support.task_series import SENT_EVENTS, event, following, tasks_of, writing

OLDEST = "celery_queue_oldest_message_timestamp_seconds"


def only_events(broker: Broker) -> tuple[str, ...]:
    """Options without which the broker itself would show its queues."""
    return (
        ("--rabbitmq-management-url", f"http://{HOST}:{free_port()}")
        if broker.kind == "rabbitmq"
        else ()
    )


def lengths(exporter: Exporter) -> dict[str, float]:
    return exporter.scrape().by("queue", "celery_queue_length")


class TestNames:
    def test_queue_in_a_sent_event_is_measured(self, broker: Broker) -> None:
        publish(broker, "add", 1, 2, queue="there", count=4)
        # Redis does not distinguish empty and missing queues, and discovers `there` by itself.
        expected = {"there": 4} | ({"sent": 0} if broker.kind == "redis" else {})
        with following(broker, *only_events(broker), "--queue-exclude", "tmp-*") as exporter:
            with writing(broker) as events:
                for queue in ("there", "sent", "tmp-1", "celeryev.x", ""):
                    events.write(event("task-sent", f"id-{queue}", name="t", queue=queue))
            wait_for(lambda: lengths(exporter) == expected)

    def test_missing_queue_does_not_affect_other_queues(self, rabbitmq_broker: Broker) -> None:
        publish(rabbitmq_broker, "add", 1, 2, queue="there", count=4)
        with following(
            rabbitmq_broker, *only_events(rabbitmq_broker), "--log.level", "debug"
        ) as exporter:
            with writing(rabbitmq_broker) as events:
                for queue in ("there", "x" * 300, "gone"):
                    events.write(event("task-sent", f"id-{queue[:9]}", name="t", queue=queue))
            wait_for(lambda: lengths(exporter) == {"there": 4} and "'gone'" in exporter.log)
            for _ in range(3):
                scrape = exporter.scrape()
                assert scrape.by("queue", "celery_queue_workers") == {"there": 0}
                assert scrape.value("celery_scrape_collector_success", collector="queues") == 1
            assert len([line for line in exporter.log.splitlines() if "'gone'" in line]) == 1


class TestOldest:
    def test_is_from_the_broker_if_available_else_from_events(self, redis_broker: Broker) -> None:
        stamp = int(time.time()) - 500
        with following(redis_broker) as exporter, Publisher(redis_broker, SENT_EVENTS) as publisher:
            publisher.send("add", 1, 2, queue="stamped", timestamp=stamp)
            publisher.send("add", 1, 2, queue="plain")

            def both_exported() -> Scrape | None:
                scrape = tasks_of(exporter)
                return scrape if len(scrape.series(OLDEST)) == 2 else None

            found = wait_for(both_exported)
            assert found is not None
            by_events = found.by("queue", OLDEST)
            assert all(value > stamp for value in by_events.values())
            wait_for(lambda: set(lengths(exporter)) == {"stamped", "plain"})
            assert exporter.scrape().by("queue", OLDEST) == {
                "stamped": stamp,
                "plain": by_events["plain"],
            }
            assert exporter.scrape(collect="queues").by("queue", OLDEST) == {"stamped": stamp}
            text = exporter.scrape().text
            assert text.count(f'{OLDEST}{{queue="stamped"}}') == 1
            assert text.count(f"# TYPE {OLDEST} ") == 1
