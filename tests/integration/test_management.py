"""RabbitMQ's management API: discovery of its address, handling of its answers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.support.scraping import answering, local_exporter
from tests.support.servers import (
    HOST,
    Broker,
    Fault,
    Proxy,
    RabbitMQServer,
    free_port,
    publish,
    wait_for,
)

OLDEST = "celery_queue_oldest_message_timestamp_seconds"
DELAYED = "celery_broker_delayed_messages"
ORPHANED = "celery_broker_orphaned_reply_queues"


class TestManagementByConvention:
    """Without a URL, the API is expected on the broker's host at its default port."""

    def test_is_looked_for_on_the_host_that_answers(
        self, rabbitmq_broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = rabbitmq_broker.server
        assert isinstance(server, RabbitMQServer)
        monkeypatch.setattr(
            "celery_vitals.brokers.rabbitmq.management._PORTS", {False: server.management_port}
        )
        publish(rabbitmq_broker, "add", 1, 2, queue="orphan", count=3)
        urls = f"amqp://u:p@127.9.9.9:{free_port()}//;{rabbitmq_broker.url}"
        with local_exporter(
            rabbitmq_broker, broker_url=urls, rabbitmq_management_url=None
        ) as local:
            assert local.scrape(names=("queues",)).by("queue", "celery_queue_length") == {
                "orphan": 3
            }
            assert "queue_discovery" not in local.blind_spots()

    def test_that_was_there_is_asked_again_as_soon_as_it_is_back(
        self, rabbitmq_broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = rabbitmq_broker.server
        assert isinstance(server, RabbitMQServer)
        publish(rabbitmq_broker, "add", 1, 2, queue="orphan", count=3)
        with Proxy(server.management_port) as proxy:
            monkeypatch.setattr(
                "celery_vitals.brokers.rabbitmq.management._PORTS", {False: proxy.port}
            )
            with local_exporter(rabbitmq_broker, rabbitmq_management_url=None) as local:

                def blind() -> bool:
                    local.scrape(names=("queues",))
                    return "queue_discovery" in local.blind_spots()

                assert not blind()
                proxy.fault = Fault.REFUSE
                wait_for(blind)
                proxy.fault = Fault.NONE
                wait_for(lambda: not blind())
            proxy.fault = Fault.REFUSE
            with local_exporter(rabbitmq_broker, rabbitmq_management_url=None) as local:
                assert blind()
                proxy.fault = Fault.NONE
                assert blind()  # an API that never answered is not requested by each scrape

    def test_is_asked_as_a_user_whose_password_is_not_ascii(
        self, rabbitmq_broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = rabbitmq_broker.server
        assert isinstance(server, RabbitMQServer)
        monkeypatch.setattr(
            "celery_vitals.brokers.rabbitmq.management._PORTS", {False: server.management_port}
        )
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        server.api("PUT", "users/zoe", {"password": "grün:9€", "tags": "management"})
        server.api("PUT", f"permissions/{rabbitmq_broker.namespace}/zoe", everything)
        publish(rabbitmq_broker, "add", 1, 2, queue="orphan", count=3)
        url = f"amqp://zoe:{quote('grün:9€')}@{HOST}:{server.port}/{rabbitmq_broker.namespace}"
        with local_exporter(rabbitmq_broker, broker_url=url, rabbitmq_management_url=None) as local:
            assert local.scrape(names=("queues",)).by("queue", "celery_queue_length") == {
                "orphan": 3
            }
            assert "queue_discovery" not in local.blind_spots()
        server.api("DELETE", "users/zoe")

    def test_api_of_another_broker_on_the_host_is_ignored(
        self, rabbitmq_broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = [
            {"name": name, "type": "classic", "messages_unacknowledged": 5}
            for name in ("celery", "theirs")
        ]
        bodies = {
            "/api/cluster-name": b'{"name": "rabbit@elsewhere"}',
            "": json.dumps(rows).encode(),
        }
        publish(rabbitmq_broker, "add", 1, 2, count=3)
        with answering(bodies) as url:
            monkeypatch.setattr(
                "celery_vitals.brokers.rabbitmq.management._PORTS", {False: urlsplit(url).port}
            )
            with local_exporter(
                rabbitmq_broker, queues=("celery",), rabbitmq_management_url=None
            ) as local:
                scrape = local.scrape(names=("queues",))
                assert scrape.by("queue", "celery_queue_length") == {"celery": 3}
                assert scrape.series("celery_queue_unacked_messages") == {}
                assert (
                    "another RabbitMQ, rabbit@elsewhere"
                    in local.blind_spots()["queue_unacked_messages"]
                )


class TestManagement:
    """Numbers of AMQP stay when the API is unavailable."""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[{",
            b"{}",
            b"5",
            b"[5]",
            b'[["name"]]',
            b'[{"messages": 5}]',
            b"[" * 100_000,
            b'[{"name": "known"',
            b"\xff\xfe",
        ],
    )
    def test_incomplete_answer_is_a_failure(self, rabbitmq_broker: Broker, body: bytes) -> None:
        publish(rabbitmq_broker, "add", 1, 2, queue="known", count=3)
        with (
            answering({"": body}) as url,
            local_exporter(
                rabbitmq_broker, queues=("known",), rabbitmq_management_url=url
            ) as local,
        ):
            scrape = local.scrape()
            assert scrape.by("queue", "celery_queue_length") == {"known": 3}
            assert scrape.value("celery_scrape_collector_success", collector="queues") == 1
            numbers = (
                "celery_queue_unacked_messages",
                "celery_queue_info",
                DELAYED,
                ORPHANED,
                OLDEST,
            )
            assert [name for name in numbers if scrape.series(name)] == []
            assert "queue_delayed_messages" in scrape.by("subject", "celery_exporter_blind_spot")

    def test_row_without_numbers_has_no_samples(self, rabbitmq_broker: Broker) -> None:
        publish(rabbitmq_broker, "add", 1, 2, queue="known", count=3)
        rows: list[dict[str, Any]] = [
            {"name": "known", "messages_unacknowledged": "many", "head_message_timestamp": ""},
            {"name": "celery_delayed_1"},  # it is gone when it is asked
        ]
        with (
            answering({"": json.dumps(rows).encode()}) as url,
            local_exporter(rabbitmq_broker, rabbitmq_management_url=url) as local,
        ):
            scrape = local.scrape()
            assert scrape.by("queue", "celery_queue_length") == {"known": 3}
            for name in ("celery_queue_unacked_messages", "celery_queue_info", DELAYED, OLDEST):
                assert scrape.series(name) == {}
