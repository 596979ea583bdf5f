"""What a worker's reply to `stats` says, nonsense left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_vitals.metrics.base import label_text
from celery_vitals.metrics.cardinality import OTHER

_KILOBYTE = 1024
_HUGE = 2**63
# Celery 5.2 does not name the pool, but for gevent each tells something that the ones after it do not.
_TRAITS = {
    "writes": "prefork",
    "put-guarded-by-semaphore": "solo",
    "threads": "threads",
    "free-threads": "eventlet",
}
_TASKS = 1000
"""Task names of one worker that are told apart: `shadow` names may be without end."""


@dataclass(frozen=True)
class Stats:
    """What is used of a worker's reply to `stats`; None where it says nothing or nonsense."""

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
        """From the reply's body; None when it is not a reply to `stats`."""
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
        """All tasks begun."""
        return sum(self.accepted.values())


def whole(value: Any) -> int | None:
    """A whole number as workers may rightly tell it: not negative, and not beyond any count."""
    number = _number(value)
    return (
        int(number) if number is not None and number == value and isinstance(value, int) else None
    )


def _pool_name(pool: Mapping[str, Any]) -> str:
    """`celery.concurrency.prefork:TaskPool` is the pool `prefork`; a pool of one's own keeps its full name."""
    unnamed = next((name for trait, name in _TRAITS.items() if trait in pool), "unknown")
    text = label_text(pool.get("implementation") or unnamed)
    name = text.partition(":")[0].removeprefix("celery.concurrency.")
    if not text.startswith("celery.concurrency."):
        return text
    return "threads" if name == "thread" else name  # as the worker's own option -P calls it


def _slots(pool: Mapping[str, Any]) -> int | None:
    """The processes of a prefork pool, since it may be autoscaled; the limit of every other one."""
    processes = pool.get("processes")
    if isinstance(processes, list) and processes:
        return len(processes)
    return whole(pool.get("max-concurrency"))


def _number(value: Any) -> float | None:
    """A number as workers may rightly tell it: finite and not negative."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < _HUGE:
        return None
    return float(value)


def _counts(total: Any) -> dict[str, int]:
    """Tasks by name; those beyond the cap together, so that their sum stays right."""
    counts: dict[str, int] = {}
    for task, n in total.items() if isinstance(total, dict) else ():
        count = whole(n)
        if count is not None:
            name = label_text(task)
            name = name if name in counts or len(counts) < _TASKS else OTHER
            counts[name] = counts.get(name, 0) + count
    return counts
