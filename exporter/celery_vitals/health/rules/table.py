"""The table of all rules, in the order of their areas."""

from __future__ import annotations

from celery_vitals.health.rules import backend, broker, events, queues, tasks, workers
from celery_vitals.health.rules.base import Rule

RULES: tuple[Rule, ...] = (
    broker.down,
    broker.unwritable,
    broker.evicts,
    backend.down,
    workers.missing,
    workers.down,
    workers.not_consuming,
    workers.stalled,
    queues.unserved,
    queues.workers_missing,
    queues.over_limit,
    queues.oldest_message,
    tasks.overdue,
    tasks.stuck,
    tasks.lost,
    tasks.run_twice,
    tasks.poison,
    events.stream_down,
)
