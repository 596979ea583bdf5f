"""The rules of workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from celery_vitals.health.codes import Code
from celery_vitals.health.commands import control, duration, listed, start_worker
from celery_vitals.health.findings import Finding
from celery_vitals.health.rules.base import Situation
from celery_vitals.status import ClusterStatus, WorkerStatus
from celery_vitals.workers.state import State


def consumers_counted(status: ClusterStatus) -> int:
    """Return how many workers consume at least, as the broker counts consumers."""
    counts = (queue.consumers or 0 for queue in status.queues if queue.is_celery)
    return max(counts, default=0)


def missing(situation: Situation) -> Iterator[Finding]:
    """Yield that fewer workers are up than the minimum.

    Not where the broker counts as many consumers: a worker that is busy may not reply.
    """
    status, minimum = situation.status, situation.limits.min_workers
    up = sum(worker.up for worker in status.workers)
    unproved = not status.workers_known or consumers_counted(status) >= minimum
    if up >= minimum or unproved or situation.broker_down:
        return
    down = [worker.name for worker in status.workers if not worker.up]
    waiting = [queue.name for queue in status.queues if queue.is_celery and queue.length]
    have = f"{up or 'No'} {'worker is' if up in (0, 1) else 'workers are'} up"
    yield situation.finding(
        Code.WORKERS_MISSING,
        "",
        f"{have}, fewer than the minimum of {minimum}.",
        start_worker(situation.limits, waiting),
        {"up": up, "minimum": minimum, "down": listed(down)},
    )


def down(situation: Situation) -> Iterator[Finding]:
    """Yield the workers that are lost without an offline event.

    Offline events are received only while the event stream is up.
    """
    if situation.status.tasks is None or not situation.status.tasks.stream_up:
        return
    for worker in situation.status.workers:
        if worker.up or worker.offline:
            continue
        yield situation.finding(
            Code.WORKER_DOWN,
            worker.name,
            f"The worker {worker.name} is down without an offline event: it was killed, is frozen,"
            f" or has lost its connection. Its last sign of life is"
            f" {duration(situation.now - worker.last_seen)} old.",
            start_worker(situation.limits, worker.queues, worker.name),
            {"last_seen": worker.last_seen, "queues": listed(worker.queues)},
            worker.last_seen,
        )


def not_consuming(situation: Situation) -> Iterator[Finding]:
    """Yield the workers that are up and take no tasks."""
    for worker in _in_state(situation, State.NOT_CONSUMING):
        queue = _longest(situation.status, worker)
        yield situation.finding(
            Code.WORKER_NOT_CONSUMING,
            worker.name,
            f"The worker {worker.name} is up and takes no tasks.",
            control(situation.limits, "control", "add_consumer", queue, worker=worker.name),
            _evidence(worker),
        )


def stalled(situation: Situation) -> Iterator[Finding]:
    """Yield the workers that have free slots and start none of the tasks that wait."""
    for worker in _in_state(situation, State.STALLED):
        yield situation.finding(
            Code.WORKER_STALLED,
            worker.name,
            f"The worker {worker.name} has free slots and starts none of the tasks that wait.",
            control(situation.limits, "control", "shutdown", worker=worker.name)
            + "  # then start it again",
            _evidence(worker),
        )


def _in_state(situation: Situation, state: State) -> Iterator[WorkerStatus]:
    if not situation.broker_down:
        yield from (worker for worker in situation.status.workers if worker.state is state)


def _evidence(worker: WorkerStatus) -> Mapping[str, str | int | float | None]:
    return {
        "state": worker.state.value,
        "queues": listed(worker.queues),
        "slots": worker.slots,
        "last_seen": worker.last_seen,
    }


def _longest(status: ClusterStatus, worker: WorkerStatus) -> str:
    """Return the queue that the worker should consume: its own, else one without consumers, else
    the longest."""
    if worker.queues:
        return worker.queues[0]
    of_celery = [queue for queue in status.queues if queue.is_celery]
    best = max(
        of_celery,
        key=lambda queue: (queue.is_unserved, queue.length or 0, queue.name),
        default=None,
    )
    return best.name if best is not None else "celery"
