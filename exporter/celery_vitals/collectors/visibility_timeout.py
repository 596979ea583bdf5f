"""The visibility timeout that the application applies."""

from __future__ import annotations

from celery_vitals.brokers.target import DEFAULT_VISIBILITY_TIMEOUT, Target
from celery_vitals.workers.registry import WorkerRegistry


def visibility_timeout(target: Target, workers: WorkerRegistry) -> float | None:
    """Return the exporter's or its app's value in seconds, else the shortest that a worker applies.

    None where the broker has none, or where it is unknown.
    """
    if target.visibility_timeout is not None:
        return target.visibility_timeout
    reported = (
        target.kind.visibility_timeout(options, DEFAULT_VISIBILITY_TIMEOUT)
        for options in workers.transport_options()
    )
    return min((seconds for seconds in reported if seconds is not None), default=None)
