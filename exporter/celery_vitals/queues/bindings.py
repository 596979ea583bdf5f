"""Which queues there are on Redis: kombu keeps a set for each exchange, with the queues that are bound to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import redis.exceptions

from celery_vitals.deadline import Deadline
from celery_vitals.queues import Blind, KnownQueues

_SCAN_COUNT = 1000
_PARTS = 3
_REFUSED: Blind = (
    "queue_discovery",
    "Queues that no worker consumes and no setting names are not seen: this user may not look through the keys.",
    "--queue",
)
_UNDER_WAY: Blind = (
    "queue_discovery",
    "Not all keys of this Redis have been looked through yet: there may be queues that are not shown.",
    "--queue",
)


class Discovery:
    """Looks through the keys, a part at a time: there may be millions of them."""

    def __init__(self, client: Any, prefix: str, sep: str, known: KnownQueues) -> None:
        self._redis = client
        self._prefix = prefix
        self._sep = sep
        self._known = known
        self._cursor = 0
        self._complete = False
        self._routes: dict[tuple[str, str], set[str]] = {}

    def go_on(self, deadline: Deadline, seconds: float) -> tuple[Blind, ...]:
        """Go on until `deadline`; after the first time through, for these seconds only.  What is not seen."""
        until = deadline.within(seconds) if self._complete else deadline
        try:
            while self._step() and not until.passed:
                pass
        except redis.exceptions.ResponseError:
            return (_REFUSED,)
        return () if self._complete else (_UNDER_WAY,)

    def queue_of(self, exchange: str, key: str) -> str | None:
        """The queue that a message with this routing key went to; None when that is not certain."""
        queues = self._routes.get((exchange, key), set())
        return next(iter(queues)) if len(queues) == 1 else None

    def _step(self) -> bool:
        """One SCAN; whether there is more to come."""
        self._cursor, keys = cast(
            "tuple[int, list[bytes]]",
            self._redis.scan(self._cursor, match=f"{_escaped(self._prefix)}*", count=_SCAN_COUNT, _type="set"),
        )
        pipe = self._redis.pipeline(transaction=False)
        for key in keys:
            pipe.smembers(key)
        for key, members in zip(keys, pipe.execute(), strict=True):
            exchange = key.decode("utf-8", "replace")[len(self._prefix) :]
            self._known.found(self._queues_of(exchange, members))
        if not self._cursor:
            self._known.pass_ended()
            self._complete = True
        return self._cursor != 0

    def _queues_of(self, exchange: str, members: set[bytes]) -> Iterator[str]:
        for member in members:
            parts = member.decode("utf-8", "replace").split(self._sep)
            if len(parts) == _PARTS and parts[2]:
                self._routes.setdefault((exchange, parts[0]), set()).add(parts[2])
                yield parts[2]


def _escaped(text: str) -> str:
    """As a pattern of SCAN that means exactly this text."""
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in text)
