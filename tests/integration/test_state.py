"""Counters across restarts: what a Prometheus server adds up is what has happened."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.event_streams import sending
from tests.support.exporter import Exporter
from tests.support.scrape import Scrape
from tests.support.servers import HOST, Broker, free_port, wait_for
from tests.support.task_series import event_stream_is_up, tasks_of, until

RECEIVED, SUCCEEDED = "celery_task_received_total", "celery_task_succeeded_total"
FAILED = "celery_task_failed_total"
KILLS = 8
ARRIVED = 0.3
"""Seconds after which an event on Redis has been read: the socket is read 20 times per second."""

pytestmark = pytest.mark.timeout(240)


class Increases:
    """The increases of counters as Prometheus computes them: from one scrape to the next."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self.total: dict[str, float] = {}

    def add(self, scrape: Scrape) -> None:
        for name in (RECEIVED, SUCCEEDED, FAILED):
            for labels, value in scrape.series(name).items():
                key = name, labels
                last = self._last.get(key)
                if last is not None:
                    increase = value - last if value >= last else value
                    self.total[name] = self.total.get(name, 0.0) + increase
                self._last[key] = value


class Traffic:
    """Publishes the events of tasks at a moderate rate, in a thread of its own."""

    def __init__(self, broker: Broker, seed: int) -> None:
        self._broker = broker
        self._chance = random.Random(seed)
        self._running = threading.Event()
        self._running.set()
        self._idle = threading.Event()
        self._stop = threading.Event()
        self.counts: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def pause(self) -> None:
        """Publish nothing until `resume`."""
        self._idle.clear()
        self._running.clear()
        assert self._idle.wait(10)

    def resume(self) -> None:
        self._running.set()

    def _run(self) -> None:
        with sending(self._broker) as send:
            number = 0
            while not self._stop.is_set():
                if not self._running.is_set():
                    self._idle.set()
                    self._running.wait(1)
                    continue
                number += 1
                failed = self._chance.random() < 0.1
                uuid = send("task-received", name=f"task{number % 7}", retries=0)
                send("task-started", uuid=uuid)
                time.sleep(0.002)
                fields = {"exception": "ValueError('x')"} if failed else {"runtime": 0.1}
                send("task-failed" if failed else "task-succeeded", uuid=uuid, **fields)
                self.counts.update((RECEIVED, FAILED if failed else SUCCEEDED))


@contextmanager
def restarting(broker: Broker, folder: Path, *arguments: str) -> Iterator[Exporter]:
    """An exporter at a fixed address, with a state file."""
    address = f"{HOST}:{free_port()}"
    exporter = Exporter.of(
        broker,
        "--no-collector.backend",
        "--state.file",
        str(folder / "state"),
        "--web.listen-address",
        address,
        *arguments,
    )
    with exporter:
        wait_for(lambda: event_stream_is_up(exporter))
        yield exporter


def scraped(exporter: Exporter) -> Scrape:
    return exporter.scrape(timeout=2.0, collect="tasks")


def test_increases_are_exact_with_a_durable_queue(rabbitmq_broker: Broker, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    chance, increases = random.Random(seed), Increases()
    with (
        restarting(rabbitmq_broker, tmp_path, "--event-queue", "vitals") as exporter,
        Traffic(rabbitmq_broker, seed) as traffic,
    ):
        for _ in range(KILLS):
            end = time.monotonic() + chance.uniform(0.2, 3)
            while time.monotonic() < end:
                increases.add(scraped(exporter))
                time.sleep(0.2)
            exporter.kill()
            exporter.start()
        traffic.__exit__()
        wait_for(lambda: event_stream_is_up(exporter))

        def all_counted() -> bool:
            increases.add(scraped(exporter))
            assert increases.total == dict(traffic.counts), f"seed {seed}"
            return True

        wait_for(all_counted, 15, interval=0.5)
        time.sleep(1)
        assert all_counted()
        assert exporter.log.count("continued from the state") == KILLS


def test_increases_on_redis_lack_only_what_was_published_meanwhile(
    redis_broker: Broker, tmp_path: Path
) -> None:
    """Traffic pauses while no exporter is subscribed: what Redis then publishes is lost."""
    seed = random.randrange(10**6)
    chance, increases = random.Random(seed), Increases()
    with restarting(redis_broker, tmp_path) as exporter, Traffic(redis_broker, seed) as traffic:
        for number in range(KILLS):
            end = time.monotonic() + chance.uniform(0.2, 3)
            while time.monotonic() < end:
                increases.add(scraped(exporter))
                time.sleep(0.2)
            traffic.pause()
            if number % 2:
                time.sleep(ARRIVED)
                exporter.kill()
            else:
                exporter.stop()
            exporter.start()
            wait_for(lambda: event_stream_is_up(exporter))
            traffic.resume()
        traffic.__exit__()

        def all_counted() -> bool:
            increases.add(scraped(exporter))
            assert increases.total == dict(traffic.counts), f"seed {seed}"
            return True

        wait_for(all_counted, 15, interval=0.5)
        assert exporter.log.count("continued from the state") == KILLS


def test_an_execution_that_runs_is_known_after_a_restart(broker: Broker, tmp_path: Path) -> None:
    """Its start was seen by one process, its end by the next: name, queue and runtime are known."""
    with restarting(broker, tmp_path) as exporter, sending(broker) as send:
        send("task-sent", uuid="one", name="long", queue="q", retries=0)
        send("task-received", uuid="one", name="long", retries=0)
        send("task-started", uuid="one")
        send("worker-heartbeat", active=1, processed=1, freq=2)
        until(exporter, 1, "celery_exporter_events_received_total", type="worker-heartbeat")
        exporter.kill()
        exporter.start()
        wait_for(lambda: event_stream_is_up(exporter))
        assert tasks_of(exporter).value("celery_task_running", task="long") == 1
        send("task-failed", uuid="one", exception="ValueError('x')", traceback="")
        scrape = until(exporter, 1, FAILED, task="long", queue="q")
        assert scrape.value("celery_task_failed_runtime_seconds_count", task="long", queue="q") == 1
        assert scrape.value("celery_task_started_total", task="long", queue="q") == 1
