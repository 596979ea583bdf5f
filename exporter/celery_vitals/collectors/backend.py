"""The collector `backend`: whether the result backend works."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.session import Session, may_be_stale
from celery_vitals.collectors.base import Dependencies, ProbingCollector
from celery_vitals.deadline import Deadline
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.result_backends.checks import NEEDS_DJANGO, ON_THE_BROKER
from celery_vitals.result_backends.probes import Backend, open_backend


class BackendCollector(ProbingCollector[bool]):
    """The collector that makes a round trip through the result backend."""

    name = "backend"

    @classmethod
    def create(cls, shared: Dependencies) -> BackendCollector | None:
        """Return the collector where a result backend is configured that needs no Django."""
        backend = shared.broker.target.backend
        if backend and backend not in NEEDS_DJANGO:
            return cls(shared.broker, shared.io_timeout)
        text = "No result backend is configured."
        if backend:
            text = (
                f"The result backend {backend} is not probed: it requires Django and the whole"
                " project. The URL of the store behind it can be probed instead."
            )
        shared.unsupported.append(BlindSpot(cls.name, text, "--result-backend"))
        return None

    def __init__(self, broker: BrokerClient, io_timeout: float) -> None:
        self._target = broker.target
        self._io_timeout = io_timeout
        self._session: Session[BrokerConnection] = Session(broker, lambda connection: connection)
        self._backend: Backend | None = None

    def measure(self, deadline: Deadline) -> bool:
        """Return True after a round trip."""
        if self._target.backend in ON_THE_BROKER:
            self._session.use(deadline, lambda connection: connection.round_trip())
            return True
        kept, self._backend = self._backend, None
        if kept is not None and self._works(kept, deadline):
            return True
        self._use(open_backend(self._target, self._io_timeout))
        return True

    def _works(self, kept: Backend, deadline: Deadline) -> bool:
        """Return whether the backend of an earlier probe works; False for a stale connection."""
        try:
            self._use(kept)
        except Exception as error:
            if not may_be_stale(error) or deadline.passed:
                raise
            return False
        return True

    def _use(self, backend: Backend) -> None:
        """Make a round trip; keep the backend when it works and close it when it fails."""
        try:
            backend.round_trip()
        except BaseException:
            with suppress(Exception):
                backend.close()
            raise
        self._backend = backend

    def samples(self, value: bool | None) -> Iterable[Sample]:
        """Yield whether the backend works, and its kind."""
        yield definitions.BACKEND_UP(1 if value else 0)
        yield definitions.BACKEND_INFO(1, self._target.backend)

    def close(self, deadline: Deadline) -> None:
        """Close the connections."""
        self._session.close()
        kept, self._backend = self._backend, None
        if kept is not None:
            kept.close()
