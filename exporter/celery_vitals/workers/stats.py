"""A worker's reply to the remote control command `stats`, without its malformed values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
_TRANSPORT_OPTIONS: Mapping[str, Callable[[Any], bool]] = {
    "sep": lambda value: isinstance(value, str) and 0 < len(value) <= _MAX_OPTION,
    "priority_steps": lambda value: (
        isinstance(value, list)
        and 0 < len(value) <= _MAX_OPTION
        and all(_number(step) is not None for step in value)
    ),
    "unacked_key": lambda value: isinstance(value, str) and 0 < len(value) <= _MAX_OPTION,
    "unacked_index_key": lambda value: isinstance(value, str) and 0 < len(value) <= _MAX_OPTION,
    "ack_emulation": lambda value: isinstance(value, (bool, int)),
    "visibility_timeout": lambda value: bool(_number(value)),
}
"""The transport options that are used, and whether a value is plausible; others may be secret."""
_MAX_OPTION = 100
"""Characters of a text, or elements of a list."""
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
    transport_options: Mapping[str, Any] | None = None
    """Those of the broker connection that name its keys; kombu's default applies where one is
    missing."""

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
            transport_options=_transport_options(body.get("broker")),
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


def _transport_options(broker: Any) -> dict[str, Any] | None:
    options = broker.get("transport_options") if isinstance(broker, dict) else None
    if not isinstance(options, dict):
        return None
    return {
        name: options[name]
        for name, plausible in _TRANSPORT_OPTIONS.items()
        if name in options and plausible(options[name])
    }


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
