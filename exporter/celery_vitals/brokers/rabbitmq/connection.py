"""A connection to RabbitMQ."""

from __future__ import annotations

from contextlib import suppress

from kombu import Connection

from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.writability import PublisherBlock
from celery_vitals.errors import BlockedError, Reason
from celery_vitals.third_party import py_amqp

_NO_WAIT = 0.001


class AmqpConnection(BrokerConnection):
    """Detects that the broker accepts no messages."""

    def __init__(self, kombu: Connection, block: PublisherBlock) -> None:
        super().__init__(kombu, block)
        py_amqp.on_blocked(kombu.connection, block.begin)

    def round_trip(self) -> None:
        """Declare an exchange passively: a publish would end in a socket buffer."""
        self.channel.exchange_declare("amq.fanout", "fanout", passive=True)

    def raise_if_blocked(self) -> None:
        """Raise BlockedError during a memory or disk alarm."""
        if self.blocked():
            raise BlockedError(
                Reason.UNAVAILABLE, "RabbitMQ accepts no messages: a memory or disk alarm"
            )

    def blocked(self) -> bool:
        """Return whether the broker blocks this connection, after reading what has arrived."""
        with suppress(TimeoutError):
            self.kombu.drain_events(timeout=_NO_WAIT)
        return self.block.active

    @staticmethod
    def discard(kombu: Connection) -> None:
        """Close the socket without the closing handshake, which a hung broker never answers."""
        kombu.collect()
