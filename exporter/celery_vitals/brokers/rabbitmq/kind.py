"""RabbitMQ as a kind of broker."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Mapping
from typing import Any

import amqp
from kombu import Connection

from celery_vitals._version import __version__
from celery_vitals.brokers import tls
from celery_vitals.brokers.base import (
    BrokerKind,
    EventReceiver,
    EventSubscription,
    Mailbox,
    QueueReader,
    QueueReaderOptions,
    QueueReaders,
    WritabilityReaders,
)
from celery_vitals.brokers.capabilities import Capabilities, observed
from celery_vitals.brokers.connection import CLIENT_NAME, ConnectRequest
from celery_vitals.brokers.intake import MAX_REPLY
from celery_vitals.brokers.rabbitmq.connection import AmqpConnection
from celery_vitals.brokers.rabbitmq.events import AmqpReceiver
from celery_vitals.brokers.rabbitmq.mailbox import RabbitMQMailbox
from celery_vitals.brokers.rabbitmq.management import ManagementApi, ManagementUnavailable
from celery_vitals.brokers.rabbitmq.queues import RabbitMQQueueReader
from celery_vitals.brokers.rabbitmq.rare_requests import RareRequests
from celery_vitals.brokers.rabbitmq.writability import RabbitMQWritabilityReader
from celery_vitals.brokers.server_facts import ServerFacts
from celery_vitals.deadline import Deadline
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.third_party import py_amqp

_HEARTBEAT = 300.0
"""Seconds.  Long, since a connection only has traffic during a scrape.  RabbitMQ's own value (60 by
default) wins where it is less; then it closes connections that are used more rarely, and the next
scrape opens new ones."""
_LISTENING_HEARTBEAT = 15.0
"""Seconds.  Short: without events, only heartbeats show that the broker is alive."""


class RabbitMQQueueReaders:
    """Makes queue readers that share one client of the management API."""

    def __init__(self, options: QueueReaderOptions) -> None:
        self.management = ManagementApi(options.tls, options.management_url, options.io_timeout)
        self._rare = RareRequests(self.management)
        self._streams = options.streams

    def __call__(self, connection: AmqpConnection, registry: QueueRegistry) -> QueueReader:
        """Make the reader of one connection."""
        return RabbitMQQueueReader(connection, registry, self.management, self._rare, self._streams)


class RabbitMQKind(BrokerKind[AmqpConnection]):
    """RabbitMQ."""

    capabilities = Capabilities(
        "RabbitMQ",
        ("amqp", "amqps", "pyamqp", "librabbitmq"),
        up=observed("a passive declare of an exchange"),
        writable=observed("a publish that the broker returns; the alarms of the management plugin"),
        length=observed("a passive declare"),
        unacked=observed("the management plugin"),
        workers=observed("a publish, replies in an exclusive queue"),
        events=observed("an exclusive queue, or a named one"),
        tested=True,
    )
    driver_type = "amqp"
    aliases = {"amqps": "amqp", "pyamqp": "amqp"}  # noqa: RUF012 - typed in the base class
    connection_class = AmqpConnection
    server_parts = frozenset({"version", "queues"})
    redelivers_on_disconnect = True
    durable_events = True
    blocks_publishers = True

    def option_names(self) -> frozenset[str]:
        """Return the parameters of py-amqp's connection, which ignores others."""
        return frozenset(inspect.signature(amqp.Connection).parameters) - {"kwargs"}

    def tls_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Accept the parameters of py-amqp, with or without `ssl_`."""
        named = {name.removeprefix("ssl_"): value for name, value in options.items()}
        return tls.checked(named, py_amqp.amqp_tls_options())

    def unverified_certificate(self, url: str, options: Any) -> tls.UnverifiedCertificate | None:
        """Return the missing check: py-amqp compares names only when it is given one."""
        chosen = Connection(url, ssl=options).ssl
        named = chosen if isinstance(chosen, Mapping) else {}
        if not (chosen or url.startswith("amqps://")) or "context" in named:
            return None
        if "cert_reqs" in named and named["cert_reqs"] == ssl.CERT_NONE:
            return tls.UnverifiedCertificate(tls.NOT_VERIFIED, "ssl_cert_reqs=required")
        if "server_hostname" not in named:
            return tls.UnverifiedCertificate(tls.NAME_NOT_VERIFIED, "server_hostname=null")
        return None

    def connection_options(self, request: ConnectRequest) -> dict[str, Any]:
        """Bound each read and write, and detect that the broker blocks the connection."""
        return {
            # kombu lets the application's options precede its own arguments.
            "connect_timeout": request.connect_timeout,
            "heartbeat": self.heartbeat(request.listening),
            "read_timeout": request.io_timeout,
            "write_timeout": request.io_timeout,
            "confirm_publish": False,
            "frame_handler": py_amqp.bounded_frame_handler(MAX_REPLY),
            "on_blocked": request.block.begin,
            "on_unblocked": request.block.end,
            "client_properties": {
                "product": CLIENT_NAME,
                "product_version": __version__,
                "connection_name": CLIENT_NAME,
            },
        }

    def heartbeat(self, listening: bool) -> float:
        """Return a short interval for a connection that detects a silent broker."""
        return _LISTENING_HEARTBEAT if listening else _HEARTBEAT

    def writability_readers(
        self, options: QueueReaderOptions
    ) -> WritabilityReaders[AmqpConnection]:
        """Publish a message that no queue gets, and read the alarms."""
        management = ManagementApi(options.tls, options.management_url, options.io_timeout)
        return lambda connection: RabbitMQWritabilityReader(connection, management)

    def server_facts(
        self, connection: AmqpConnection, options: QueueReaderOptions, deadline: Deadline
    ) -> ServerFacts:
        """Read the version from the greeting, and the queues from the management API."""
        found = py_amqp.amqp_server_version(connection.kombu.connection)
        api = ManagementApi(options.tls, options.management_url, options.io_timeout)
        try:
            queues = api.declarations(connection.kombu, deadline)
        except ManagementUnavailable as unavailable:
            return ServerFacts(version=found, problems={"queues": str(unavailable)})
        return ServerFacts(version=found, queues=queues)

    def queue_readers(self, options: QueueReaderOptions) -> QueueReaders[AmqpConnection]:
        """Read with passive declares and the management API."""
        return RabbitMQQueueReaders(options)

    def mailbox(
        self, connection: AmqpConnection, control_exchange: str, serializer: str
    ) -> Mailbox:
        """Receive replies in an exclusive queue."""
        return RabbitMQMailbox(connection, control_exchange, serializer)

    def event_receiver(
        self, connection: AmqpConnection, subscription: EventSubscription, deadline: Deadline
    ) -> EventReceiver:
        """Consume a queue of its own, or a durable one."""
        return AmqpReceiver(
            connection,
            subscription.exchange,
            subscription.listener,
            subscription.max_buffer,
            canary_key=subscription.canary_key,
            durable_queue=subscription.durable_queue,
            control_exchange=subscription.control_exchange,
            was_processed=subscription.was_processed,
        )
