"""Detects messages at priority steps that the exporter is not configured to count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from celery_vitals.blind_spots import BlindSpot

_QUEUES_PER_SCRAPE = 20
"""Queues that are checked in one scrape; all come in turn."""
_NAMED = 3


class UncountedPriorities:
    """Checks known queues for lists at the steps from 0 to 9 that are not configured."""

    def __init__(self, steps: Sequence[int], key: Callable[[str, int], str]) -> None:
        self._others = [step for step in range(10) if step not in steps]
        self._key = key
        self._last = ""
        self._used: set[str] = set()

    def request(self, pipe: Any, names: Sequence[str]) -> list[str]:
        """Add one request per queue to a pipeline; return the queues."""
        self._used.intersection_update(names)
        if not self._others or not names:
            return []
        start = next((position for position, name in enumerate(names) if name > self._last), 0)
        chosen = list(islice(cycle(names), start, start + min(len(names), _QUEUES_PER_SCRAPE)))
        for name in chosen:
            pipe.exists(*(self._key(name, step) for step in self._others))
        self._last = chosen[-1]
        return chosen

    def take(self, chosen: Sequence[str], answers: Sequence[Any]) -> Iterator[BlindSpot]:
        """Take the answers; return the blind spot of the queues that use such steps."""
        for name, count in zip(chosen, answers, strict=True):
            if isinstance(count, int) and count:
                self._used.add(name)
            else:
                self._used.discard(name)
        if self._used:
            names = ", ".join(sorted(self._used)[:_NAMED]) + (
                " and others" if len(self._used) > _NAMED else ""
            )
            yield BlindSpot(
                "queue_priorities",
                f"Messages at some priorities are not counted in {names}: the application's"
                " priority_steps differ from the exporter's.",
                "--broker-transport-option",
            )
