"""Which queues there are to look at."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from fnmatch import translate

from celery_vitals.settings import Settings

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_DELAYED = re.compile(r"(.+_)?celery_delayed_\d+", re.DOTALL)
_CONTROL_REPLY = re.compile(rf"{_UUID}\.reply\..*pidbox", re.DOTALL)
_INTERNAL = re.compile(
    rf"celeryev(\..*)?|.*\.pidbox|{_DELAYED.pattern}|celery-vitals\..*|amq\.gen-.*|{_UUID}(\.reply.*)?|bcast\.{_UUID}",
    re.DOTALL,
)
"""Queues of Celery's own machinery: events, remote control, delayed delivery, replies of the RPC backend; and the one
that each worker makes for tasks that go to all: on Redis those of workers that were killed would be seen for ever."""

_MOST = 10_000
"""Queues that are found by themselves; there is no such limit on those that are named."""
_MISSING_FOR = 300.0
"""Seconds for which a queue that only events tell of, and that is not there, is not looked for again."""


class QueueRegistry:
    """The names of queues: configured, shown by the broker, told by task events.  Safe for several threads."""

    def __init__(
        self, configured: Iterable[str], shows: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._configured = frozenset(filter(shows, configured))
        self._shows = shows
        self._lock = threading.Lock()
        self._found: dict[str, int] = {}
        self._passes = 0
        self._missing: dict[str, float] = {}
        self.told: Callable[[], Iterable[str]] = tuple
        """The names that task events tell."""

    def names(self) -> frozenset[str]:
        """All names known."""
        told = [name for name in self.told() if self._admits(name)]
        now = time.monotonic()
        with self._lock:
            there = [name for name in told[:_MOST] if self._missing.get(name, 0.0) <= now]
            return self._configured.union(self._found, there)

    def shown(self, names: Iterable[str]) -> frozenset[str]:
        """Those of these names that are to be shown."""
        return frozenset(filter(self._shows, names))

    def found(self, names: Iterable[str]) -> None:
        """Note queues that the broker shows; those of Celery's own machinery are left out."""
        with self._lock:
            for name in names:
                if self._admits(name) and (name in self._found or len(self._found) < _MOST):
                    self._found[name] = self._passes

    def pass_ended(self) -> None:
        """The broker has been looked through once: what two passes have not shown is gone."""
        with self._lock:
            self._found = {
                name: seen for name, seen in self._found.items() if seen >= self._passes - 1
            }
            self._passes += 1

    @property
    def looked_through(self) -> bool:
        """Whether the broker has been looked through at least once."""
        return self._passes > 0

    @property
    def full(self) -> bool:
        """Whether so many have been found that any more are left out."""
        return len(self._found) >= _MOST

    def named(self, name: str) -> bool:
        """Whether the settings or the app name it, so that it ought to be there."""
        return name in self._configured

    def missing(self, names: Iterable[str]) -> None:
        """These are not in the broker, whatever it showed before and events tell of them."""
        names, until = frozenset(names), time.monotonic() + _MISSING_FOR
        with self._lock:
            for name in names:
                self._found.pop(name, None)
            if len(self._missing) > _MOST:
                self._missing.clear()
            self._missing.update(dict.fromkeys(names, until))

    def _admits(self, name: str) -> bool:
        return self._shows(name) and not is_internal(name)


def shown_by(settings: Settings) -> Callable[[str], bool]:
    """Whether a queue is to be shown: by --queue in any case, else by --queue-include and --queue-exclude."""
    include, exclude = (
        re.compile("|".join(map(translate, patterns))) if patterns else None
        for patterns in (settings.queue_include, settings.queue_exclude)
    )

    def shows(name: str) -> bool:
        if name in settings.queues:
            return True
        return (include is None or bool(include.match(name))) and not (
            exclude and exclude.match(name)
        )

    return shows


def is_internal(name: str) -> bool:
    """Whether a queue belongs to Celery's own machinery, and not to an application."""
    return _INTERNAL.fullmatch(name) is not None


def is_delayed(name: str) -> bool:
    """Whether messages wait in it for their ETA: one of the queues of RabbitMQ's delayed delivery."""
    return _DELAYED.fullmatch(name) is not None


def is_control_reply(name: str) -> bool:
    """Whether workers reply to a command of remote control in it."""
    return _CONTROL_REPLY.fullmatch(name) is not None
