"""Finds queues on Redis: kombu keeps a set per exchange, with the queues bound to it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import redis.exceptions

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.redis.permissions import PermissionBlindSpot, Refusal, refusal_of
from celery_vitals.deadline import Deadline
from celery_vitals.queue_names import ends_in_uuid, is_internal
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.third_party import RedisKeys

_SLICE = 0.0005
"""Seconds that Redis may be busy at a time: the number of keys per SCAN adapts to it."""
_MIN_KEYS, _KEYS_AT_FIRST, _MAX_KEYS = 50, 500, 10_000
_FIRST_SHARE = 0.25
"""Share of the remaining time for discovery until all keys have been scanned once."""
_SECONDS = 0.002
"""Time for discovery in any other scrape, however many keys there are."""
_PARTS = 3
_INCOMPLETE = "Discovery misses queues that no worker consumes and no setting names: {}."
_CANNOT_LIST = "Redis does not list its keys"
_UNDER_WAY = BlindSpot(
    "queue_discovery",
    "Discovery has not scanned all keys of this Redis yet: some queues may be missing.",
    "--queue",
)


class Discovery:
    """Scans the keys, a part at a time: there may be millions of them."""

    def __init__(self, client: Any, keys: RedisKeys, registry: QueueRegistry) -> None:
        self._redis = client
        self._prefix = keys.bindings_prefix
        self._separator = keys.separator
        self._registry = registry
        self._cursor = 0
        self._count = _KEYS_AT_FIRST
        self._untouched = True
        # Errors of this scan of the keys, and of the last.
        self._error: object = None
        self._error_before: object = None

    def advance(self, deadline: Deadline) -> Iterator[BlindSpot]:
        """Scan some more keys; return the blind spot of an incomplete scan."""
        first = self._untouched and not self._registry.scanned
        until = deadline.within(deadline.remaining * _FIRST_SHARE if first else _SECONDS)
        self._untouched, failure = False, None
        try:
            while self._step() and until.remaining > _SLICE:
                pass
        except redis.exceptions.ResponseError as error:
            failure = error
        failure = failure or self._error or self._error_before
        if failure:
            yield _missed(refusal_of(failure))
        elif not self._registry.scanned:
            yield _UNDER_WAY

    def routes(self, exchanges: Iterable[str]) -> dict[tuple[str, str], str]:
        """Return the queue by exchange and routing key, where there is exactly one."""
        names = list(exchanges)
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.smembers(self._prefix + name)
        queues: dict[tuple[str, str], set[str]] = {}
        for name, members in zip(names, pipe.execute(raise_on_error=False), strict=True):
            for key, queue in self._bindings(members) if isinstance(members, set) else ():
                queues.setdefault((name, key), set()).add(queue)
        return {route: next(iter(names)) for route, names in queues.items() if len(names) == 1}

    def _step(self) -> bool:
        """Run one SCAN; return whether there is more to come."""
        started = time.monotonic()
        self._cursor, keys = cast(
            "tuple[int, list[bytes]]",
            self._redis.scan(
                self._cursor, match=f"{_escaped(self._prefix)}*", count=self._count, _type="set"
            ),
        )
        took = time.monotonic() - started
        self._count = (
            max(_MIN_KEYS, self._count // 2) if took > _SLICE else min(_MAX_KEYS, self._count * 2)
        )
        pipe = self._redis.pipeline(transaction=False)
        # Not the exchanges of Celery itself: they may hold what has been left behind for years.
        exchanges = []
        for key in keys:
            exchange = key.decode("utf-8", "replace")[len(self._prefix) :]
            if not is_internal(exchange):
                exchanges.append(exchange)
                pipe.smembers(key)
        for exchange, members in zip(exchanges, pipe.execute(raise_on_error=False), strict=True):
            if isinstance(members, set):
                self._registry.add(self._queues(exchange, members), bound=True)
            else:  # denied to this user
                self._error = members
        if not self._cursor:
            self._registry.end_scan()
            self._error_before, self._error = self._error, None
        return self._cursor != 0

    def _queues(self, exchange: str, members: set[bytes]) -> Iterator[str]:
        """Iterate over the queues of an exchange, without those of one process."""
        for key, queue in self._bindings(members):
            of_events = "#" in key and ends_in_uuid(queue)  # with any `event_queue_prefix`
            if not (of_events or self._registry.is_of_broadcast(queue, exchange)):
                yield queue

    def _bindings(self, members: set[bytes]) -> Iterator[tuple[str, str]]:
        """Iterate over routing keys and queues."""
        for member in members:
            parts = member.decode("utf-8", "replace").split(self._separator)
            if len(parts) == _PARTS and parts[2]:
                yield parts[0], parts[2]


def _missed(refusal: Refusal | None) -> BlindSpot:
    if refusal is None:
        return BlindSpot("queue_discovery", _INCOMPLETE.format(_CANNOT_LIST), "--queue")
    return PermissionBlindSpot("queue_discovery", _INCOMPLETE.format(refusal.clause), "--queue")


def _escaped(text: str) -> str:
    """Return a pattern of SCAN that matches exactly this text."""
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in text)
