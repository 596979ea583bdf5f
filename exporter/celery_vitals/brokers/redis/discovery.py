"""Finds queues on Redis: kombu keeps a set per exchange, with the queues bound to it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import redis.exceptions

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.redis.connection import MAX_READ, ReplyTooLargeError
from celery_vitals.brokers.redis.key_layout import KeyLayout
from celery_vitals.brokers.redis.permissions import PermissionBlindSpot, refusal_of
from celery_vitals.brokers.redis.set_members import SetMembers
from celery_vitals.brokers.redis.unknown_options import UnknownOptions, bound_queues
from celery_vitals.deadline import Deadline
from celery_vitals.queue_names import ends_in_uuid, is_internal
from celery_vitals.queue_registry import QueueRegistry

_SLICE = 0.0005
"""Seconds that Redis may be busy at a time: the number of keys per SCAN adapts to it."""
_MIN_KEYS, _KEYS_AT_FIRST, _MAX_KEYS = 50, 500, 10_000
_FIRST_SHARE = 0.25
"""Share of the remaining time for discovery until all keys have been scanned once."""
_SECONDS = 0.002
"""Time for discovery in any other scrape, however many keys there are."""
_MAX_ELSEWHERE = 1000
"""Queues under a prefix that are remembered."""
_MAX_UNREADABLE = 100
"""Bindings with an unknown separator that are remembered: each is compared with all queues."""
_INCOMPLETE = "Discovery misses queues that no worker consumes and no setting names: {}."
_CANNOT_LIST = "Redis does not list its keys"
_TOO_LARGE = f"the bindings of an exchange have more than {MAX_READ >> 20} MiB"
_UNDER_WAY = BlindSpot(
    "queue_discovery",
    "Discovery has not scanned all keys of this Redis yet: some queues may be missing.",
    "--queue",
)


@dataclass
class _Scan:
    """What one scan of all keys has found."""

    error: object = None
    bound: set[str] = field(default_factory=set)
    """Queues in readable bindings."""
    elsewhere: set[str] = field(default_factory=set)
    """Queues in bindings under a prefix, where the exporter has none."""
    unreadable: set[str] = field(default_factory=set)
    """Bindings with an unknown separator."""
    unreadable_elsewhere: set[str] = field(default_factory=set)
    """The same under a prefix, where the exporter has none."""


class Discovery:
    """Scans the keys, a part at a time: there may be millions of them.

    Bindings also prove that the application has transport options which the exporter does not know.
    """

    def __init__(self, client: Any, layout: KeyLayout, registry: QueueRegistry) -> None:
        self._redis = client
        self._members = SetMembers(client)
        self.layout = layout
        self._prefix = layout.own.bindings_prefix
        self._unprefixed = self._prefix.removeprefix(layout.own.prefix)
        self._match = f"{_escaped(self._prefix)}*"
        if not layout.own.prefix:
            self._match = f"*{self._match}"
        self._registry = registry
        self._cursor = 0
        self._count = _KEYS_AT_FIRST
        self._untouched = True
        self._scan, self._last_scan = _Scan(), _Scan()

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
        failure = failure or self._scan.error or self._last_scan.error
        if failure:
            yield _missed(failure)
        elif not self._registry.scanned:
            yield _UNDER_WAY

    def routes(self, exchanges: Iterable[str]) -> dict[tuple[str, str], str]:
        """Return the queue by exchange and routing key, where there is exactly one."""
        names = list(exchanges)
        answers = self._members.read([self._prefix + name for name in names])
        queues: dict[tuple[str, str], set[str]] = {}
        for name, members in zip(names, answers, strict=True):
            for binding in members if isinstance(members, set) else ():
                if route := self.layout.binding(_text(binding)):
                    queues.setdefault((name, route[0]), set()).add(route[1])
        return {route: next(iter(names)) for route, names in queues.items() if len(names) == 1}

    def unknown_options(self, names: frozenset[str]) -> UnknownOptions:
        """Return which of these queues are kept under keys that no known option names."""
        scans = (self._scan, self._last_scan)
        bound = set().union(*(scan.bound for scan in scans))
        elsewhere = set().union(*(scan.elsewhere for scan in scans)) - bound
        unreadable, more = (
            {member for member in members if not self.layout.separates(member)}
            for members in (
                set().union(*(scan.unreadable for scan in scans)),
                set().union(*(scan.unreadable_elsewhere for scan in scans)),
            )
        )
        return UnknownOptions(
            separator=bound_queues(unreadable, names),
            prefix=frozenset(elsewhere.intersection(names))
            | bound_queues(more, names - bound if more else ()),
            separator_unknown=bool(unreadable),
            prefix_unknown=bool(elsewhere or more) and not bound and not unreadable,
        )

    def _step(self) -> bool:
        """Run one SCAN; return whether there is more to come."""
        started = time.monotonic()
        self._cursor, keys = cast(
            "tuple[int, list[bytes]]",
            self._redis.scan(self._cursor, match=self._match, count=self._count, _type="set"),
        )
        took = time.monotonic() - started
        self._count = (
            max(_MIN_KEYS, self._count // 2) if took > _SLICE else min(_MAX_KEYS, self._count * 2)
        )
        # Not the exchanges of Celery itself: they may hold what has been left behind for years.
        chosen = [
            key for key in map(_text, keys) if not is_internal(key.partition(self._unprefixed)[2])
        ]
        for key, members in zip(chosen, self._members.read(chosen), strict=True):
            self._record(key, members)
        if not self._cursor:
            self._registry.end_scan()
            self._last_scan, self._scan = self._scan, _Scan()
        return self._cursor != 0

    def _record(self, key: str, members: object) -> None:
        """Record the bindings of one exchange."""
        scan, own = self._scan, key.startswith(self._prefix)
        if not isinstance(members, set):  # denied to this user, or too large
            scan.error = members if own else scan.error
            return
        exchange = key.partition(self._unprefixed)[2]
        queues = set()
        for member in map(_text, members):
            route = self.layout.binding(member)
            if route is None:
                unreadable = scan.unreadable if own else scan.unreadable_elsewhere
                if len(unreadable) < _MAX_UNREADABLE:
                    unreadable.add(member)
            elif own and route[1]:
                scan.bound.add(route[1])
                if not self._is_of_process(exchange, *route):
                    queues.add(route[1])
            elif len(scan.elsewhere) < _MAX_ELSEWHERE:
                scan.elsewhere.add(route[1])
        self._registry.add(queues, bound=True)

    def _is_of_process(self, exchange: str, routing_key: str, queue: str) -> bool:
        """Return whether a queue is that of one process: for events, with any prefix, or for
        broadcast tasks."""
        of_events = "#" in routing_key and ends_in_uuid(queue)
        return of_events or self._registry.is_of_broadcast(queue, exchange)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _missed(failure: object) -> BlindSpot:
    refusal = refusal_of(failure)
    if refusal is None:
        why = _TOO_LARGE if isinstance(failure, ReplyTooLargeError) else _CANNOT_LIST
        return BlindSpot("queue_discovery", _INCOMPLETE.format(why), "--queue")
    return PermissionBlindSpot("queue_discovery", _INCOMPLETE.format(refusal.clause), "--queue")


def _escaped(text: str) -> str:
    """Return a pattern of SCAN that matches exactly this text."""
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in text)
