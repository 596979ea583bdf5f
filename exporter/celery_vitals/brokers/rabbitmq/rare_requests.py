"""What the management API is asked rarely: exchanges, bindings, and the messages it has dropped.

A scrape causes one of these requests at most.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kombu import Connection

from celery_vitals.brokers.rabbitmq.dead_letters import Binding, Bindings, DeadLetterRoute
from celery_vitals.brokers.rabbitmq.management import ManagementApi, ManagementUnavailable
from celery_vitals.deadline import Deadline

log = logging.getLogger(__name__)

_BINDINGS_FOR = 300.0
"""Seconds for which exchanges and bindings are reused."""
_DROPPED_FOR = 30.0
"""Seconds for which the number of dropped messages is reused, and until a failed request is
repeated."""


@dataclass
class _Request:
    send: Callable[[Connection, Deadline], None]
    interval: float
    due: float = -math.inf
    """Monotonic time."""


class RareRequests:
    """The last answers.  They outlive a connection."""

    def __init__(self, management: ManagementApi) -> None:
        self._management = management
        self._dropped = _Request(self._read_dropped, _DROPPED_FOR)
        self._exchanges = _Request(self._read_exchanges, _BINDINGS_FOR)
        self._bindings = _Request(self._read_bindings, _BINDINGS_FOR)
        self._types: dict[str, str] | None = None
        self._bound: list[Binding] | None = None
        self._routes: Mapping[str, DeadLetterRoute] = {}
        self._dead_letters: Mapping[str, frozenset[str]] = {}
        self._dropped_before: int | None = None
        """The count in the last answer: a sum of all nodes, which decreases when one restarts."""
        self._dropped_total = 0
        self.dropped: int | None = None
        """Messages that the broker has dropped since the first answer; None while unknown."""

    def update(self, connection: Connection, deadline: Deadline, routes: bool) -> None:
        """Send the request that is most overdue, if any; `routes`: whether bindings are needed."""
        now = time.monotonic()
        used = (self._dropped, self._exchanges, self._bindings) if routes else (self._dropped,)
        request = min(used, key=lambda one: one.due)
        if request.due > now:
            return
        try:
            request.due = now + _DROPPED_FOR
            request.send(connection, deadline)
            request.due = now + request.interval
        except ManagementUnavailable as unavailable:
            log.debug("a rare request has failed: %s", unavailable)
            if request is self._dropped:
                self.dropped = None

    def dead_letters(self, routes: Mapping[str, DeadLetterRoute]) -> Mapping[str, frozenset[str]]:
        """Return the queues that receive the dead letters of the queues with these routes.

        Queues of which that is unknown are left out.
        """
        if self._types is None or self._bound is None or not routes:
            return {}
        if routes != self._routes:
            bindings = Bindings(self._types, self._bound)
            found = {name: bindings.dead_letter_queues(name, to) for name, to in routes.items()}
            self._dead_letters = {name: to for name, to in found.items() if to is not None}
            self._routes = dict(routes)
        return self._dead_letters

    def _read_dropped(self, connection: Connection, deadline: Deadline) -> None:
        count, before = self._management.dropped(connection, deadline), self._dropped_before
        if count is not None:
            self._dropped_total += max(0, count - before) if before is not None else 0
            self._dropped_before = count
        self.dropped = self._dropped_total if count is not None else None

    def _read_exchanges(self, connection: Connection, deadline: Deadline) -> None:
        self._types, self._routes = self._management.exchanges(connection, deadline), {}

    def _read_bindings(self, connection: Connection, deadline: Deadline) -> None:
        self._bound, self._routes = self._management.bindings(connection, deadline), {}
