"""One file per probe.  A probe measures within a deadline and turns what it measured into samples.

Whoever calls it owns the thread, the timing, success and failure, and the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.deadline import Deadline
from celery_vitals.metrics.base import Sample

_T = TypeVar("_T")


class Probe(Protocol[_T]):
    """One collector's probe."""

    name: str
    limit: float
    """Seconds a run may take at the most, however much time a scrape has."""

    def measure(self, deadline: Deadline) -> _T:
        """Measure, in a thread of its own; raises whatever went wrong."""

    def samples(self, value: _T | None) -> Iterable[Sample]:
        """What there is to say; `value` is None when the run failed.  Never touches the network."""

    def blind_spots(self, value: _T | None) -> Iterable[BlindSpot]:
        """What cannot be seen."""

    def close(self) -> None:
        """Close connections in good order."""
