"""The app for Django: command, system checks, view, and the check of django-health-check."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support import web_host
from tests.support.django_project import APP, FILES, SETTINGS, project
from tests.support.servers import Broker, Worker, free_port, publish, wait_for


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("{'quues': ['a']}", "CELERY_VITALS: HealthChecker: unknown option 'quues'"),
        ("{'interval': 0}", "CELERY_VITALS: HealthChecker: interval must be"),
        ("{'app': 'proj.nowhere:app'}", "CELERY_VITALS: --app: cannot import proj.nowhere:app"),
        ("['a']", "CELERY_VITALS: must be a dictionary, not list"),
        ("{'cache': 'redis://:hunter2@host:port'}", "CELERY_VITALS: RedisCache: "),
    ],
)
def test_wrong_setting_is_one_line(redis_broker: Broker, setting: str, text: str) -> None:
    wrong = f"{SETTINGS}CELERY_VITALS = {setting}\n"
    with project(redis_broker, settings=wrong) as django:
        done = django.manage("check")
    assert done.returncode == 1
    assert f"(celery_vitals.E001) {text}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_project_without_a_celery_app_is_reported(redis_broker: Broker) -> None:
    moved = {"__init__": "", "celery": "", "tasks": APP}
    with project(redis_broker, **moved) as django:
        done = django.manage("check")
        assert done.returncode == 1
        assert "CELERY_VITALS: no Celery app (--app: cannot import proj: " in done.stderr
        assert "set its name: {'app': 'proj.celery:app'}" in done.stderr
    named = f"{SETTINGS}CELERY_VITALS['app'] = 'proj.tasks:celery_app'\n"
    with project(redis_broker, settings=named, **moved) as django:
        assert django.manage("check").returncode == 0


def test_system_checks_ask_the_cluster_only_before_a_deployment(
    redis_broker: Broker, start_worker: Callable[..., Worker]
) -> None:
    with project(redis_broker) as django:
        done = django.manage("check")
        assert (done.returncode, done.stderr) == (0, "")
        done = django.manage("check", "--deploy")
        assert done.returncode == 1
        assert "(celery_vitals.workers_missing) No worker is up" in done.stderr
        assert "HINT: celery -A proj worker" in done.stderr
        start_worker(redis_broker, "threads", "w")
        done = django.manage("check", "--deploy", "--tag", "celery")
        assert (done.returncode, done.stderr) == (0, "")
        publish(redis_broker, "sleep", 60, queue="other", count=1)
        publish(redis_broker, "sleep", 60, count=20)
        done = django.manage("check", "--deploy", "--fail-level", "ERROR")
        assert "(celery_vitals.queue_over_limit)" in done.stderr
    down = f"{SETTINGS}CELERY_VITALS = {{'broker_url': 'redis://:hunter2@127.0.0.1:{free_port()}'}}"
    with project(redis_broker, settings=down) as django:
        done = django.manage("check", "--deploy")
        assert done.returncode == 1
        assert "(celery_vitals.broker_down)" in done.stderr
        assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    "command", ["gunicorn --threads 8 proj.wsgi", "uvicorn proj.asgi:application"]
)
def test_view_and_django_health_check_respond(
    redis_broker: Broker, command: str, start_worker: Callable[..., Worker]
) -> None:
    asgi = FILES["proj/wsgi.py"].replace("wsgi", "asgi")
    with web_host.running(redis_broker, command, {**FILES, "proj/asgi.py": asgi}) as host:
        response = host.get("/health/celery")
        assert response.status == 503
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert json.loads(response.data)["status"] == "unhealthy"
        response = host.get("/health?format=json")
        assert response.status == 500
        assert b"No worker is up" in response.data
        worker = start_worker(redis_broker, "threads", "w")
        wait_for(lambda: host.status("/health/celery") == 200)
        wait_for(lambda: host.status("/health?format=json") == 200)
        assert host.status("/health/celery?strict=1") == 200
        assert host.status("/health/celery?strict=x") == 400
        assert host.status("/health/celery", "POST") in (403, 405)
        assert host.get("/health/celery", "HEAD").data == b""
        publish(redis_broker, "sleep", 60, count=20)
        wait_for(lambda: host.status("/health/celery?strict=1") == 503)
        assert host.status("/health/celery") == host.status("/health?format=json") == 200
        assert worker.alive
        assert "Unexpected exception" not in host.child.log


def test_other_names_need_no_django() -> None:
    code = """
import sys
sys.modules["django"] = None
import celery_vitals
for name in celery_vitals.__all__:
    getattr(celery_vitals, name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
