"""Whether tasks acknowledge late, and how often they are retried, as real workers report it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import pytest
from celery import Celery

from celery_vitals.collectors.workers import WorkersCollector
from celery_vitals.workers.task_settings import TaskSettings
from tests.conftest import CLUSTER, Cluster
from tests.support.scraping import LocalExporter, local_exporter
from tests.support.servers import Broker, Worker, publish, wait_for

StartWorker = Callable[..., Worker]


def settings_of(local: LocalExporter) -> TaskSettings:
    return cast(WorkersCollector, local.collector._collectors["workers"])._task_settings


def wait_until_known(local: LocalExporter, task: str) -> TaskSettings:
    def known() -> bool:
        local.scrape()
        return settings_of(local).late(task) is not None

    wait_for(known, 30.0, what=f"settings of {task}")
    return settings_of(local)


def stream_is_up(local: LocalExporter) -> None:
    wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)


@pytest.mark.parametrize("pool", CLUSTER)
def test_worker_of_each_pool_reports_all_its_tasks(cluster: Cluster, pool: str) -> None:
    with local_exporter(cluster.broker, enable_events=True) as local:
        stream_is_up(local)
        assert settings_of(local).late("project.add") is None
        wait_for(lambda: local.scrape().value("celery_worker_up", worker=f"{pool}@test") == 1)
        publish(cluster.broker, "add", 1, 2, queue=pool)
        settings = wait_until_known(local, "project.add")
        assert settings.late("project.add") is False
        assert settings.late("project.late") is True  # never received
        assert settings.late("celery.chord_unlock") is False
        assert settings.late("project.unknown") is None
        assert settings.max_retries("project.retry") == 2
        assert settings.max_retries("project.autoretry") == 1
        assert settings.max_retries("celery.chord_unlock") == math.inf
        assert set(settings._asked) == {f"{pool}@test"}


def test_setting_of_all_tasks_applies_also_to_builtins(
    broker: Broker, start_worker: StartWorker
) -> None:
    conf = {
        "task_acks_late": True,
        "task_annotations": {"project.bill": {"acks_late": False, "max_retries": 9}},
    }
    with local_exporter(broker) as local:
        stream_is_up(local)
        start_worker(broker, "threads", "late", events=True, conf=conf)
        wait_for(lambda: local.scrape().value("celery_worker_up", worker="late@test") == 1)
        publish(broker, "add", 1, 2)
        settings = wait_until_known(local, "project.add")
        assert settings.late("project.add") is True
        assert settings.late("celery.backend_cleanup") is True
        assert (settings.late("project.bill"), settings.max_retries("project.bill")) == (False, 9)


def test_tasks_of_the_app_need_no_command(broker: Broker, start_worker: StartWorker) -> None:
    app = Celery("project", broker=broker.url, set_as_current=False)

    def add(x: float, y: float) -> None:
        """Do nothing."""

    app.task(add, name="project.add", acks_late=True, shared=False)
    with local_exporter(broker, app) as local:
        assert settings_of(local).late("project.add") is True
        stream_is_up(local)
        start_worker(broker, "solo", "plain", events=True)
        wait_for(lambda: local.scrape().value("celery_worker_up", worker="plain@test") == 1)
        publish(broker, "add", 1, 2)
        wait_for(lambda: local.scrape().total("celery_task_succeeded_total") == 1)
        local.scrape()
        assert not settings_of(local)._asked
        publish(broker, "bill")  # not of this app
        assert wait_until_known(local, "project.bill").late("project.bill") is False


def test_the_process_after_a_restart_is_asked_again(
    broker: Broker, start_worker: StartWorker
) -> None:
    with local_exporter(broker) as local:
        stream_is_up(local)
        first = start_worker(broker, "solo", "one", events=True)
        publish(broker, "add", 1, 2)
        assert wait_until_known(local, "project.add").late("project.add") is False
        first.close()
        start_worker(broker, "solo", "one", events=True, conf={"task_acks_late": True})
        publish(broker, "add", 1, 2)

        def changed() -> bool:
            local.scrape()
            return settings_of(local).late("project.add") is True

        wait_for(changed, 30.0)
