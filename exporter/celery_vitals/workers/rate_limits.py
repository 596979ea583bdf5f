"""How seldom a worker's tasks may start, by its reply to `registered`: `project.limited [rate_limit=10/m]`."""

from __future__ import annotations

import re
from typing import Any

from celery.utils.time import rate

_LIMIT = re.compile(r"[\[ ]rate_limit=([^\]\s]+)")


def longest_pause(body: Any) -> float | None:
    """The most seconds that any of its rate limits puts between two starts, 0 without one; None when it is no reply.

    A limit that cannot be read may be any: the pause is endless.
    """
    if not isinstance(body, list):
        return None
    found = (_LIMIT.search(task) for task in body if isinstance(task, str))
    return max((_pause(limit[1]) for limit in found if limit), default=0.0)


def _pause(limit: str) -> float:
    try:
        a_second = float(rate(limit))
    except (ValueError, KeyError):
        return float("inf")
    if not a_second:
        return 0.0
    return 1.0 / a_second if a_second > 0 else float("inf")
