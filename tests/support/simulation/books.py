"""The books of the exposition: what entered, what left, and what is inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
Place = tuple[str, str]
"""Task and queue."""

_LEFT = {
    "succeeded_total": 1,
    "failed_total": 1,
    "revoked_total": 1,
    "rejected_total": 1,
    "requeued_total": -1,
    "retried_total": 1,
    "lost_total": 1,
    "found_total": -1,
    "redelivered_total": 1,
}
_ENTERED = ("sent_total", "without_sent_event")
_INSIDE = ("in_flight", "orphaned")
UNKNOWN = ("missed", "no_message", "evicted")
"""The reasons of an unknown end that leave a balance."""


class Books:
    """The books at one scrape."""

    def __init__(self, samples: Samples) -> None:
        self.values: dict[tuple[str, str, str, str], float] = {}
        """By metric, task, queue, and reason, cause or state."""
        for (name, pairs), value in samples.items():
            labels = dict(pairs)
            if name.startswith("celery_task_") and "task" in labels:
                detail = labels.get("reason") or labels.get("cause") or labels.get("state") or ""
                metric, queue = name.removeprefix("celery_task_"), labels.get("queue", "")
                key = metric, labels["task"], queue, detail
                self.values[key] = self.values.get(key, 0.0) + value
        self.places = {key[1:3] for key in self.values if key[2]}

    def value(self, metric: str, place: Place | None = None, *details: str) -> float:
        """Return a metric's sum: over all places, or one; over all details, or these."""
        return sum(
            value
            for (name, task, queue, detail), value in self.values.items()
            if name == metric
            and (place is None or place == (task, queue))
            and (not details or detail in details)
        )

    def by_task(self, metric: str) -> Counter[str]:
        """Return a metric's sums by task, where they are not 0."""
        sums: Counter[str] = Counter()
        for (name, task, _, _), value in self.values.items():
            if name == metric and value:
                sums[task] += int(value)
        return sums

    def unknown(self, place: Place | None = None) -> float:
        """Return how many ends are unknown and leave a balance."""
        return self.value("end_unknown_total", place, *UNKNOWN)

    def balance(self, place: Place | None = None) -> float:
        """Return what entered, less what left and what is inside."""
        entered = sum(self.value(metric, place) for metric in _ENTERED)
        left = sum(sign * self.value(metric, place) for metric, sign in _LEFT.items())
        left -= self.value("lost_total", place, "child_killed")
        left += self.value("end_unknown_total", place, "silent")
        inside = sum(self.value(metric, place) for metric in _INSIDE)
        return entered - left - inside

    def unbalanced(self) -> dict[Place, float]:
        """Return the places whose balance is not that of their unknown ends, and by how much."""
        balances = {place: self.balance(place) - self.unknown(place) for place in self.places}
        return {place: balance for place, balance in balances.items() if balance}
