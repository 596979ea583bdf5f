"""The kinds of broker without a folder of their own."""

from __future__ import annotations

from typing import Any

from celery_vitals.brokers.base import (
    BrokerKind,
    EventReceiver,
    EventSubscription,
    Mailbox,
    QueueReaderOptions,
    QueueReaders,
)
from celery_vitals.brokers.capabilities import (
    NO_FANOUT,
    UNTESTED,
    Capabilities,
    Capability,
    observed,
    unobserved,
)
from celery_vitals.brokers.connection import BrokerConnection, ConnectRequest
from celery_vitals.brokers.generic.events import GenericReceiver
from celery_vitals.brokers.generic.mailbox import KombuMailbox
from celery_vitals.brokers.generic.queues import GenericQueueReader
from celery_vitals.deadline import Deadline

_POLLING_INTERVAL = 0.05
_NOT_CONTACTED = unobserved("kombu connects only when a queue is used, and none is")
_CREATES_QUEUE = unobserved("kombu creates the queue when it counts its messages")
_OWN_QUEUES_ONLY = unobserved("kombu returns 0 for every queue that this process does not use")
_BILLED = unobserved("a broadcast would create topics and subscriptions in the account")
_LEFT_BEHIND = unobserved("objects created by an exporter that is killed would stay in the broker")


class GenericKind(BrokerKind[BrokerConnection]):
    """A virtual transport of kombu, read and written with kombu's own classes."""

    connection_class = BrokerConnection

    def __init__(self, capabilities: Capabilities | None = None) -> None:
        if capabilities is not None:
            self.capabilities = capabilities

    def queue_readers(self, options: QueueReaderOptions) -> QueueReaders[BrokerConnection]:
        """Count with kombu."""
        return GenericQueueReader

    def mailbox(
        self, connection: BrokerConnection, control_exchange: str, serializer: str
    ) -> Mailbox:
        """Receive replies with kombu's consumer."""
        return KombuMailbox(connection, control_exchange, serializer)

    def event_receiver(
        self, connection: BrokerConnection, subscription: EventSubscription, deadline: Deadline
    ) -> EventReceiver:
        """Receive events with kombu's consumer."""
        return GenericReceiver(connection, subscription.exchange, subscription.listener)


class PolledKind(GenericKind):
    """A broker of this machine that kombu polls."""

    def connection_options(self, request: ConnectRequest) -> dict[str, Any]:
        """Poll often: replies and events are waited for."""
        return {"polling_interval": _POLLING_INTERVAL}


class MemoryKind(PolledKind):
    """Queues inside this process."""

    capabilities = Capabilities(
        "Memory",
        ("memory",),
        up=observed("it is this process: for an exporter inside the application only"),
        writable=unobserved("it is the memory of this process"),
        length=observed("counting"),
        unacked=unobserved("a message that has been received is only in the worker"),
        workers=observed("kombu's own consumer"),
        events=observed("kombu's own consumer"),
        tested=True,
    )
    driver_type = "memory"


class MongoDBConnection(BrokerConnection):
    """A connection to MongoDB."""

    def round_trip(self) -> None:
        """Send the command ping."""
        self.channel.client.command("ping")


class MongoDBKind(GenericKind):
    """MongoDB."""

    capabilities = Capabilities(
        "MongoDB",
        ("mongodb",),
        up=observed("the command ping"),
        unacked=unobserved("a message that has been received is deleted"),
        workers=observed("kombu's own consumer"),
        events=observed("kombu's own consumer"),
    )
    driver_type = "mongodb"
    connection_class = MongoDBConnection


def _unobservable(
    title: str,
    *schemes: str,
    up: Capability = UNTESTED,
    length: Capability = UNTESTED,
    broadcast: Capability = NO_FANOUT,
) -> GenericKind:
    """Return a kind of which nothing is observed."""
    return GenericKind(
        Capabilities(title, schemes, up=up, length=length, workers=broadcast, events=broadcast)
    )


UNOBSERVABLE = (
    _unobservable(
        "SQLAlchemy",
        "sqla",
        "sqlalchemy",
        up=_NOT_CONTACTED,
        length=unobserved("kombu creates the tables that it reads"),
    ),
    _unobservable("PostgreSQL (pgmq)", "pgmq", broadcast=_LEFT_BEHIND),
    _unobservable(
        "Google Pub/Sub", "gcpubsub", up=_NOT_CONTACTED, length=_OWN_QUEUES_ONLY, broadcast=_BILLED
    ),
    _unobservable(
        "Azure Service Bus",
        "azureservicebus",
        up=_NOT_CONTACTED,
        length=unobserved("kombu includes dead letters in its count"),
    ),
    _unobservable("Azure Storage Queues", "azurestoragequeues", length=_CREATES_QUEUE),
    _unobservable("Kafka", "confluentkafka", "kafka", length=_OWN_QUEUES_ONLY),
    _unobservable("Apache Qpid", "qpid", broadcast=UNTESTED),
    _unobservable("ZooKeeper", "zookeeper", up=_NOT_CONTACTED, length=_CREATES_QUEUE),
    _unobservable(
        "Consul",
        "consul",
        up=_NOT_CONTACTED,
        length=unobserved("kombu waits for a change when it counts messages"),
    ),
    _unobservable(
        "etcd",
        "etcd",
        up=_NOT_CONTACTED,
        length=unobserved("kombu locks the queue while it counts its messages"),
    ),
    _unobservable("Pyro", "pyro", up=_NOT_CONTACTED),
    _unobservable("SoftLayer Message Queue", "slmq", length=_CREATES_QUEUE),
)
"""Transports of kombu that lack what an exporter needs, or that the tests cannot run."""

PLUG_IN = Capabilities("Another transport", (), workers=UNTESTED, events=UNTESTED)
"""The capabilities of a transport that is not kombu's own: none."""
