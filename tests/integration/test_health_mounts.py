"""docs/health_python.md: each example, by its own command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema
import pytest

from tests.support import web_host
from tests.support.broker_inventory import broadcasts_on, inventory
from tests.support.servers import Broker, Worker, wait_for
from tests.support.web_host import DOCS, Host, environment, examples, project_folder

PAGE = DOCS / "health_python.md"
EXAMPLES = examples(PAGE.name)
COMMAND = re.compile(r"^    ((?:uvicorn|gunicorn|python) .*)$", re.MULTILINE)
FASTAPI = "uvicorn fastapi_health:app"
FLASK = "gunicorn --workers 4 --preload flask_health:app"
HOSTS = [FASTAPI, FLASK]
DJANGO = "gunicorn --threads 8 proj.wsgi"
"""Served by test_health_django."""
SCRIPTS = ["python check.py", "python single_checks.py", "python fake_check.py"]
CACHE = "redis://localhost:6379/5"
STOPS_WITHIN = 10.0


@contextmanager
def running(broker: Broker, command: str, interval: float | None = None) -> Iterator[Host]:
    """Serve an example, with the broker as its cache, and another interval if one is given."""
    files = {name: text.replace(CACHE, broker.url) for name, text in EXAMPLES.items()}
    if interval is not None:
        args = f"interval={interval}"
        files = {
            name: text.replace("interval=10", args).replace(
                "HealthChecker(celery_app)", f"HealthChecker(celery_app, {args})"
            )
            for name, text in files.items()
        }
    with web_host.running(broker, command, files, CELERY_VITALS_TIMEOUT="1.5") as host:
        yield host


def schema(name: str) -> Any:
    return json.loads((DOCS / f"schemas/{name}.json").read_text())


def body(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.get("/health").data)
    return found


def test_the_page_shows_these_commands() -> None:
    assert set(COMMAND.findall(PAGE.read_text())) == {*HOSTS, DJANGO, *SCRIPTS}


@pytest.mark.parametrize("command", SCRIPTS)
def test_script_runs(redis_broker: Broker, command: str) -> None:
    folder = project_folder(EXAMPLES)
    with Worker(redis_broker, "threads", "w"):
        done = subprocess.run(
            [sys.executable, *command.split()[1:]],
            env=environment(redis_broker, folder),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    shutil.rmtree(folder)
    assert (done.returncode, done.stderr) == (0, "")
    if "fake" not in command:
        assert "broker True 0." in done.stdout
        assert "workers True 0." in done.stdout


@pytest.mark.parametrize("command", HOSTS)
def test_application_responds_like_the_exporter(
    redis_broker: Broker, command: str, start_worker: Callable[..., Worker]
) -> None:
    before = inventory(redis_broker)["clients"]
    with running(redis_broker, command, interval=0.5) as host:
        response = host.get("/health")
        assert response.status == 503
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        document = json.loads(response.data)
        jsonschema.validate(document, schema("health"))
        assert document["status"] == "unhealthy"
        assert [one["code"] for one in document["findings"]] == ["workers_missing"]
        start_worker(redis_broker, "threads", "w")
        # Each of the processes has a result of its own.
        wait_for(lambda: {host.status("/health") for _ in range(20)} == {200})
        assert body(host)["workers"]["names"] == ["w@test"]
        jsonschema.validate(body(host), schema("health"))
        assert host.status("/health?strict=1") == 200
        assert host.status("/health?strict=2") == host.status("/health?x=1") == 400
        jsonschema.validate(json.loads(host.get("/health?x=1").data), schema("error"))
        assert b"expected one of: strict" in host.get("/health?x=1").data
        assert host.get("/health", "HEAD").data == b""
        assert host.status("/health", "POST") == 405
        started = time.monotonic()
        host.child.stop(STOPS_WITHIN * 2)
        assert time.monotonic() - started < STOPS_WITHIN
        assert "Traceback" not in host.child.log
    wait_for(lambda: inventory(redis_broker)["clients"] == before)


@pytest.mark.parametrize("command", HOSTS)
def test_storm_of_requests_costs_the_broker_one_round(
    redis_broker: Broker, command: str, start_worker: Callable[..., Worker]
) -> None:
    start_worker(redis_broker, "threads", "w", heartbeat=False)
    with broadcasts_on(redis_broker) as broadcasts:
        before = broadcasts()
        with running(redis_broker, command) as host:
            stormers = [threading.Thread(target=_request, args=(host, 25)) for _ in range(8)]
            for one in stormers:
                one.start()
            for one in stormers:
                one.join()
            assert body(host)["status"] == "healthy"
        assert 0 < broadcasts() - before <= 4


def _request(host: Host, times: int) -> None:
    for _ in range(times):
        host.get("/health")


@pytest.mark.parametrize("command", HOSTS)
def test_application_responds_while_the_broker_hangs(redis_broker: Broker, command: str) -> None:
    with running(redis_broker, command) as host, redis_broker.server.paused():
        waiting = threading.Thread(target=host.get, args=("/health",))
        waiting.start()
        pauses = []
        while waiting.is_alive():
            started = time.monotonic()
            assert host.answers()
            pauses.append(time.monotonic() - started)
            time.sleep(0.05)
        waiting.join()
        assert max(pauses) < 1
        wait_for(lambda: body(host)["status"] == "unhealthy", 30)
