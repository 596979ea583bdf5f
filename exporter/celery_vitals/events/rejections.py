"""Events that were received and could not be used: counted, logged, and reported on the page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client.core import Metric

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.metrics import definitions
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.tables import ValueTable

log = logging.getLogger(__name__)

_RECENT = 600.0
"""Seconds after its last event for which a reason is reported; later it is logged again."""
_NO_LOSS = "unknown_type"
"""Events of an application's own have other types, and none of them is missed."""
DESCRIPTIONS: Mapping[str, str] = {
    "content_type": "their serializer is unknown",
    "pickled_objects": "their pickle contains objects, which are not unpickled",
    "undecodable": "their content does not match their content type",
    "not_json": "they are not valid JSON",
    "malformed": "a field has a wrong type",
    "envelope": "their envelope is not kombu's",
    "too_large": "they are too large",
    "no_hostname": "they have no hostname",
    "no_uuid": "they have no uuid",
    _NO_LOSS: "their type is none of Celery's",
    "internal": "the exporter failed to process them",
}
"""Why events are rejected, by the reason."""


@dataclass
class _Recent:
    """The events rejected for one reason since it was last logged."""

    count: int
    last_at: float
    logged: bool = False


class Rejections:
    """Counts rejected events.  `add` and `family` are for the holder of the event lock."""

    def __init__(self, limiter: CardinalityLimiter, clock: Callable[[], float]) -> None:
        self.table = ValueTable(definitions.EVENTS_REJECTED, limiter)
        self._clock = clock
        self._recent: dict[str, _Recent] = {}

    def add(self, reason: str, count: int = 1) -> None:
        """Count events, or messages that could not be opened."""
        self.table.series(reason).value += count
        if reason == _NO_LOSS:
            return
        now, recent = self._clock(), self._recent.get(reason)
        if recent is None or now - recent.last_at > _RECENT:
            recent = self._recent[reason] = _Recent(0, now)
        recent.count += count
        recent.last_at = now

    def log_new(self) -> None:
        """Log the first rejection for each reason: on the stream's thread, without the lock."""
        for reason, recent in self._recent.items():
            if not recent.logged:
                recent.logged = True
                log.warning("events are rejected (%s): %s", reason, _described(reason))

    def blind_spots(self) -> list[BlindSpot]:
        """Return what is lost by recent rejections."""
        now = self._clock()
        lost = {
            reason: recent.count
            for reason, recent in list(self._recent.items())
            if now - recent.last_at <= _RECENT
        }
        if not lost:
            return []
        causes = ", ".join(
            f"{count} because {_described(reason)}" for reason, count in sorted(lost.items())
        )
        text = f"Events are received and rejected: {causes}. Tasks are counted without them."
        return [BlindSpot("rejected_events", text, "--app" if "content_type" in lost else "")]

    def family(self) -> Metric:
        """Return the family of the counter."""
        return self.table.family()


def _described(reason: str) -> str:
    return DESCRIPTIONS.get(reason, reason)
