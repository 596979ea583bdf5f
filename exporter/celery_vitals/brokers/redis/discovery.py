"""Which queues there are on Redis: kombu keeps a set for each exchange, with the queues that are bound to it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import redis.exceptions

from celery_vitals.brokers.queue_readers import Blind, QueueRegistry, is_internal
from celery_vitals.brokers.redis.scripts import refusal
from celery_vitals.deadline import Deadline

_SLICE = 0.0005
"""Seconds that Redis is to be busy at a time: so many keys it looks through at once as it manages in about that."""
_FEWEST, _KEYS_AT_FIRST, _MOST = 50, 500, 10_000
_FIRST_LOOK = 0.25
"""The part of its time that a scrape may spend on looking, as long as nothing has been seen of the keys."""
_SECONDS = 0.002
"""What looking may cost any other scrape, however many keys there are."""
_PARTS = 3
_REFUSED = "Queues that no worker consumes and no setting names are not all seen: {}."
_UNDER_WAY: Blind = (
    "queue_discovery",
    "Not all keys of this Redis have been looked through yet: there may be queues that are not shown.",
    "--queue",
)


class Discovery:
    """Looks through the keys, a part at a time: there may be millions of them."""

    def __init__(self, client: Any, prefix: str, sep: str, known: QueueRegistry) -> None:
        self._redis = client
        self._prefix = prefix
        self._sep = sep
        self._known = known
        self._cursor = 0
        self._count = _KEYS_AT_FIRST
        self._untouched = True
        self._refused = self._refused_before = ""  # in this look through the keys, and in the last

    def go_on(self, deadline: Deadline) -> Iterator[Blind]:
        """Look through some more keys.  What is not seen."""
        share = (
            deadline.remaining * _FIRST_LOOK
            if self._untouched and not self._known.looked_through
            else _SECONDS
        )
        self._untouched = False
        until, refused = deadline.within(share), ""
        try:
            while self._step() and until.remaining > _SLICE:
                pass
        except redis.exceptions.ResponseError as error:
            refused = _why(error)
        if refused := refused or self._refused or self._refused_before:
            yield "queue_discovery", _REFUSED.format(refused), "--queue"
        elif not self._known.looked_through:
            yield _UNDER_WAY

    def routes(self, exchanges: Iterable[str]) -> dict[tuple[str, str], str]:
        """The queue that a message with an exchange and a routing key went to, where that is certain."""
        names = list(exchanges)
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.smembers(self._prefix + name)
        found: dict[tuple[str, str], set[str]] = {}
        for name, members in zip(names, pipe.execute(raise_on_error=False), strict=True):
            for key, queue in self._bindings(members) if isinstance(members, set) else ():
                found.setdefault((name, key), set()).add(queue)
        return {route: next(iter(queues)) for route, queues in found.items() if len(queues) == 1}

    def _step(self) -> bool:
        """One SCAN; whether there is more to come."""
        started = time.monotonic()
        self._cursor, keys = cast(
            "tuple[int, list[bytes]]",
            self._redis.scan(
                self._cursor, match=f"{_escaped(self._prefix)}*", count=self._count, _type="set"
            ),
        )
        took = time.monotonic() - started
        self._count = (
            max(_FEWEST, self._count // 2) if took > _SLICE else min(_MOST, self._count * 2)
        )
        pipe = self._redis.pipeline(transaction=False)
        # Not those of Celery's own: they may hold what has been left behind for years.
        keys = [
            key
            for key in keys
            if not is_internal(key.decode("utf-8", "replace")[len(self._prefix) :])
        ]
        for key in keys:
            pipe.smembers(key)
        for members in pipe.execute(raise_on_error=False):
            if isinstance(members, set):
                self._known.found(queue for _, queue in self._bindings(members))
            else:  # one that is not for this user
                self._refused = _why(members)
        if not self._cursor:
            self._known.pass_ended()
            self._refused_before, self._refused = self._refused, ""
        return self._cursor != 0

    def _bindings(self, members: set[bytes]) -> Iterator[tuple[str, str]]:
        """Routing keys and queues."""
        for member in members:
            parts = member.decode("utf-8", "replace").split(self._sep)
            if len(parts) == _PARTS and parts[2]:
                yield parts[0], parts[2]


def _why(error: object) -> str:
    return refusal(error) or "Redis refuses to list its keys"


def _escaped(text: str) -> str:
    """As a pattern of SCAN that means exactly this text."""
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in text)
