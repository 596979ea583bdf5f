"""Bursts of task events at random times, as workers publish them."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery

from tests.support.servers import Broker

WORKER = "w@bursts"


class Bursts:
    """Publishes the events of executed tasks; `counts` has the true number by task and outcome."""

    def __init__(self, broker: Broker) -> None:
        self._app = Celery("bursts", broker=broker.url, set_as_current=False)
        self._connection = self._app.connection_for_write()
        self._dispatcher = self._app.events.Dispatcher(
            self._connection, hostname=WORKER, buffer_group={"task"}, buffer_limit=100_000
        )
        self.counts: Counter[tuple[str, str]] = Counter()

    def run(self, task: str, count: int, outcome: str = "failed", **fields: object) -> None:
        """Publish the events of `count` executions, in one message."""
        if outcome == "failed":
            fields = {"exception": "ValueError('x')", "traceback": "", **fields}
        for _ in range(count):
            ident = str(uuid.uuid4())
            self._dispatcher.send("task-received", uuid=ident, name=task, retries=0, eta=None)
            self._dispatcher.send(f"task-{outcome}", uuid=ident, **fields)
        self._dispatcher.flush(errors=False)
        self.counts[task, outcome] += count

    def spread(
        self, tasks: Sequence[str], sizes: Sequence[int], seconds: float, chance: random.Random
    ) -> None:
        """Publish one burst of failures of each task, at random times within these seconds."""
        start = time.monotonic()
        at = sorted(chance.uniform(0, seconds) for _ in tasks)
        for moment, task, size in zip(at, tasks, sizes, strict=True):
            time.sleep(max(0.0, start + moment - time.monotonic()))
            self.run(task, size)

    def close(self) -> None:
        """Disconnect."""
        self._dispatcher.close()
        self._connection.release()
        self._app.close()


@contextmanager
def bursts_on(broker: Broker) -> Iterator[Bursts]:
    """Publish on a broker."""
    bursts = Bursts(broker)
    try:
        yield bursts
    finally:
        bursts.close()
