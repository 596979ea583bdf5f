"""Whether RabbitMQ accepts messages: a publish that it returns, and the alarms of its nodes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import amqp
import amqp.exceptions

from celery_vitals.brokers.rabbitmq.connection import AmqpConnection
from celery_vitals.brokers.rabbitmq.management import ManagementApi, ManagementUnavailable
from celery_vitals.brokers.rabbitmq.management_answers import NodeInfo
from celery_vitals.brokers.writability import (
    RefusalReason,
    Writability,
    memory_unknown_because,
    unknown_because,
)
from celery_vitals.deadline import Deadline
from celery_vitals.third_party import py_amqp

_SETTING = "--rabbitmq-management-url"
_WAIT = 1.0
"""Maximum seconds for the broker to return a message."""
_SHORTEST_WAIT = 0.001


class RabbitMQWritabilityReader:
    """A `WritabilityReader` for RabbitMQ.

    No queue has the routing key, so that the broker returns the message and keeps nothing.
    """

    def __init__(self, connection: AmqpConnection, management: ManagementApi) -> None:
        self._connection = connection
        self._management = management
        self._channel: Any = None
        self._returned = 0

    def read(self, deadline: Deadline) -> Writability:
        """Publish, then read the alarms: they are the cause, or decide where publishing cannot."""
        problem, accepted = "", None
        try:
            accepted = self._accepts(deadline.within(_WAIT))
        except amqp.exceptions.AccessRefused:
            self._channel = None
            problem = "this user may not publish to the default exchange"
        nodes, state = self._nodes(deadline)
        alarm = _alarm(nodes)
        if accepted is False:
            cause = _cause(self._connection.block.cause) or alarm or RefusalReason.BLOCKED
            return replace(state, writable=False, reason=cause)
        if accepted:
            return replace(state, writable=True)
        if alarm is not None:
            return replace(state, writable=False, reason=alarm)
        if problem and nodes and all(node.memory_alarm is False for node in nodes):
            return replace(state, writable=True)
        spot = unknown_because(problem or "the broker has not returned a message in time")
        return replace(state, blind_spots=(spot, *state.blind_spots))

    def close(self) -> None:
        """Do nothing: the channel ends with the connection."""

    def _accepts(self, deadline: Deadline) -> bool | None:
        """Return whether the broker reads what is published; None when it does not respond.

        The broker may still return the first message after an alarm, and only then stops to read:
        the second proves that it has not stopped.
        """
        if self._connection.blocked():
            return False
        if self._channel is None:
            self._channel = self._connection.kombu.channel()
            py_amqp.on_returned_message(self._channel, self._on_return)
        for _ in range(2):
            self._returned = 0
            self._channel.basic_publish(
                amqp.Message(""),
                exchange="",
                routing_key=f"celery-vitals.{uuid.uuid4()}.missing",
                mandatory=True,
            )
            while not self._returned and not self._connection.block.active:
                if deadline.passed:
                    return None
                with suppress(TimeoutError):
                    self._connection.kombu.drain_events(
                        timeout=max(_SHORTEST_WAIT, deadline.remaining)
                    )
        return not self._connection.block.active

    def _on_return(self, *_: Any) -> None:
        self._returned += 1

    def _nodes(self, deadline: Deadline) -> tuple[Sequence[NodeInfo], Writability]:
        try:
            nodes = self._management.nodes(self._connection.kombu, deadline)
        except ManagementUnavailable as unavailable:
            spot = memory_unknown_because(str(unavailable), _SETTING)
            return (), Writability(blind_spots=(spot,))
        return nodes, _fullest(nodes)


def _fullest(nodes: Sequence[NodeInfo]) -> Writability:
    """Return the memory of the node closest to its limit."""
    known = [
        (node.memory_used, node.memory_limit)
        for node in nodes
        if node.memory_used is not None and node.memory_limit
    ]
    if not known:
        return Writability()
    used, limit = max(known, key=lambda one: one[0] / one[1])
    return Writability(memory_used=used, memory_limit=limit)


def _alarm(nodes: Sequence[NodeInfo]) -> RefusalReason | None:
    """Return the alarm of any node: it blocks the publishers of all."""
    if any(node.memory_alarm for node in nodes):
        return RefusalReason.MEMORY
    return RefusalReason.DISK if any(node.disk_alarm for node in nodes) else None


def _cause(text: str) -> RefusalReason | None:
    """Return the resource in the broker's text, such as `low on memory & disk`."""
    if "memory" in text:
        return RefusalReason.MEMORY
    return RefusalReason.DISK if "disk" in text else None
