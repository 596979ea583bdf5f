"""docs/embedding.md: each example, served by uvicorn or gunicorn."""

from __future__ import annotations

import re
import threading
import time
from contextlib import AbstractContextManager

import pytest

from tests.support import web_host
from tests.support.broker_inventory import inventory
from tests.support.scrape import Scrape, scrape_url
from tests.support.servers import Broker, Worker, publish, wait_for
from tests.support.web_host import DOCS, Host, examples

PAGE = DOCS / "embedding.md"
EXAMPLES = examples(PAGE.name)
COMMAND = re.compile(r"^    ((?:uvicorn|gunicorn) .*)$", re.MULTILINE)
SLACK = 1.5
"""Seconds: what a busy machine may add to a deadline."""
STOPS_WITHIN = 10.0
ASYNC = [
    "uvicorn fastapi_app:app",
    "uvicorn fastapi_lifespan:app",
    "uvicorn django_asgi:application",
    "uvicorn --workers 2 fastapi_workers:app",
]
THREADS = ["gunicorn --threads 8 django_wsgi", "gunicorn --threads 8 flask_app:app"]
OTHERS = [
    "gunicorn --workers 2 flask_app:app",
    "gunicorn --preload --threads 8 flask_app:app",
    "gunicorn --worker-class gevent flask_app:app",
]


def running(broker: Broker, command: str) -> AbstractContextManager[Host]:
    return web_host.running(broker, command, EXAMPLES)


def scrape(host: Host, timeout: float | None = None) -> Scrape:
    return scrape_url(f"{host.url}/vitals/metrics", timeout)


def test_the_page_shows_these_commands() -> None:
    assert set(COMMAND.findall(PAGE.read_text())) <= {*ASYNC, *THREADS}


@pytest.mark.parametrize("command", [*ASYNC, *THREADS, *OTHERS])
def test_application_serves_both_and_stops_cleanly(redis_broker: Broker, command: str) -> None:
    with Worker(redis_broker, "threads", "w") as worker:
        publish(redis_broker, "add", 1, 2, queue="waiting", count=3)
        before = inventory(redis_broker)
        with running(redis_broker, command) as host:
            page = scrape_url(f"{host.url}/vitals/")
            assert page.status == 200
            for text in ("Broker: up", "1 worker up", ">w@test<", ">waiting<"):
                assert text in page.text
            assert 'href="./metrics"' in page.text
            found = scrape(host)
            assert found.value("celery_broker_up") == 1
            assert found.value("celery_queue_length", queue="waiting") == 3
            paths = ["-/healthy", "-/ready", "lost?kind=lost", "metrics?collect[]=broker"]
            assert [host.status(f"/vitals/{path}") for path in paths] == [200] * 4
            # Django under ASGI is mounted at every other path.
            assert host.status("/vitals") in ((404,) if "django_asgi" in command else (307, 308))
            assert host.status("/vitals/", "HEAD") == host.status("/vitals/metrics", "HEAD") == 200
            assert host.status("/vitals/metrics", "POST") == 405
            assert host.status("/vitals/nowhere") == host.status("/metrics") == 404
            assert host.status("/vitals/metrics?collect[]=x") == 400
            started = time.monotonic()
            host.child.stop(STOPS_WITHIN * 2)
            assert time.monotonic() - started < STOPS_WITHIN
            assert "Traceback" not in host.child.log
        wait_for(lambda: inventory(redis_broker) == before, 5, interval=0.2)
        assert worker.alive


@pytest.mark.parametrize("command", [*ASYNC, *THREADS])
def test_application_responds_while_the_broker_hangs(broker: Broker, command: str) -> None:
    with running(broker, command) as host:
        wait_for(lambda: scrape(host, 5).value("celery_broker_up") == 1)
        time.sleep(1.1)
        with broker.server.paused():
            scrapes: list[Scrape] = []
            scraper = threading.Thread(target=lambda: scrapes.append(scrape(host, 2.5)))
            scraper.start()
            pauses = []
            while scraper.is_alive():
                started = time.monotonic()
                assert host.answers()
                pauses.append(time.monotonic() - started)
                time.sleep(0.05)
            scraper.join()
            assert scrapes[0].value("celery_broker_up") == 0
            assert 1 < scrapes[0].seconds < 2.5 + SLACK
            assert max(pauses) < 1


@pytest.mark.parametrize("command", ["uvicorn fastapi_app:app", "uvicorn fastapi_lifespan:app"])
def test_lifespan_counts_tasks_before_the_first_scrape(broker: Broker, command: str) -> None:
    with Worker(broker, "threads", "w", events=True) as worker, running(broker, command) as host:
        wait_for(lambda: events_arrive(broker), what="the event stream")
        publish(broker, "add", 1, 2, count=5)
        wait_for(lambda: worker.log.count("succeeded") == 5)
        wait_for(
            lambda: scrape(host).total("celery_task_succeeded_total", task="project.add") == 5,
            10,
        )


def events_arrive(broker: Broker) -> bool:
    """Whether a receiver of task events is subscribed."""
    found = inventory(broker)
    if broker.kind == "redis":
        return bool(found["patterns"])
    return any(name.startswith("celeryev.") for name in found["queues"])
