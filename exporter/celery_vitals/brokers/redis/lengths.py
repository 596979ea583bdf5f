"""Reads the lengths of all queues: one list per queue and priority step, most of them missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_QUEUES_PER_CHECK = 100


class QueueLengths:
    """Requests LLEN for the first priority step, and for the others where one of them exists.

    A missing list has length 0.  One EXISTS for the other steps of a hundred queues replaces
    hundreds of LLEN, which were a sixth of the CPU time of a scrape.  The lists of one queue are
    always read together, since a message that changes its step between two reads would be missed.
    """

    def __init__(self, client: Any, steps: Sequence[int], key: Callable[[str, int], str]) -> None:
        self._redis = client
        self._steps = steps
        self._key = key
        self._complete: set[str] = set()
        """Queues of which all steps are read: such a list existed once, or EXISTS is denied."""

    def request(self, pipe: Any, names: Sequence[str]) -> int:
        """Add the requests to a pipeline; return their number."""
        self._complete.intersection_update(names)
        keys = [key for name in names for key in self._requested(name)]
        for key in keys:
            pipe.llen(key)
        checks = self._checks(names)
        for check in checks:
            pipe.exists(*(self._key(name, step) for name in check for step in self._steps[1:]))
        return len(keys) + len(checks)

    def take(self, names: Sequence[str], answers: Sequence[Any]) -> list[list[Any]]:
        """Return the lengths of each queue by step, or the errors in their place."""
        remaining, width = iter(answers), len(self._steps)
        lengths = {name: [next(remaining) for _ in self._requested(name)] for name in names}
        for check, exists in zip(self._checks(names), list(remaining), strict=True):
            if exists == 0:
                continue
            found = self._read(check)
            lengths |= found
            denied = isinstance(exists, Exception)
            self._complete.update(name for name in check if denied or any(found[name][1:]))
        return [[*lengths[name], *[0] * (width - len(lengths[name]))] for name in names]

    def _read(self, names: Sequence[str]) -> dict[str, list[Any]]:
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            for step in self._steps:
                pipe.llen(self._key(name, step))
        answers = iter(pipe.execute(raise_on_error=False))
        return {name: [next(answers) for _ in self._steps] for name in names}

    def _requested(self, name: str) -> list[str]:
        steps = self._steps if name in self._complete else self._steps[:1]
        return [self._key(name, step) for step in steps]

    def _checks(self, names: Sequence[str]) -> list[Sequence[str]]:
        """Return the queues of each EXISTS."""
        if len(self._steps) <= 1:
            return []
        rest = [name for name in names if name not in self._complete]
        size = _QUEUES_PER_CHECK
        return [rest[start : start + size] for start in range(0, len(rest), size)]
