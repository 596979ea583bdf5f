"""Real Celery workers, and a publisher of tasks for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from benchmarks.support.processes import Process, environment
from benchmarks.support.servers import Broker

_ROOT = Path(__file__).resolve().parents[2]


class Worker(Process):
    """A worker of the app in `tasks`, without gossip and mingle."""

    def __init__(
        self,
        broker: Broker,
        pool: str,
        name: str,
        *,
        queues: Sequence[str] = ("celery",),
        concurrency: int = 2,
        events: bool = False,
        heartbeat: bool = True,
    ) -> None:
        argv = [sys.executable, "-m", "celery", "-A", "benchmarks.support.tasks", "worker"]
        argv += ["-P", pool, "-n", name, "-c", str(concurrency), "-l", "INFO"]
        argv += ["-Q", ",".join(queues), "--without-gossip", "--without-mingle"]
        argv += ["-E"] * events + ["--without-heartbeat"] * (not heartbeat)
        env = {"PYTHONPATH": str(_ROOT), "BENCH_BROKER_URL": broker.url}
        super().__init__(name.partition("@")[0], argv, environment() | env)

    def wait_consuming(self) -> None:
        """Wait until it consumes its queues."""
        self.wait_ready(lambda: " ready." in self.log)


@contextmanager
def publishing_app(broker: Broker, **conf: Any) -> Iterator[Celery]:
    """Yield an app that does not become the current one."""
    with Celery("publisher", broker=broker.url, set_as_current=False) as app:
        app.conf.update(task_ignore_result=True, **conf)
        yield app
