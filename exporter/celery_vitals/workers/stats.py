"""A worker's reply to the remote control command `stats`, without its malformed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_vitals.metrics.base import label_text
from celery_vitals.metrics.cardinality import OTHER

_KILOBYTE = 1024
_HUGE = 2**63
# Celery 5.2 does not report the pool's implementation.  Each pool except gevent has a key that the
# pools after it in this list lack.
_POOL_KEYS = {
    "writes": "prefork",
    "put-guarded-by-semaphore": "solo",
    "threads": "threads",
    "free-threads": "eventlet",
}
_MAX_TASKS = 1000
"""Distinct task names kept per worker: `shadow` makes them unbounded."""


@dataclass(frozen=True)
class Stats:
    """The used part of a reply to `stats`; None for a value that is missing or malformed."""

    pool: str
    slots: int | None
    prefetch: int | None
    pid: int | None
    uptime: float | None
    accepted: Mapping[str, int]
    cpu_user: float | None
    cpu_system: float | None
    max_resident: float | None
    """Bytes."""

    @classmethod
    def parse(cls, body: Any) -> Stats | None:
        """Parse the reply's body; return None when it is no reply to `stats`."""
        if not isinstance(body, dict) or not isinstance(body.get("pool"), dict):
            return None
        pool = body["pool"]
        usage = body["rusage"] if isinstance(body.get("rusage"), dict) else {}
        resident = _number(usage.get("maxrss"))
        return cls(
            pool=_pool_name(pool),
            slots=_slots(pool),
            prefetch=whole(body.get("prefetch_count")),
            pid=whole(body.get("pid")),
            uptime=_number(body.get("uptime")),
            accepted=_counts(body.get("total")),
            cpu_user=_number(usage.get("utime")),
            cpu_system=_number(usage.get("stime")),
            max_resident=resident * _KILOBYTE if resident is not None else None,
        )

    @property
    def processed(self) -> int:
        """Number of tasks started."""
        return sum(self.accepted.values())


def whole(value: Any) -> int | None:
    """Return `value` if it is a plausible count: an integer, not negative, below 2**63."""
    number = _number(value)
    return (
        int(number) if number is not None and number == value and isinstance(value, int) else None
    )


def _pool_name(pool: Mapping[str, Any]) -> str:
    """Return the pool's short name; a custom pool keeps its full name.

    `celery.concurrency.prefork:TaskPool` is `prefork`.
    """
    by_key = next((name for key, name in _POOL_KEYS.items() if key in pool), "unknown")
    text = label_text(pool.get("implementation") or by_key)
    name = text.partition(":")[0].removeprefix("celery.concurrency.")
    if not text.startswith("celery.concurrency."):
        return text
    return "threads" if name == "thread" else name  # the name that the option -P uses


def _slots(pool: Mapping[str, Any]) -> int | None:
    """Return the processes of a prefork pool, which may be autoscaled; else the pool's limit."""
    processes = pool.get("processes")
    if isinstance(processes, list) and processes:
        return len(processes)
    return whole(pool.get("max-concurrency"))


def _number(value: Any) -> float | None:
    """Return `value` if it is a plausible number: not negative, below 2**63."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < _HUGE:
        return None
    return float(value)


def _counts(total: Any) -> dict[str, int]:
    """Return the counts by task; names beyond the cap are aggregated to keep the sum complete."""
    counts: dict[str, int] = {}
    for task, n in total.items() if isinstance(total, dict) else ():
        count = whole(n)
        if count is not None:
            name = label_text(task)
            name = name if name in counts or len(counts) < _MAX_TASKS else OTHER
            counts[name] = counts.get(name, 0) + count
    return counts
