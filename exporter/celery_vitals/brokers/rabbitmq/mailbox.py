"""The reply mailbox on RabbitMQ: as on other brokers, with what AMQP adds."""

from __future__ import annotations

from typing import Any

import amqp.exceptions
from kombu import Exchange

from celery_vitals.brokers.generic.mailbox import KombuMailbox
from celery_vitals.brokers.rabbitmq.connection import AmqpConnection
from celery_vitals.third_party import py_amqp


class RabbitMQMailbox(KombuMailbox):
    """A `Mailbox` that detects when no worker is bound to the exchange."""

    publish_options = {"mandatory": True}  # noqa: RUF012 - typed in the base class

    def __init__(self, connection: AmqpConnection, exchange: str, serializer: str = "json") -> None:
        super().__init__(connection, exchange, serializer)
        py_amqp.on_returned_message(connection.channel, self._on_return)

    def find_exchange(self, exchange: Exchange) -> bool:
        """Return whether the exchange exists, without declaring it.

        A declared exchange would stay behind where Celery never ran, and declaring takes a
        permission that reading does not.
        """
        with self._connection.channel() as channel:
            try:
                exchange(channel).declare(passive=True)
            except amqp.exceptions.NotFound:
                return False
        return True

    def _on_return(self, *_: Any) -> None:
        self._undelivered = True
