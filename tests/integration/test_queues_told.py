"""What task events tell of queues: which there are, and how long the oldest task waits where the broker cannot say."""

from __future__ import annotations

import time

from tests.support.exporter import Exporter, Scrape
from tests.support.servers import HOST, Broker, Publisher, free_port, publish, wait_for
from tests.support.task_series import SENT_EVENTS, event, following, tasks_of, writing

OLDEST = "celery_queue_oldest_message_timestamp_seconds"


def nothing_else_tells(broker: Broker) -> tuple[str, ...]:
    """Options without which the broker itself would show its queues."""
    return (
        ("--rabbitmq-management-url", f"http://{HOST}:{free_port()}")
        if broker.kind == "rabbitmq"
        else ()
    )


def lengths(exporter: Exporter) -> dict[str, float]:
    return exporter.scrape().by("queue", "celery_queue_length")


class TestNames:
    def test_a_queue_that_a_producer_tells_of_is_looked_at(self, broker: Broker) -> None:
        publish(broker, "add", 1, 2, queue="there", count=4)
        # On Redis an empty queue and one that is not there are the same, and `there` would be found in any case.
        expected = {"there": 4} | ({"told": 0} if broker.kind == "redis" else {})
        with following(broker, *nothing_else_tells(broker), "--queue-exclude", "tmp-*") as exporter:
            with writing(broker) as events:
                for queue in ("there", "told", "tmp-1", "celeryev.x", ""):
                    events.write(event("task-sent", f"id-{queue}", name="t", queue=queue))
            wait_for(lambda: lengths(exporter) == expected)

    def test_one_that_is_not_there_costs_the_others_nothing(self, rabbitmq_broker: Broker) -> None:
        publish(rabbitmq_broker, "add", 1, 2, queue="there", count=4)
        with following(
            rabbitmq_broker, *nothing_else_tells(rabbitmq_broker), "--log.level", "debug"
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
    def test_is_the_broker_s_where_it_can_tell_else_the_events(self, redis_broker: Broker) -> None:
        stamp = int(time.time()) - 500
        with following(redis_broker) as exporter, Publisher(redis_broker, SENT_EVENTS) as publisher:
            publisher.send("add", 1, 2, queue="stamped", timestamp=stamp)
            publisher.send("add", 1, 2, queue="plain")

            def both_told() -> Scrape | None:
                scrape = tasks_of(exporter)
                return scrape if len(scrape.series(OLDEST)) == 2 else None

            told = wait_for(both_told)
            assert told is not None
            by_events = told.by("queue", OLDEST)
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
