"""Reads the lengths of all queues: a list per queue, priority step and separator, most missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from celery_vitals.brokers.redis.key_layout import KeyLayout

_QUEUES_PER_CHECK = 100


@dataclass
class _Lists:
    """The keys of one queue's lists."""

    read: tuple[str, ...]
    """That of step 0, and those that existed once or may not be checked."""
    checked: tuple[str, ...]
    """All others."""


class QueueLengths:
    """Requests LLEN for the lists that have existed, and for the others where one of them exists.

    A missing list has length 0.  One EXISTS for the other lists of a hundred queues replaces
    hundreds of LLEN, which were a sixth of the CPU time of a scrape.  The lists of one queue are
    always read together, since a message that changes its step between two reads would be missed.
    """

    def __init__(self, client: Any, layout: KeyLayout) -> None:
        self._redis = client
        self.layout = layout
        self._lists: dict[str, _Lists] = {}

    def request(self, pipe: Any, names: Sequence[str]) -> int:
        """Add the requests to a pipeline; return their number."""
        if self._lists.keys() != set(names):
            self._lists = {name: self._lists.get(name) or self._new(name) for name in names}
        reads = [key for name in names for key in self._lists[name].read]
        for key in reads:
            pipe.llen(key)
        checks = 0
        for check in self._checks(names):
            if keys := [key for name in check for key in self._lists[name].checked]:
                pipe.exists(*keys)
                checks += 1
        return len(reads) + checks

    def take(self, names: Sequence[str], answers: Sequence[Any]) -> dict[str, dict[str, Any]]:
        """Return the lengths of each queue by key, or the errors in their place.

        Lists that do not exist may be left out.
        """
        remaining = iter(answers)
        lengths = {name: {key: next(remaining) for key in self._lists[name].read} for name in names}
        for check in list(self._checks(names)):
            checked = [name for name in check if self._lists[name].checked]
            exists = next(remaining) if checked else 0
            if exists != 0:
                lengths |= self._read(checked, denied=isinstance(exists, Exception))
        return lengths

    def _new(self, name: str) -> _Lists:
        first, *others = self.layout.lists(name)
        return _Lists((first,), tuple(others))

    def _read(self, names: Sequence[str], denied: bool) -> dict[str, dict[str, Any]]:
        """Read all lists of these queues, and from then on those that exist."""
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            for key in (*self._lists[name].read, *self._lists[name].checked):
                pipe.llen(key)
        answers = iter(pipe.execute(raise_on_error=False))
        lengths = {}
        for name in names:
            lists = self._lists[name]
            found = {key: next(answers) for key in (*lists.read, *lists.checked)}
            new = [key for key in lists.checked if denied or found[key] != 0]
            self._lists[name] = _Lists(
                (*lists.read, *new), tuple(key for key in lists.checked if key not in new)
            )
            lengths[name] = found
        return lengths

    def _checks(self, names: Sequence[str]) -> Iterator[Sequence[str]]:
        """Iterate over the queues that one EXISTS covers."""
        for start in range(0, len(names), _QUEUES_PER_CHECK):
            yield names[start : start + _QUEUES_PER_CHECK]
