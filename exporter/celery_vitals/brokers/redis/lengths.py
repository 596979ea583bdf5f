"""Reads the lengths of all queues: one list per queue and priority step, most of them missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

_QUEUES_PER_CHECK = 100


class QueueLengths:
    """Requests LLEN for the first priority step, and for the others where one of them exists.

    A missing list has length 0.  One EXISTS for the other steps of a hundred queues replaces
    hundreds of LLEN, which were a sixth of the CPU time of a scrape.
    """

    def __init__(self, client: Any, steps: Sequence[int], key: Callable[[str, int], str]) -> None:
        self._redis = client
        self._first, *self._others = steps
        self._key = key

    def request(self, pipe: Any, names: Sequence[str]) -> int:
        """Add the requests to a pipeline; return their number."""
        for name in names:
            pipe.llen(self._key(name, self._first))
        checks = list(self._chunks(names)) if self._others else []
        for chunk in checks:
            pipe.exists(*self._other_keys(chunk))
        return len(names) + len(checks)

    def take(self, names: Sequence[str], answers: Sequence[Any]) -> list[list[Any]]:
        """Return the lengths of each queue by step, or the errors in their place."""
        lengths, checks = answers[: len(names)], answers[len(names) :]
        found = chain.from_iterable(
            [[0] * len(self._others)] * len(chunk) if exists == 0 else self._read(chunk)
            for chunk, exists in zip(self._chunks(names), checks, strict=False)
        )
        if not self._others:
            return [[length] for length in lengths]
        return [[length, *others] for length, others in zip(lengths, found, strict=True)]

    def _read(self, names: Sequence[str]) -> list[list[Any]]:
        pipe = self._redis.pipeline(transaction=False)
        for key in self._other_keys(names):
            pipe.llen(key)
        answers, width = pipe.execute(raise_on_error=False), len(self._others)
        return [answers[start : start + width] for start in range(0, len(answers), width)]

    def _other_keys(self, names: Sequence[str]) -> list[str]:
        return [self._key(name, step) for name in names for step in self._others]

    def _chunks(self, names: Sequence[str]) -> Iterator[Sequence[str]]:
        for start in range(0, len(names), _QUEUES_PER_CHECK):
            yield names[start : start + _QUEUES_PER_CHECK]
