"""The collector `broker`: whether the broker answers, and whether it accepts messages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.session import Session
from celery_vitals.brokers.writability import (
    UNKNOWN,
    RefusalReason,
    Writability,
    WritabilityReader,
    unknown_because,
)
from celery_vitals.collectors.base import Dependencies, ProbingCollector
from celery_vitals.deadline import Deadline
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.reasons import reason_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Probe:
    """A connection, and what reads its writability."""

    connection: BrokerConnection
    reader: WritabilityReader

    def close(self) -> None:
        self.reader.close()


class BrokerCollector(ProbingCollector[Writability]):
    """Sends a request to the broker over a connection of its own.

    Where the broker blocks connections that publish, another connection publishes: a blocked one
    gets no answer.
    """

    name = "broker"

    @classmethod
    def create(cls, shared: Dependencies) -> BrokerCollector | None:
        """Return the collector where the broker kind allows a request without side effects."""
        capabilities = shared.broker.target.capabilities
        if capabilities.up:
            if not capabilities.writable:
                what = "It is not known whether the broker accepts messages"
                shared.add_unsupported("broker_writable", what, capabilities.writable)
            return cls(shared.broker)
        shared.add_unsupported(cls.name, "The broker is not probed", capabilities.up)
        return None

    def __init__(self, broker: BrokerClient) -> None:
        self._broker = broker
        self._transport = broker.target.transport
        self._session = Session(broker, self._set_up)
        self._publishing = (
            Session(broker, self._set_up) if broker.target.kind.blocks_publishers else self._session
        )
        self._refusal: RefusalReason | None = None

    def _set_up(self, connection: BrokerConnection) -> _Probe:
        return _Probe(connection, self._broker.writability_reader(connection))

    def measure(self, deadline: Deadline) -> Writability:
        """Return what is known of the broker after a round trip."""
        self._refusal = None
        try:
            self._session.use(deadline, lambda probe: probe.connection.round_trip())
        except Exception as error:
            self._refusal = self._broker.target.kind.refusal_reason(error)
            raise
        try:
            return self._publishing.use(deadline, lambda probe: probe.reader.read(deadline))
        except Exception as error:  # noqa: BLE001 - each library has its own; the broker is up
            log.debug("the broker's writability is unknown: %s", error)
            return Writability(blind_spots=(unknown_because(reason_of(error).description),))

    def samples(self, value: Writability | None) -> Iterable[Sample]:
        """Yield whether the broker answered and accepts messages, its kind and its memory."""
        yield definitions.BROKER_UP(0 if value is None else 1)
        yield definitions.BROKER_INFO(1, self._transport)
        yield from _samples(self.current(value))

    def current(self, value: Writability | None) -> Writability:
        """Return what is known: the answer of a broker that is not up may be a reason."""
        if value is None:
            return Writability.refused(self._refusal) if self._refusal else UNKNOWN
        return value

    def blind_spots(self, value: Writability | None) -> Iterable[BlindSpot]:
        """Return what the broker does not report, or not to this user."""
        return value.blind_spots if value is not None else ()

    def close(self, deadline: Deadline) -> None:
        """Close the connections."""
        self._session.close()
        self._publishing.close()


def _samples(state: Writability) -> Iterator[Sample]:
    if state.writable is not None:
        yield definitions.BROKER_WRITABLE(state.writable)
        for reason in RefusalReason:
            yield definitions.BROKER_UNWRITABLE_REASON(reason is state.reason, reason.value)
    if state.memory_used is not None:
        yield definitions.BROKER_MEMORY_USED(state.memory_used)
    if state.memory_limit is not None:
        yield definitions.BROKER_MEMORY_LIMIT(state.memory_limit)
    if state.eviction_policy:
        yield definitions.BROKER_EVICTION_POLICY(1, state.eviction_policy)
