"""The types of this package: the kind of a broker, its readers, mailboxes and receivers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol

from kombu import Connection

from celery_vitals.brokers.capabilities import Capabilities
from celery_vitals.brokers.connection import ConnectionT, ConnectRequest
from celery_vitals.brokers.intake import Intake
from celery_vitals.brokers.queue_stats import QueueSnapshot, WorkerReports
from celery_vitals.brokers.serialization import JSON
from celery_vitals.brokers.server_facts import ServerFacts
from celery_vitals.brokers.tls import UnverifiedCertificate
from celery_vitals.brokers.urls import completed
from celery_vitals.brokers.writability import (
    NoWritabilityReader,
    RefusalReason,
    WritabilityReader,
)
from celery_vitals.deadline import Deadline
from celery_vitals.queue_registry import QueueRegistry


class QueueReader(Protocol):
    """Reads queue lengths over one connection."""

    def measure(self, reports: WorkerReports, deadline: Deadline) -> QueueSnapshot:
        """Read the numbers of all known queues and of those that workers consume."""

    def close(self) -> None:
        """Remove the reader's objects from the broker."""


@dataclass(frozen=True)
class QueueReaderOptions:
    """The options of queue readers, besides their connection."""

    control_exchange: str
    streams: frozenset[str]
    """Queues that the application declares as streams."""
    tls: Any = field(repr=False)
    management_url: str | None = field(repr=False)
    io_timeout: float


WritabilityReaders = Callable[[ConnectionT], WritabilityReader]
"""Makes readers; keeps what outlives a connection."""
QueueReaders = Callable[[ConnectionT, QueueRegistry], QueueReader]
"""Makes queue readers; keeps the state that outlives a connection."""


@dataclass(frozen=True)
class Reply:
    """A message that has arrived in a mailbox."""

    ticket: str
    body: Mapping[str, Any]


class Mailbox(Protocol):
    """A mailbox for replies to remote control."""

    @property
    def address(self) -> Mapping[str, str]:
        """Where workers send their replies: exchange and routing key."""

    intake: Intake
    """The limits of this round's replies, and how many were discarded."""

    @property
    def undelivered(self) -> bool:
        """Whether the broker has returned the last broadcast, since no worker is bound."""

    def broadcast(self, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Send messages to all workers; return how many mailboxes receive them, if known.

        Without messages, only keep the mailbox.
        """

    def receive(self, deadline: Deadline) -> Sequence[Reply]:
        """Return the replies that have arrived; wait for the first of them until `deadline`.

        Replies that cannot be decoded, or are too large, are left out.
        """

    def close(self, replies_pending: bool) -> None:
        """Remove the mailbox from the broker; workers may still reply if `replies_pending`."""


def never(_: bytes) -> bool:
    """Return that a message has not been processed before."""
    return False


DURABLE_SECONDS = 600.0
"""Seconds for which a durable queue keeps the events while the exporter is not connected."""
MAX_UNACKNOWLEDGED = 2000
"""Messages of a durable queue that are delivered and not acknowledged: as many may come again."""


class EventListener(Protocol):
    """Takes the messages of a receiver."""

    def deliver(self, bodies: list[bytes], arrived: float) -> None:
        """Take bodies of messages, JSON each, that were read at `arrived` (Unix time)."""

    def reject(self, reason: str) -> None:
        """Count a message that is not delivered."""


class EventReceiver(Protocol):
    """A subscription to the events.  For one thread.  Methods raise the library's errors."""

    @property
    def blocked(self) -> bool:
        """Whether the broker accepts no messages for now."""

    def receive(self, seconds: float) -> None:
        """Deliver what has arrived, one block at most; wait up to `seconds` for it."""

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        content_type: str = JSON,
        encoding: str = "utf-8",
    ) -> None:
        """Send a message as workers do, without waiting for an answer."""

    def close(self, deadline: Deadline) -> None:
        """End the subscription in good order and remove it from the broker."""


@dataclass(frozen=True)
class EventSubscription:
    """Which events to receive, and where to deliver them."""

    exchange: str
    listener: EventListener
    max_buffer: int
    """Bytes read ahead."""
    canary_key: str
    """Routing key of the exporter's own events."""
    durable_queue: str | None = None
    """Name of a queue that keeps events while the exporter is not connected."""
    control_exchange: str | None = None
    """Exchange that commands will be sent to."""
    was_processed: Callable[[bytes], bool] = never
    """Returns whether a body that a durable queue delivers again is left out."""


