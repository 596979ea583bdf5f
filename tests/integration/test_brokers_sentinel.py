"""Redis watched by Sentinels, and its failover, with a worker on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support.exporter import Exporter
from tests.support.scraping import EVERYTHING, LocalExporter, local_exporter, words
from tests.support.servers import (
    HOST,
    Broker,
    Sentinels,
    Worker,
    free_port,
    publish,
    wait_for,
)


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with Sentinels() as sentinels:
        yield sentinels


def looking_by(broker: Broker, options: Mapping[str, Any]) -> AbstractContextManager[LocalExporter]:
    """Look at broker and result backend through Sentinels."""
    return local_exporter(
        broker, broker_transport_options=options, result_backend_transport_options=options
    )


class TestSentinel:
    def test_unknown_master_name(self, sentinels: Sentinels) -> None:
        with looking_by(sentinels.broker(), {"master_name": "nosuch"}) as local:
            scrape = local.scrape()
            assert scrape.value("celery_broker_up") == 0
            assert scrape.value("celery_result_backend_up") == 0
            failures = scrape.series("celery_probe_failures_total")
            assert {dict(labels)["reason"] for labels in failures} == {"unavailable"}

    def test_the_application_may_limit_its_own_connections(self, sentinels: Sentinels) -> None:
        options = {**sentinels.options, "max_connections": 1}
        with looking_by(sentinels.broker(), options) as local:
            wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
            scrape = local.scrape()
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1

    def test_unreachable_sentinel_does_not_affect_the_scrape(self, sentinels: Sentinels) -> None:
        url = f"sentinel://{HOST}:{free_port()};{sentinels.broker().url}"
        broker = Broker("redis", url, url, sentinels.master)
        with looking_by(broker, sentinels.options) as local:
            scrape = local.scrape(3.0)
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1

    def test_a_failover_is_survived_by_the_same_process(
        self, sentinels: Sentinels, start_worker: Callable[..., Worker]
    ) -> None:
        broker, options = sentinels.broker(), sentinels.options
        conf = {"broker_transport_options": options, "result_backend_transport_options": options}
        start_worker(broker, "solo", "w", events=True, conf=conf)
        master = words("--broker-transport-option", options)
        master += words("--result-backend-transport-option", options)
        with Exporter.of(broker, *master) as exporter:

            def healthy() -> bool:
                scrape = exporter.scrape(timeout=5)
                success = scrape.by("collector", "celery_scrape_collector_success")
                assert scrape.value("celery_broker_up") == 1
                assert scrape.value("celery_result_backend_up") == 1
                return success == dict.fromkeys(EVERYTHING, 1) and scrape.by(
                    "worker", "celery_worker_replied"
                ) == {"w@test": 1}

            def succeeded() -> float:
                return sum(
                    exporter.scrape(timeout=5).by("task", "celery_task_succeeded_total").values()
                )

            wait_for(healthy)
            publish(broker, "add", 1, 2, conf=conf)
            wait_for(lambda: succeeded() == 1)
            pid = exporter.pid

            sentinels.master.kill()
            gone = exporter.scrape(timeout=3)
            assert gone.status == 200
            assert gone.seconds < 4
            assert gone.value("celery_broker_up") == 0

            wait_for(healthy, 60.0, what="all well on the new master")
            publish(broker, "add", 1, 2, conf=conf)
            wait_for(lambda: succeeded() == 2)
            assert exporter.pid == pid
            assert exporter.child.alive
