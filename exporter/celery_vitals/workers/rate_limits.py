"""The rate limits of a worker's tasks."""

from __future__ import annotations

from collections.abc import Iterable

from celery.utils.time import rate


def longest_start_interval(limits: Iterable[str | None]) -> float:
    """Return the most seconds that any of these rate limits puts between two starts.

    0 without a rate limit.  One that cannot be parsed may have any value: the interval is then
    infinite.
    """
    return max((_interval(limit) for limit in limits if limit), default=0.0)


def _interval(limit: str) -> float:
    try:
        per_second = float(rate(limit))
    except (ValueError, KeyError):
        return float("inf")
    if not per_second:
        return 0.0
    return 1.0 / per_second if per_second > 0 else float("inf")
