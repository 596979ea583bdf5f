"""The rate limits of a worker's tasks, from its reply to `registered`.

An entry of that reply reads `project.limited [rate_limit=10/m]`.
"""

from __future__ import annotations

import re
from typing import Any

from celery.utils.time import rate

_LIMIT = re.compile(r"[\[ ]rate_limit=([^\]\s]+)")


def longest_start_interval(body: Any) -> float | None:
    """Return the most seconds that any rate limit puts between two starts.

    0 without a rate limit; None when `body` is no reply to `registered`.  A rate limit that cannot
    be parsed may have any value: the interval is then infinite.
    """
    if not isinstance(body, list):
        return None
    found = (_LIMIT.search(task) for task in body if isinstance(task, str))
    return max((_interval(limit[1]) for limit in found if limit), default=0.0)


def _interval(limit: str) -> float:
    try:
        per_second = float(rate(limit))
    except (ValueError, KeyError):
        return float("inf")
    if not per_second:
        return 0.0
    return 1.0 / per_second if per_second > 0 else float("inf")
