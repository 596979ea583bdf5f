"""Does the result backend keep what it is given?"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers import (
    Backend,
    BrokerClient,
    BrokerConnection,
    Session,
    may_be_stale,
    open_backend,
)
from celery_vitals.deadline import Deadline
from celery_vitals.metrics import definitions as definitions
from celery_vitals.metrics.base import Sample

ON_THE_BROKER = frozenset({"rpc", "amqp"})
"""Backends that keep results in the broker's own queues: they work when the broker does."""
OF_DJANGO = frozenset({"django-db", "django-cache"})
"""Backends that work only where Django has loaded the whole project, which nobody should do for a probe."""


class BackendCollector:
    """A round trip through the result backend."""

    name = "backend"
    limit = 5.0

    def __init__(self, broker: BrokerClient, io_timeout: float) -> None:
        self._target = broker.target
        self._io_timeout = io_timeout
        self._session: Session[BrokerConnection] = Session(broker, lambda connection: connection)
        self._backend: Backend | None = None

    def measure(self, deadline: Deadline) -> bool:
        """True, or the library's error."""
        if self._target.backend in ON_THE_BROKER:
            self._session.use(deadline, BrokerConnection.round_trip)
            return True
        kept, self._backend = self._backend, None
        if kept is not None and self._works(kept, deadline):
            return True
        self._use(open_backend(self._target, self._io_timeout))
        return True

    def _works(self, kept: Backend, deadline: Deadline) -> bool:
        """Whether one kept from an earlier round works; False when its connection may just have died meanwhile."""
        try:
            self._use(kept)
        except Exception as error:
            if not may_be_stale(error) or deadline.passed:
                raise
            return False
        return True

    def _use(self, backend: Backend) -> None:
        """A round trip; one that works is kept, one that fails is closed."""
        try:
            backend.round_trip()
        except BaseException:
            with suppress(Exception):
                backend.close()
            raise
        self._backend = backend

    def samples(self, value: bool | None) -> Iterable[Sample]:
        """Up or not, and the kind."""
        yield definitions.BACKEND_UP(1 if value else 0)
        yield definitions.BACKEND_INFO(1, self._target.backend)

    def blind_spots(self, value: bool | None) -> Iterable[BlindSpot]:
        """None."""
        return ()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        kept, self._backend = self._backend, None
        if kept is not None:
            kept.close()
