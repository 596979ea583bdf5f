"""A copy of all executions as they were at one moment, made in slices while events go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from celery_vitals.events.execution import Execution
from celery_vitals.events.saved import Chunk, Copied, chunk_of
from celery_vitals.metrics.cardinality import FairLock

_SLICE = 1000
"""Executions that are copied at a time: the lock is held for about a millisecond."""


class ExecutionsCopy:
    """The executions of each uuid in their order, as they were when this was created.

    `of` yields the executions of a uuid.  The caller of the constructor and of `preserve` holds
    the lock.
    """

    def __init__(
        self, firsts: list[Execution], of: Callable[[str], Iterator[Execution]], lock: FairLock
    ) -> None:
        self._firsts = firsts
        self._of = of
        self._lock = lock
        self._preserved: dict[str, list[Copied]] = {}

    def preserve(self, uuids: Iterable[str]) -> None:
        """Copy the executions of these uuids, which are about to change."""
        for uuid in uuids:
            if uuid not in self._preserved:
                self._preserved[uuid] = [Copied.of(one) for one in self._of(uuid)]

    def chunks(self) -> Iterator[Chunk]:
        """Yield all of them; acquires the lock for each slice."""
        for start in range(0, len(self._firsts), _SLICE):
            copied: list[Copied] = []
            with self._lock:
                for first in self._firsts[start : start + _SLICE]:
                    preserved = self._preserved.get(first.uuid)
                    copied += preserved if preserved is not None else _chain(first)
            yield chunk_of(copied)


def _chain(first: Execution) -> Iterator[Copied]:
    execution: Execution | None = first
    while execution is not None:
        yield Copied.of(execution)
        execution = execution.following
