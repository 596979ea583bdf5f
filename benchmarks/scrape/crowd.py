"""A large cluster: queues with messages, and stand-ins verified against a real worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import click
from celery import Celery

from benchmarks.scrape.capture import METHODS, Sample, capture
from benchmarks.scrape.standins import Standin, run
from benchmarks.support.processes import wait_for
from benchmarks.support.servers import Broker
from benchmarks.support.workers import Worker, publishing_app

_REAL = "real@bench"
_QUEUES_EACH = 4
_TASKS = {f"shop.orders.tasks.task_{number}": number * 1000 for number in range(10)}
"""Number of started tasks that each worker reports, by name."""
_PER_PROCESS = 250
_READY = 120.0


@dataclass(frozen=True)
class Crowd:
    """A broker with a number of replying workers, and of queues with one message each."""

    broker: Broker
    workers: int
    queues: int


@contextmanager
def crowd(broker: Broker, workers: int, queues: int) -> Iterator[Crowd]:
    """Let a real worker declare the queues and reply once; then replace it by stand-ins."""
    names = tuple(f"queue_{number}" for number in range(queues))
    processes = []
    try:
        with Worker(broker, "prefork", _REAL, queues=names, concurrency=4) as real:
            real.wait_consuming()
            _let_work(broker, real, names[0])
            samples = capture(broker, _REAL)
            standins = [_standin(number, samples, names) for number in range(workers)]
            for first in range(0, workers, _PER_PROCESS):
                some = standins[first : first + _PER_PROCESS]
                ready = get_context("spawn").Event()
                arguments = (broker.kind, broker.url, some, ready.set)
                process = get_context("spawn").Process(target=run, args=arguments, daemon=True)
                process.start()
                processes.append(process)
                if not ready.wait(_READY):
                    raise click.ClickException("the stand-ins are not ready")
            _compare(broker, workers)
        with publishing_app(broker) as app:
            for name in names:
                app.send_task("bench.add", (1, 2), queue=name)
        yield Crowd(broker, workers, queues)
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()


def _let_work(broker: Broker, worker: Worker, queue: str) -> None:
    with publishing_app(broker) as app:
        for _ in range(3):
            app.send_task("bench.add", (1, 2), queue=queue)
    wait_for(lambda: worker.log.count("succeeded") == 3, what="three tasks run")


def _standin(number: int, samples: Mapping[str, Sample], names: tuple[str, ...]) -> Standin:
    """Return the real worker's replies under another name, with different tasks and queues."""
    consumed = [names[(number * _QUEUES_EACH + one) % len(names)] for one in range(_QUEUES_EACH)]
    stats, queues = (samples[method] for method in METHODS)
    one = queues.body[0]
    renamed = [
        {**one, "name": name, "routing_key": name, "exchange": {**one["exchange"], "name": name}}
        for name in consumed
    ]
    replies = {"stats": replace(stats, body={**stats.body, "total": _TASKS, "pid": 1000 + number})}
    return Standin(
        f"worker_{number}@bench", {**replies, "active_queues": replace(queues, body=renamed)}
    )


def _compare(broker: Broker, workers: int) -> None:
    """Verify by `inspect` that the stand-ins reply with the keys and types of the real worker."""
    with Celery(broker=broker.url, set_as_current=False) as app:
        inspect = app.control.inspect(timeout=20.0, limit=workers + 1)
        for method in METHODS:
            answers: dict[str, Any] = getattr(inspect, method)() or {}
            if len(answers) != workers + 1:
                raise click.ClickException(
                    f"{len(answers)} of {workers + 1} workers replied to {method}"
                )
            wanted = shape(answers.pop(_REAL))
            for name, answer in answers.items():
                if shape(answer) != wanted:
                    raise click.ClickException(
                        f"{name} replies to {method} differently from a real worker"
                    )


def shape(value: Any) -> Any:
    """Return keys and types; lists as sets of item shapes, task counts without their names."""
    if isinstance(value, dict):
        return {
            key: shape(list(one.values()) if key == "total" and isinstance(one, dict) else one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        found: list[Any] = []
        for one in map(shape, value):
            if one not in found:
                found.append(one)
        return found
    return type(value)
