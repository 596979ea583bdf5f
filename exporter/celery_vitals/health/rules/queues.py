"""The rules of queues."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.health.codes import Code
from celery_vitals.health.commands import control, count, duration, start_worker
from celery_vitals.health.findings import Finding
from celery_vitals.health.rules.base import Situation
from celery_vitals.status import QueueStatus


def unserved(situation: Situation) -> Iterator[Finding]:
    """Yield the queues in which tasks wait without a consumer."""
    for queue in _that_matter(situation):
        if queue.is_unserved:
            waiting = count(queue.length or 0, "message waits", "messages wait")
            yield situation.finding(
                Code.QUEUE_UNSERVED,
                queue.name,
                f"{waiting} in the queue {queue.name}, which has no consumers.",
                start_worker(situation.limits, [queue.name]),
                _evidence(queue),
            )


def workers_missing(situation: Situation) -> Iterator[Finding]:
    """Yield the queues with fewer workers than their minimum.

    Not where the broker counts as many consumers: a worker that is busy may not reply.
    """
    if not situation.status.workers_known or situation.broker_down:
        return
    queues = {queue.name: queue for queue in situation.status.queues}
    for name, minimum in situation.limits.queue_min_workers.items():
        queue = queues.get(name, QueueStatus(name, None, 0, None))
        if queue.workers is None or max(queue.workers, queue.consumers or 0) >= minimum:
            continue
        yield situation.finding(
            Code.QUEUE_WORKERS_MISSING,
            name,
            f"The queue {name} has {count(queue.workers, 'worker')}, fewer than its minimum of"
            f" {minimum}.",
            start_worker(situation.limits, [name]),
            {**_evidence(queue), "minimum": minimum},
        )


def over_limit(situation: Situation) -> Iterator[Finding]:
    """Yield the queues that are longer than their limit."""
    for queue in _that_matter(situation):
        limit = situation.limits.queue_limit(queue)
        if limit is None or queue.length is None or queue.length <= limit:
            continue
        yield situation.finding(
            Code.QUEUE_OVER_LIMIT,
            queue.name,
            f"{count(queue.length, 'message waits', 'messages wait')} in the queue {queue.name},"
            f" more than its limit of {limit}.",
            _add_slots(situation, queue),
            {**_evidence(queue), "limit": limit},
        )


def oldest_message(situation: Situation) -> Iterator[Finding]:
    """Yield the queues whose oldest message is too old although they have consumers.

    Purged tasks never start, so the broker must count a message.
    """
    if situation.broker_down:
        return
    for queue in _that_matter(situation):
        limit = situation.limits.queue_age(queue.name)
        if queue.oldest_message is None or situation.now - queue.oldest_message <= limit:
            continue
        if queue.workers == 0 or not (queue.length or queue.unacked):
            continue
        yield situation.finding(
            Code.QUEUE_OLDEST_MESSAGE,
            queue.name,
            f"The oldest message of the queue {queue.name} was sent"
            f" {duration(situation.now - queue.oldest_message)} ago, more than its limit of"
            f" {duration(limit)}.",
            _add_slots(situation, queue),
            {**_evidence(queue), "oldest_message": queue.oldest_message, "limit_seconds": limit},
            queue.oldest_message + limit,
        )


def _that_matter(situation: Situation) -> Iterator[QueueStatus]:
    return (queue for queue in situation.status.queues if situation.limits.matters(queue.name))


def _evidence(queue: QueueStatus) -> dict[str, str | int | float | None]:
    return {"length": queue.length, "workers": queue.workers, "consumers": queue.consumers}


def _add_slots(situation: Situation, queue: QueueStatus) -> str:
    """Recommend another worker, or more slots for one that consumes the queue."""
    start = start_worker(situation.limits, [queue.name])
    consuming = [
        one.name for one in situation.status.workers if one.up and queue.name in one.queues
    ]
    if not consuming:
        return start
    grow = control(situation.limits, "control", "pool_grow", "1", worker=consuming[0])
    return f"{start}  # or more slots: {grow}"
