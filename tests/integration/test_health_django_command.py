"""The command `manage.py celery_health`."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.broker_inventory import inventory
from tests.support.django_project import SETTINGS, project
from tests.support.servers import Broker, Worker, publish, wait_for


def test_command_has_the_exit_code_of_the_verdict(
    redis_broker: Broker, start_worker: Callable[..., Worker]
) -> None:
    before = inventory(redis_broker)["clients"]
    with project(redis_broker) as django:
        done = django.manage("celery_health")
        assert done.returncode == 2, done.stderr
        assert done.stdout.startswith("unhealthy: 1 finding")
        assert "workers_missing" in done.stdout
        assert "\x1b" not in done.stdout
        worker = start_worker(redis_broker, "threads", "w")
        done = django.manage("celery_health")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("healthy")
        assert "w@test" not in done.stdout
        for verbose in (["--verbose"], ["--verbosity", "2"]):
            assert "w@test" in django.manage("celery_health", *verbose).stdout
        document = json.loads(django.manage("celery_health", "--json").stdout)
        assert document["workers"]["names"] == ["w@test"]
        publish(redis_broker, "sleep", 60, count=20)
        wait_for(lambda: worker.log.count("received") >= 2)
        done = django.manage("celery_health", "--force-color")
        assert done.returncode == 1
        assert "queue_over_limit" in done.stdout
        assert "\x1b" in done.stdout
    wait_for(lambda: inventory(redis_broker)["clients"] == before)


def test_wrong_setting_is_one_line_and_no_verdict(redis_broker: Broker) -> None:
    wrong = f"{SETTINGS}CELERY_VITALS = {{'quues': ['a']}}\n"
    with project(redis_broker, settings=wrong) as django:
        done = django.manage("celery_health")
    assert (done.returncode, done.stdout) == (3, "")
    text = "CommandError: CELERY_VITALS: HealthChecker: unknown option 'quues'"
    assert done.stderr.startswith(text)
    assert done.stderr.count("\n") == 1
