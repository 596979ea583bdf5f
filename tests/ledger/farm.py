"""The workers of the scene, and what is done to them."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import psutil
from typing_extensions import Self

from tests.matrix.environments import with_celery
from tests.matrix.folder import NotHereError
from tests.support.servers import Broker, Worker, wait_for

from .recorder import Process, Recorder

QUEUES = ("celery", "late")
SETTINGS = {"include": ["project.tasks", "project.ledger"], "task_send_sent_event": True}
FAST = ("--heartbeat-interval", "1", "-l", "WARNING")
"""Arguments of workers with heartbeats; their log would be long."""


@dataclass(frozen=True)
class Kind:
    """A pool, its size, and the series of Celery that runs it; the installed one when empty."""

    pool: str
    slots: int
    series: str = ""
    arguments: Sequence[str] = ()
    heartbeat: bool = True


SIX = (
    Kind("prefork", 2),
    Kind("prefork", 2, "5.4"),
    Kind("threads", 2),
    Kind("gevent", 3),
    Kind("gevent", 3, "5.4"),
    Kind("solo", 1),
)


@cache
def python_of(series: str) -> Path:
    """Return a Python with this series of Celery; the one of the tests where it cannot be had."""
    if series:
        try:
            return with_celery(series, ())
        except NotHereError as exc:
            print(f"Celery {series} is replaced by the installed one: {exc}")
    return Path(sys.executable)


class Member:
    """One worker of the scene, over all its processes."""

    def __init__(self, farm: Farm, kind: Kind) -> None:
        self.kind = kind
        self._farm = farm
        self.revive_at = 0.0
        """When to start it again; 0 while it runs."""
        self.started_at = 0.0
        self._starts = 0
        self.worker = farm.new_worker(kind)

    @property
    def process(self) -> Process:
        """What its heartbeats show."""
        return self._farm.recorder.processes.get((self.worker.name, self.worker.pid), Process())

    @property
    def ready(self) -> bool:
        """Whether it has sent an event; without heartbeats, whether it has logged that it is."""
        if not self.kind.heartbeat:
            return self.worker.log.count(self.worker.ready_line) >= self._starts
        return self.worker.alive and self.process.last_seen > 0

    def start(self, new_name: bool = False) -> None:
        """Start it, under its old name or a new one."""
        if new_name:
            self.worker, self._starts = self._farm.new_worker(self.kind), 0
        self._starts += 1
        self.revive_at, self.started_at = 0.0, time.time()
        self.worker.launch()
        self._farm.mains.add(self.worker.pid)

    def kill(self) -> None:
        """SIGKILL to its process and all its pool processes."""
        pids = {one.pid for one in self.worker.child.processes()} | {self.worker.pid}
        now = time.time()
        with suppress(ProcessLookupError):
            os.killpg(self.worker.pid, signal.SIGKILL)  # all at once
        self.worker.kill()
        self._farm.deaths.update(dict.fromkeys(pids, now))

    def children(self) -> list[psutil.Process]:
        """Return its pool processes."""
        with suppress(psutil.Error):
            return psutil.Process(self.worker.pid).children()
        return []

    def kill_child(self, random: Random) -> bool:
        """SIGKILL to one pool process; return whether there is one."""
        children = self.children()
        if self.kind.pool != "prefork" or not children:
            return False
        pid = random.choice(children).pid
        self._farm.deaths[pid] = time.time()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True


class Farm:
    """All workers.  As a context manager they are started, and leave nothing behind."""

    def __init__(
        self,
        broker: Broker,
        recorder: Recorder,
        folder: Path,
        kinds: Iterable[Kind] = SIX,
        conf: Mapping[str, Any] | None = None,
    ) -> None:
        self.broker, self.recorder, self.folder = broker, recorder, folder
        self.deaths: dict[int, float] = {}
        """When each process was killed."""
        self.mains: set[int] = set()
        """Pids of all worker processes."""
        self._conf = dict(conf or {})
        self._numbers = itertools.count(1)
        self._stack = ExitStack()
        self.members = [Member(self, kind) for kind in kinds]

    def new_worker(self, kind: Kind) -> Worker:
        """Return a worker with a name of its own, not started."""
        worker = Worker(
            self.broker,
            kind.pool,
            f"{kind.pool}{next(self._numbers)}",
            queues=QUEUES,
            concurrency=kind.slots,
            events=True,
            heartbeat=kind.heartbeat,
            conf=SETTINGS | self._conf,
            args=(*(FAST if kind.heartbeat else ()), *kind.arguments),
            env={"LEDGER_FOLDER": str(self.folder)},
            python=python_of(kind.series),
        )
        self._stack.callback(worker.close)
        return worker

    def wait_ready(self, timeout: float = 90.0) -> None:
        """Wait until all that run have sent an event."""

        def ready() -> bool:
            silent = [one.worker.name for one in self.members if not (one.revive_at or one.ready)]
            assert not silent, silent
            return True

        wait_for(ready, timeout, what="all workers ready", interval=0.1)

    def revive(self, now: float, random: Random, everyone: bool = False) -> int:
        """Start those again whose time has come, and return how many ended by themselves.

        As prefork workers of Celery 5.7 may do when Redis is gone.
        """
        ended = [one for one in self.members if not one.revive_at and not one.worker.alive]
        for one in ended:
            one.kill()
            one.revive_at = now
        for one in self.members:
            if one.revive_at and (everyone or now >= one.revive_at):
                one.start(new_name=random.random() < 0.3)
        return len(ended)

    def __enter__(self) -> Self:
        try:
            for one in self.members:
                one.start()
            self.wait_ready()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def settings(broker: Broker, visibility_timeout: float) -> dict[str, Any]:
    """Return the settings of workers, with a visibility timeout where the broker has one."""
    if broker.kind != "redis":
        return {}
    # kombu 5.7 looks for overdue messages every 100 seconds by default.
    options = {
        "visibility_timeout": visibility_timeout,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
    return {"broker_transport_options": options}
