"""Queues on RabbitMQ: not declared, used by one connection only, or held by a consumer just now."""

from __future__ import annotations

import pytest
from kombu import Connection, Queue

from tests.support.scraping import lengths, local_exporter
from tests.support.servers import HOST, Broker, free_port, publish

NO_API = f"http://{HOST}:{free_port()}"


@pytest.mark.parametrize("api", [True, False])
def test_configured_queue_that_is_not_declared_is_a_blind_spot(
    rabbitmq_broker: Broker, api: bool
) -> None:
    url = rabbitmq_broker.management_url if api else NO_API
    publish(rabbitmq_broker, "add", 1, 2, queue="there")
    with local_exporter(
        rabbitmq_broker, queues=("emails", "there"), rabbitmq_management_url=url
    ) as local:
        for _ in range(2):
            assert lengths(local.scrape()) == {"there": 1}
            assert "do not exist have no length: emails." in local.blind_spots()["queues"]
        publish(rabbitmq_broker, "add", 1, 2, queue="emails", count=3)
        assert lengths(local.scrape()) == {"there": 1, "emails": 3}
        assert "queues" not in local.blind_spots()


@pytest.mark.parametrize("api", [True, False])
def test_exclusive_queue_of_another_connection(rabbitmq_broker: Broker, api: bool) -> None:
    url = rabbitmq_broker.management_url if api else NO_API
    publish(rabbitmq_broker, "add", 1, 2, queue="there")
    with (
        Connection(rabbitmq_broker.url) as connection,
        local_exporter(
            rabbitmq_broker, queues=("there", "locked"), rabbitmq_management_url=url
        ) as local,
    ):
        Queue("locked", exclusive=True)(connection.default_channel).declare()
        publish(rabbitmq_broker, "add", 1, 2, queue="there")
        for _ in range(2):
            found = lengths(local.scrape())
            assert found == ({"there": 2, "locked": 0} if api else {"there": 2})
            reason = local.blind_spots().get("queue_length", "")
            assert ("lengths of locked are not read: another connection" in reason) is not api
        connection.default_channel.queue_delete("locked")
        local.scrape()
        assert "queue_length" not in local.blind_spots()


def test_messages_that_a_consumer_of_a_classic_queue_holds_are_counted_at_once(
    rabbitmq_broker: Broker,
) -> None:
    publish(rabbitmq_broker, "add", 1, 2, queue="held", count=3)
    with (
        local_exporter(rabbitmq_broker) as local,
        Connection(rabbitmq_broker.url) as connection,
    ):
        queue = Queue("held", no_declare=True)(connection.default_channel)
        for held in range(4):
            scrape = local.scrape()
            assert scrape.value("celery_queue_length", queue="held") == 3 - held
            assert scrape.value("celery_queue_unacked_messages", queue="held") == held
            queue.get()