class BrokerKind(ABC, Generic[ConnectionT]):
    """Answers every question that depends on the kind of broker.  Has no state.

    The defaults are those of a transport without special needs; a kind overrides what differs.
    """

    capabilities: Capabilities
    connection_class: type[ConnectionT]
    driver_type: ClassVar[str] = ""
    """kombu's name for the family of transports; chooses the kind for schemes of plug-ins."""
    aliases: ClassVar[Mapping[str, str]] = {}
    """Schemes that are reported under another name."""
    package: ClassVar[str] = ""
    """A module that kombu only misses when it connects."""
    install: ClassVar[str] = ""
    """What to install for it."""
    blocks_publishers: ClassVar[bool] = False
    """Whether a broker that accepts no messages stops to read a connection that publishes."""
    redelivers_on_disconnect: ClassVar[bool] = False
    """Whether unacknowledged messages are delivered again when their connection is lost."""
    server_parts: ClassVar[frozenset[str]] = frozenset()
    """The fields of `ServerFacts` that `server_facts` fills."""
    durable_events: ClassVar[bool] = False
    """Whether it can keep events while the exporter is not connected (`--event-queue`)."""

    def split_urls(self, urls: Sequence[str]) -> tuple[str, ...]:
        """Return the addresses to be tried one after the other."""
        return completed(urls)

    def option_names(self) -> frozenset[str]:
        """Return the names of the transport options; empty where they are not checked."""
        return frozenset()

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise ConfigError for transport options that only fail when they are used."""

    def visibility_timeout(self, options: Mapping[str, Any], default: float | None) -> float | None:
        """Return after how many seconds unacknowledged messages are redelivered, if they are."""
        return None

    def tls_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return `--broker-ssl-option` in the library's names; ConfigError for unknown ones."""
        return dict(options)

    def tls_or_default(self, url: str, options: Any) -> Any:
        """Return the TLS options for a URL, or those that kombu uses where none are given."""
        return options

    def unverified_certificate(self, url: str, options: Any) -> UnverifiedCertificate | None:
        """Return the missing check of the broker's certificate; None when there is none."""
        return None

    def connection_options(self, request: ConnectRequest) -> dict[str, Any]:
        """Return transport options that keep a connection bounded and without side effects."""
        return {}

    def prepare(self, kombu: Connection) -> None:
        """Set what transport options do not reach, before the connection is opened."""

    def heartbeat(self, listening: bool) -> float:
        """Return the heartbeat interval in seconds; 0 for none."""
        return 0.0

    def rejects_name(self, error: Exception) -> bool:
        """Return whether connecting failed because this user may not name connections."""
        return False

    def connect(self, url: str, request: ConnectRequest) -> ConnectionT:
        """Open a connection."""
        kombu = Connection(
            url,
            ssl=self.tls_or_default(url, request.tls),
            login_method=request.login_method,
            connect_timeout=request.connect_timeout,
            heartbeat=self.heartbeat(request.listening),
            transport_options={**request.options, **self.connection_options(request)},
        )
        try:
            self.prepare(kombu)
            kombu.ensure_connection(
                max_retries=0, reraise_as_library_errors=False, timeout=request.connect_timeout
            )
            return self.connection_class(kombu, request.block)
        except BaseException:
            self.connection_class.discard(kombu)
            raise

    def refusal_reason(self, error: Exception) -> RefusalReason | None:
        """Return why the broker accepts no messages, as far as a failed request proves it."""
        return None

    def writability_readers(self, options: QueueReaderOptions) -> WritabilityReaders[ConnectionT]:
        """Return what makes the readers of one broker."""
        return lambda _: NoWritabilityReader()

    def server_facts(
        self, connection: ConnectionT, options: QueueReaderOptions, deadline: Deadline
    ) -> ServerFacts:
        """Return what the broker reports about its own configuration.  Changes nothing there."""
        return ServerFacts()

    @abstractmethod
    def queue_readers(self, options: QueueReaderOptions) -> QueueReaders[ConnectionT]:
        """Return the factory of the queue readers of one broker."""

    @abstractmethod
    def mailbox(self, connection: ConnectionT, control_exchange: str, serializer: str) -> Mailbox:
        """Open a mailbox for replies; `serializer` is that of the commands."""

    @abstractmethod
    def event_receiver(
        self, connection: ConnectionT, subscription: EventSubscription, deadline: Deadline
    ) -> EventReceiver:
        """Subscribe to the events."""
