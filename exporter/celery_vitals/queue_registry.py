"""The names of the queues to read, and the filter of those to expose."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from fnmatch import translate

from celery_vitals.queue_names import ends_in_uuid, is_direct, is_internal
from celery_vitals.settings import Settings

EVIDENCE = ("setting", "worker", "event", "binding")
"""What proves that a queue is Celery's: --queue or the app names it, a worker consumes it or has
consumed it, a task event names it, kombu's bindings in the broker list it."""
_MAX_DISCOVERED = 10_000
"""Limit of discovered queues; configured ones are not limited."""
_MISSING_FOR = 300.0
"""Seconds for which a missing queue that only events name is not read again."""


class QueueRegistry:
    """The names of queues: configured, discovered in the broker, observed in task events.

    `observed` returns the names in task events.  Thread-safe.
    """

    def __init__(
        self,
        configured: Iterable[str],
        includes: Callable[[str], bool] = lambda _: True,
        observed: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._configured = frozenset(filter(includes, configured))
        self._includes = includes
        self._lock = threading.Lock()
        self._discovered: dict[str, int] = {}
        self._bound = False
        self._consumed: frozenset[str] = frozenset()
        self._scans = 0
        self._missing: dict[str, float] = {}
        self._observed = observed
        self.broadcasts: frozenset[str] = frozenset()
        """The exchanges of the Broadcasts that workers consume; the collector `queues` sets it."""

    def names(self) -> frozenset[str]:
        """Return all known names."""
        named = [name for name in self._observed() if self._admits(name)]
        now = time.monotonic()
        with self._lock:
            present = [
                name for name in named[:_MAX_DISCOVERED] if self._missing.get(name, 0.0) <= now
            ]
            return self._configured.union(self._discovered, present)

    def included(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of these names that the settings include."""
        return frozenset(filter(self._includes, names))

    def add(self, names: Iterable[str], bound: bool = False) -> None:
        """Add queues that the broker has; Celery's own, and direct ones, are left out.

        `bound`: the names come from kombu's own records, so they are not another program's.
        """
        with self._lock:
            self._bound = bound
            for name in names:
                if self._admits(name) and (
                    name in self._discovered or len(self._discovered) < _MAX_DISCOVERED
                ):
                    self._discovered[name] = self._scans

    def end_scan(self) -> None:
        """Complete one scan of the broker; forget queues that two scans have not found."""
        with self._lock:
            self._discovered = {
                name: seen for name, seen in self._discovered.items() if seen >= self._scans - 1
            }
            self._scans += 1

    @property
    def scanned(self) -> bool:
        """Whether the broker has been scanned completely at least once."""
        return self._scans > 0

    @property
    def full(self) -> bool:
        """Whether the limit of discovered queues is reached."""
        return len(self._discovered) >= _MAX_DISCOVERED

    def is_configured(self, name: str) -> bool:
        """Return whether the settings or the app name it, so that it is expected to exist."""
        return name in self._configured

    def mark_consumed(self, names: frozenset[str]) -> None:
        """Record that workers consume these queues."""
        if not names <= self._consumed:
            known = self._consumed if len(self._consumed) < _MAX_DISCOVERED else frozenset()
            self._consumed = known | names

    def evidence(self) -> Callable[[str], str]:
        """Return a function that returns what proves that a queue is Celery's.

        One of `EVIDENCE`, or an empty string for a queue that was only found in the broker.
        """
        events = frozenset(self._observed())
        with self._lock:
            bound = frozenset(self._discovered) if self._bound else frozenset()
        by_strength = (self._configured, self._consumed, events, bound)

        def of(name: str) -> str:
            for evidence, names in zip(EVIDENCE, by_strength, strict=True):
                if name in names:
                    return evidence
            return ""

        return of

    def mark_missing(self, names: Iterable[str]) -> None:
        """Forget missing queues, and for a while ignore the events that name them."""
        names, until = frozenset(names), time.monotonic() + _MISSING_FOR
        with self._lock:
            for name in names:
                self._discovered.pop(name, None)
            if len(self._missing) > _MAX_DISCOVERED:
                self._missing.clear()
            self._missing.update(dict.fromkeys(names, until))

    def is_of_broadcast(self, name: str, exchange: str) -> bool:
        """Return whether a queue of this exchange is that of one process, for broadcast tasks."""
        return exchange in self.broadcasts and ends_in_uuid(name)

    def missing(self) -> frozenset[str]:
        """Return the queues that were lately found missing."""
        now = time.monotonic()
        with self._lock:
            return frozenset(name for name, until in self._missing.items() if until > now)

    def _admits(self, name: str) -> bool:
        return self._includes(name) and not is_internal(name) and not is_direct(name)


def queue_filter(settings: Settings) -> Callable[[str], bool]:
    """Return whether to expose a queue: --queue wins over --queue-include and --queue-exclude."""
    include, exclude = (
        re.compile("|".join(map(translate, patterns))) if patterns else None
        for patterns in (settings.queue_include, settings.queue_exclude)
    )

    def includes(name: str) -> bool:
        if name in settings.queues:
            return True
        return (include is None or bool(include.match(name))) and not (
            exclude and exclude.match(name)
        )

    return includes
