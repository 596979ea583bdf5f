"""The cluster that the demo watches: the broker, two workers and beat, as processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery_vitals.demo.brokers import Broker
from celery_vitals.demo.children import Household

PROJECT = "celery_vitals.demo.project"
CELERY = (sys.executable, "-m", "celery", "-A", PROJECT)


def environment(broker: Broker, folder: Path) -> dict[str, str]:
    """The environment of every process in the demo: nothing in it points to anyone's real cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    return {
        **kept,
        "CELERY_BROKER_URL": broker.url,
        "CELERY_RESULT_BACKEND": broker.backend,
        "DEMO_FOLDER": str(folder),
        "TMPDIR": str(
            folder / "tmp"
        ),  # kombu's file system transport moves each message through it
        "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
        "PYTHONUNBUFFERED": "1",
    }


def start_broker(household: Household, broker: Broker, env: dict[str, str]) -> None:
    """Start the broker, if there is anything to start; it is not ready yet when this returns."""
    if broker.command:
        household.start("broker", broker.command, env, broker.config, stops_last=True)


def start_workers(household: Household, env: dict[str, str]) -> None:
    """Start the two workers: different pools, different queues, and `reports` is left to nobody."""
    household.start("worker-orders", _worker("orders@demo", "prefork", 3, "orders,payments"), env)
    household.start("worker-media", _worker("media@demo", "threads", 4, "mail,media"), env)


def start_beat(household: Household, env: dict[str, str]) -> None:
    """Start beat, which makes the traffic."""
    household.start(
        "beat", (*CELERY, "beat", "-l", "warning", "--pidfile=", "-s", "beat-schedule"), env
    )


def _worker(name: str, pool: str, slots: int, served: str) -> tuple[str, ...]:
    start = (*CELERY, "worker", "-E", "-l", "warning", "--without-mingle", "--without-gossip")
    return (*start, "-n", name, "-P", pool, "-c", str(slots), "-Q", served)
