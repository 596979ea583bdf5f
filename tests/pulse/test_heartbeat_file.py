"""The heartbeat file is fresh while a process moves, and only then."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.servers import Beat, Broker, Publisher, Worker, wait_for
from tests.support.servers.celery_children import project_environment

INTERVAL = 0.5
FRESH = 2.5
"""Seconds; an older file is old.  A loop may be seen to stand still after three."""
POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")
AUTO = ("--include", "celery_vitals_pulse.auto,project.pulse_blocks")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Heartbeat:
    """A heartbeat file, and the settings that name it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "heartbeat"
        self.conf = {
            "pulse_heartbeat_interval": INTERVAL,
            "pulse_healthcheck_file": str(self.path),
        }

    def age(self) -> float:
        return time.time() - self.path.stat().st_mtime

    def wait_fresh(self) -> None:
        wait_for(lambda: self.path.exists() and self.age() < FRESH, 20, what="a fresh file")

    def wait_old(self) -> None:
        wait_for(lambda: self.age() > 2 * FRESH, 20, what="an old file")

    def stays_fresh(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.age() < FRESH
            time.sleep(0.2)


@pytest.fixture
def heartbeat(tmp_path: Path) -> Heartbeat:
    return Heartbeat(tmp_path)


StartWorker = Callable[..., Worker]


@pytest.mark.parametrize("pool", POOLS)
def test_stopped_process_and_clean_end(
    redis_broker: Broker, heartbeat: Heartbeat, start_worker: StartWorker, pool: str
) -> None:
    worker = start_worker(redis_broker, pool, conf=heartbeat.conf, args=AUTO)
    heartbeat.wait_fresh()
    if pool != "solo":
        # Every slot is in use and more tasks wait.
        with Publisher(redis_broker) as publisher:
            publisher.send("sleep", 5, count=4)
        heartbeat.stays_fresh(6)
    worker.freeze()
    heartbeat.wait_old()
    worker.thaw()
    heartbeat.wait_fresh()
    worker.stop()
    assert not heartbeat.path.exists()


def test_busy_solo_worker_is_fresh(
    broker: Broker, heartbeat: Heartbeat, start_worker: StartWorker
) -> None:
    start_worker(broker, "solo", conf=heartbeat.conf, args=AUTO)
    with Publisher(broker) as publisher:
        publisher.send("busy", 8)
        heartbeat.wait_fresh()
        heartbeat.stays_fresh(7)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_blocked_loop_is_old(
    redis_broker: Broker, heartbeat: Heartbeat, start_worker: StartWorker, pool: str
) -> None:
    start_worker(redis_broker, pool, conf=heartbeat.conf, args=AUTO)
    heartbeat.wait_fresh()
    with Publisher(redis_broker) as publisher:
        publisher.app.control.broadcast("block", arguments={"seconds": 12.0})
        heartbeat.wait_old()
        heartbeat.wait_fresh()


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_task_that_blocks_all_greenlets_makes_the_file_old(
    redis_broker: Broker, heartbeat: Heartbeat, start_worker: StartWorker, pool: str
) -> None:
    start_worker(redis_broker, pool, conf=heartbeat.conf, args=AUTO)
    with Publisher(redis_broker) as publisher:
        publisher.send("busy", 12)
        heartbeat.wait_old()
        heartbeat.wait_fresh()


def test_stopped_children(
    redis_broker: Broker, heartbeat: Heartbeat, start_worker: StartWorker
) -> None:
    worker = start_worker(redis_broker, conf=heartbeat.conf, args=AUTO)
    heartbeat.wait_fresh()
    children = psutil.Process(worker.pid).children()
    assert len(children) == 2
    children[0].send_signal(signal.SIGSTOP)
    heartbeat.stays_fresh(3)  # the other child works
    children[1].send_signal(signal.SIGSTOP)
    heartbeat.wait_old()
    for child in children:
        child.send_signal(signal.SIGCONT)
    heartbeat.wait_fresh()


def test_broker_outage_leaves_the_file_fresh(
    own_broker: Broker, heartbeat: Heartbeat, start_worker: StartWorker
) -> None:
    start_worker(own_broker, conf=heartbeat.conf, args=AUTO)
    heartbeat.wait_fresh()
    own_broker.server.freeze()
    heartbeat.stays_fresh(8)
    own_broker.server.thaw()
    own_broker.server.kill()
    heartbeat.stays_fresh(5)


@pytest.mark.xfail(reason="the file of a child may remain, see docs/pulse.md")
def test_every_process_has_a_file_with_the_pid(
    redis_broker: Broker, tmp_path: Path, start_worker: StartWorker
) -> None:
    conf = {
        "pulse_heartbeat_interval": INTERVAL,
        "pulse_healthcheck_file": f"{tmp_path}/{{hostname}}-{{pid}}",
    }
    worker = start_worker(redis_broker, conf=conf, args=AUTO)

    def expected() -> set[str]:
        main = psutil.Process(worker.pid)
        return {f"prefork@test-{one.pid}" for one in [main, *main.children()]}

    wait_for(lambda: names(tmp_path) == expected(), 10)
    psutil.Process(worker.pid).children()[0].kill()
    wait_for(lambda: len(expected()) == 3 and names(tmp_path) == expected(), 10)
    worker.stop()
    assert names(tmp_path) == set()


def test_folder_that_is_no_folder_costs_one_line(
    redis_broker: Broker, start_worker: StartWorker
) -> None:
    conf = {"pulse_heartbeat_interval": 0.2, "pulse_healthcheck_file": "/dev/null/heartbeat"}
    worker = start_worker(redis_broker, "threads", conf=conf, args=AUTO)
    with Publisher(redis_broker) as publisher:
        assert publisher.run("add", 1, 2) == 3
    time.sleep(1)
    assert worker.log.count("heartbeat file") == 1
    assert "Traceback" not in worker.log


@pytest.fixture
def beat(redis_broker: Broker, heartbeat: Heartbeat) -> Iterator[Beat]:
    conf: dict[str, Any] = {
        **heartbeat.conf,
        "imports": ["celery_vitals_pulse.auto"],
        "beat_scheduler": "project.pulse_blocks:BlockedScheduler",
        "beat_schedule": {"hourly": {"task": "project.add", "schedule": 3600.0, "args": [1, 2]}},
    }
    with Beat(redis_broker, conf) as beat:
        yield beat


def test_beat_that_sleeps_is_fresh_and_a_stopped_one_is_not(
    beat: Beat, heartbeat: Heartbeat
) -> None:
    heartbeat.wait_fresh()
    heartbeat.stays_fresh(5)
    beat.freeze()
    heartbeat.wait_old()
    beat.thaw()
    heartbeat.wait_fresh()
    beat.stop()
    assert not heartbeat.path.exists()


def test_blocked_tick_is_old(redis_broker: Broker, heartbeat: Heartbeat) -> None:
    conf: dict[str, Any] = {
        **heartbeat.conf,
        "imports": ["celery_vitals_pulse.auto"],
        "beat_scheduler": "project.pulse_blocks:BlockedScheduler",
        "beat_max_loop_interval": 1,
    }
    with Beat(redis_broker, conf) as beat:
        heartbeat.wait_fresh()
        (beat.child.folder / "block").touch()
        heartbeat.wait_old()
        (beat.child.folder / "block").unlink()
        heartbeat.wait_fresh()


def test_process_that_imports_the_app_starts_nothing(
    redis_broker: Broker, heartbeat: Heartbeat
) -> None:
    program = (
        "import os, celery_vitals_pulse; from project.app import app\n"
        "celery_vitals_pulse.install(app); celery_vitals_pulse.install(app)\n"
        "app.finalize(); print(len(os.listdir('/proc/self/task')))"
    )
    environment = project_environment(redis_broker, heartbeat.conf)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == 1
    assert not heartbeat.path.exists()


@pytest.mark.parametrize("interval", [0, -1, "often", None, True, float("nan"), 1e12])
def test_nonsense_interval_is_the_default(interval: Any, caplog: pytest.LogCaptureFixture) -> None:
    from celery_vitals_pulse import settings

    assert settings.read({"pulse_heartbeat_interval": interval}).interval == 60
    assert caplog.text.count("pulse_heartbeat_interval") == 1
