"""Priority steps on Redis that the application uses and nobody told the exporter: what waits there is not counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from celery_vitals.brokers.queue_readers import Blind

_LOOKED_AT = 20
"""Queues that are looked at in one scrape; all come in turn."""
_NAMED = 3


class OtherSteps:
    """Looks for lists of known queues at the steps from 0 to 9 that are not among those configured."""

    def __init__(self, steps: Sequence[int], key: Callable[[str, int], str]) -> None:
        self._others = [step for step in range(10) if step not in steps]
        self._key = key
        self._last = ""
        self._used: set[str] = set()

    def ask(self, pipe: Any, names: Sequence[str]) -> list[str]:
        """Put the questions into a pipeline; the queues that they are about, one question for each."""
        self._used.intersection_update(names)
        if not self._others or not names:
            return []
        start = next((position for position, name in enumerate(names) if name > self._last), 0)
        chosen = list(islice(cycle(names), start, start + min(len(names), _LOOKED_AT)))
        for name in chosen:
            pipe.exists(*(self._key(name, step) for step in self._others))
        self._last = chosen[-1]
        return chosen

    def take(self, chosen: Sequence[str], answers: Sequence[Any]) -> Iterator[Blind]:
        """Take the answers.  What is not counted, as far as is known now."""
        for name, count in zip(chosen, answers, strict=True):
            if isinstance(count, int) and count:
                self._used.add(name)
            else:
                self._used.discard(name)
        if self._used:
            names = ", ".join(sorted(self._used)[:_NAMED]) + (
                " and others" if len(self._used) > _NAMED else ""
            )
            yield (
                "queue_priorities",
                f"Messages wait at priorities that are not counted, in {names}: the application has other"
                " priority_steps than the exporter was told.",
                "--broker-transport-option",
            )
