"""The cluster of the demo: the broker, two workers and beat, as processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery_vitals.demo.brokers import Broker
from celery_vitals.demo.processes import Supervisor

PROJECT = "celery_vitals.demo.project"
CELERY = (sys.executable, "-m", "celery", "-A", PROJECT)


def environment(broker: Broker, folder: Path) -> dict[str, str]:
    """Return the environment of the demo's processes, without settings of any other cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    return {
        **kept,
        "CELERY_BROKER_URL": broker.url,
        "CELERY_RESULT_BACKEND": broker.backend,
        "DEMO_FOLDER": str(folder),
        # The file system transport renames messages from here: the same file system as `folder`.
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
        "PYTHONUNBUFFERED": "1",
    }


def start_broker(supervisor: Supervisor, broker: Broker, env: dict[str, str]) -> None:
    """Start the broker's process, if it has one, without waiting until it is ready."""
    if broker.command:
        supervisor.start("broker", broker.command, env, broker.config, stops_last=True)


def start_workers(supervisor: Supervisor, env: dict[str, str]) -> None:
    """Start two workers with different pools and queues; the queue `reports` has no consumers."""
    supervisor.start("worker-orders", _worker("orders@demo", "prefork", 3, "orders,payments"), env)
    supervisor.start("worker-media", _worker("media@demo", "threads", 4, "mail,media"), env)


def start_beat(supervisor: Supervisor, env: dict[str, str]) -> None:
    """Start beat, which sends the tasks."""
    supervisor.start(
        "beat", (*CELERY, "beat", "-l", "warning", "--pidfile=", "-s", "beat-schedule"), env
    )


def _worker(name: str, pool: str, slots: int, queues: str) -> tuple[str, ...]:
    start = (*CELERY, "worker", "-E", "-l", "warning", "--without-mingle", "--without-gossip")
    return (*start, "-n", name, "-P", pool, "-c", str(slots), "-Q", queues)
