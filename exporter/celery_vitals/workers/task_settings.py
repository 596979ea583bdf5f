"""The settings of tasks by name: whether they acknowledge late, and how often they are retried.

They are those of the app, and of workers that report them.  A worker is asked when it has received
a task of unknown settings: a reply contains all tasks of the worker, so that a cluster of equal
workers costs one reply or two.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from celery_vitals.workers.registered_tasks import RegisteredTask
from celery_vitals.workers.worker import Worker

_ASKED_AT_ONCE = 2
"""Workers that are asked in one round."""
_MAX_MISSES = 3
"""Replies without a name after which no worker is asked for it: it is the `shadow` of a task, or
not registered."""
_MAX_TASKS = 20_000
"""Tasks that are kept, besides those that workers have received."""


@dataclass(frozen=True)
class _Known:
    task: RegisteredTask
    at: float
    """Unix time of the reply; infinite for a task of the app."""


class TaskSettings:
    """The known settings of all tasks.

    One thread calls `request`, another one asks the workers, any thread reads: each attribute that
    they share is replaced, never changed, so that no lock is necessary.
    """

    def __init__(self, of_app: Mapping[str, RegisteredTask] | None = None) -> None:
        self._known = {name: _Known(task, float("inf")) for name, task in (of_app or {}).items()}
        self._receivers: Mapping[str, str] = {}
        """The worker that last received a task, by the name of the task."""
        self._asked: dict[str, int] = {}
        """The workers that were asked, and how many restarts of them were observed until then."""
        self._misses = Counter[str]()

    def late(self, name: str) -> bool | None:
        """Return whether a task acknowledges its messages after its execution; None if unknown."""
        known = self._known.get(name)
        return known.task.acks_late if known is not None else None

    def max_retries(self, name: str) -> float | None:
        """Return how often a task is retried: infinite without a limit; None if unknown."""
        known = self._known.get(name)
        return known.task.max_retries if known is not None else None

    def request(self, received: Iterable[tuple[str, str]]) -> None:
        """Request the settings of tasks: pairs of a name and the worker that last received it."""
        self._receivers = dict(received)

    def workers_to_ask(
        self, workers: Collection[Worker], answering: Collection[str]
    ) -> frozenset[str]:
        """Return which of the workers that are `answering` to ask now, each process once.

        Settings of a reply from before a worker started may not be its settings.
        """
        by_name = {worker.name: worker for worker in workers}
        self._asked = {name: n for name, n in self._asked.items() if name in by_name}
        receivers = self._receivers
        self._misses = Counter({name: self._misses[name] for name in receivers})
        wanted: set[str] = set()
        for task, name in receivers.items():
            worker = by_name.get(name)
            if name in answering and worker and self._asked.get(name) != worker.restarts:
                known = self._known.get(task)
                if (
                    self._misses[task] < _MAX_MISSES
                    if known is None
                    else known.at < (worker.started_at or 0)
                ):
                    wanted.add(name)
                    if len(wanted) == _ASKED_AT_ONCE:
                        break
        return frozenset(wanted)

    def asked(self, workers: Iterable[Worker], names: Collection[str]) -> None:
        """Record that the workers of these names have been asked."""
        self._asked |= {worker.name: worker.restarts for worker in workers if worker.name in names}

    def replied(self, worker: str, tasks: Mapping[str, RegisteredTask]) -> None:
        """Record a worker's tasks."""
        now, receivers = time.time(), self._receivers
        if len(self._known) + len(tasks) > _MAX_TASKS:
            tasks = {name: task for name, task in tasks.items() if name in receivers}
        self._known = {**self._known, **{name: _Known(task, now) for name, task in tasks.items()}}
        self._misses.update(
            name
            for name, receiver in receivers.items()
            if receiver == worker and name not in self._known
        )
