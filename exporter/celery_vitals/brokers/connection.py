"""Connections to the broker: bounded in time, without retries, and unable to disturb anybody's tasks."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import redis
from kombu import Connection

from celery_vitals._version import __version__
from celery_vitals.brokers.certificates import with_default
from celery_vitals.brokers.filesystem import take_whole_messages
from celery_vitals.brokers.rabbitmq.management import Management
from celery_vitals.brokers.redis.sentinel import bounded_sentinel
from celery_vitals.brokers.sqs.client import bounded_sqs, close_clients, round_trip
from celery_vitals.brokers.target import Target
from celery_vitals.deadline import Deadline
from celery_vitals.errors import BlockedError, ProbeError, Reason

NEVER = 10**9
"""Seconds.  Whoever drains a kombu connection to Redis hands out again what is unacknowledged for longer than *its own*
visibility timeout, and so makes other people's tasks run twice.  With this one there is never anything to hand out."""
HEARTBEAT = 300.0
"""Seconds, AMQP: long, since only a scrape's own traffic is a sign of life.  RabbitMQ's own value wins where it is less
(60 by default): then it drops connections that are scraped more rarely, and the next scrape opens new ones."""
EVENT_HEARTBEAT = 15.0
"""The same for a connection that mostly listens, where silence has to be told from death."""
CLIENT_NAME = "celery-vitals"
_AT_ONCE = 0.001


class BrokerConnection:
    """One open connection.  Not for two threads at once."""

    def __init__(self, kombu: Connection, blocked: threading.Event) -> None:
        self.kombu = kombu
        self._blocked = blocked
        self.channel = kombu.default_channel
        if kombu.transport.driver_type == "redis":
            # kombu greets the server over a connection of its own, which only its consumers would use.
            self.channel.async_pool.disconnect()
        elif kombu.transport.driver_type == "filesystem":
            take_whole_messages(self.channel)
        self._raw: list[Any] = []

    @property
    def sockets(self) -> int:
        """How many connections of the operating system this one stands for."""
        return len(self._raw) or 1

    def redis(self) -> redis.Redis:
        """A plain client on this connection, which adds no prefix to keys (kombu's own does, for some commands)."""
        return redis.Redis(connection_pool=self.channel.pool)

    def raw_redis(self) -> Any:
        """A connection of redis-py to the same server with nothing unread on it, for who reads its bytes by hand.

        It is closed with this one, and takes its place: what the library keeps open for its own use is closed.
        """
        connection = self.channel.pool.make_connection()
        connection.connect()
        self._raw.append(connection)
        self.channel.client.connection_pool.disconnect()
        return connection

    def round_trip(self) -> None:
        """Ask the broker for something only it can answer.  Raises whatever the library raises."""
        driver = self.kombu.transport.driver_type
        if driver == "redis":
            self.redis().ping()
        elif driver == "amqp":
            # A publish would prove nothing: it ends in a socket buffer.  A passive declare has to be answered.
            self.channel.exchange_declare("amq.fanout", "fanout", passive=True)
        elif driver == "sqs":
            round_trip(self.channel)
        elif driver == "mongodb":
            self.channel.client.command("ping")
        elif driver == "filesystem":
            self.channel._size("celery")  # reads the folder

    def raise_if_blocked(self) -> None:
        """Raise BlockedError while RabbitMQ takes no messages: a memory or disk alarm."""
        if self.kombu.transport.driver_type != "amqp":
            return
        with suppress(TimeoutError):
            self.kombu.drain_events(timeout=_AT_ONCE)
        if self._blocked.is_set():
            raise BlockedError(
                Reason.UNAVAILABLE, "RabbitMQ takes no messages now: a memory or disk alarm"
            )

    def close(self) -> None:
        """Close in good order."""
        self._close_raw()
        self.kombu.release()

    def abandon(self) -> None:
        """Close without a goodbye: a goodbye to a broker that hangs would hang as well."""
        self._close_raw()
        if self.kombu.transport.driver_type == "amqp":
            self.kombu.collect()
        else:
            self.kombu.release()

    def _close_raw(self) -> None:
        for connection in self._raw:
            connection.disconnect()
        if self.kombu.transport.driver_type == "sqs":
            close_clients(self.channel)


class BrokerClient:
    """Opens connections to the broker of a `Target`, and knows how many are open."""

    def __init__(
        self, target: Target, io_timeout: float, management_url: str | None = None
    ) -> None:
        self.target = target
        self.management = Management(target, management_url, io_timeout)
        self._io_timeout = io_timeout
        self._open: set[BrokerConnection] = set()
        self._lock = threading.Lock()
        self._preferred = 0
        self._named = True

    @property
    def connections(self) -> int:
        """How many connections to the broker are open now."""
        with self._lock:
            return sum(connection.sockets for connection in self._open)

    def connect(self, deadline: Deadline, heartbeat: float = HEARTBEAT) -> BrokerConnection:
        """Open a connection to the first address that answers, beginning with the last good one.

        `heartbeat` is AMQP's, in seconds.  Raises what the library raised for the last address tried.
        """
        urls = self.target.broker_urls
        start, error = self._preferred, None
        for offset in range(len(urls)):
            if deadline.passed:
                break
            index = (start + offset) % len(urls)
            try:
                connection = self._connect(urls[index], deadline, heartbeat)
            except Exception as failure:  # noqa: BLE001 - each library has its own; the caller classifies it
                error = failure
                continue
            self._preferred = index
            with self._lock:
                self._open.add(connection)
            return connection
        raise error or ProbeError(Reason.TIMEOUT, "no time left to connect")

    def closed(self, connection: BrokerConnection) -> None:
        """Take note that a connection is open no longer."""
        with self._lock:
            self._open.discard(connection)

    def _connect(self, url: str, deadline: Deadline, heartbeat: float) -> BrokerConnection:
        """Connect under our name; without it where this user of Redis, or what stands in for Redis, may have none."""
        named = self._named
        try:
            return self._connect_once(url, deadline, heartbeat, named)
        except redis.exceptions.ResponseError as error:
            if not named or "client" not in str(error).lower():
                raise
            self._named = False
            return self._connect_once(url, deadline, heartbeat, named=False)

    def _connect_once(
        self, url: str, deadline: Deadline, heartbeat: float, named: bool
    ) -> BrokerConnection:
        timeout = max(0.1, min(self._io_timeout, deadline.remaining))
        target, blocked = self.target, threading.Event()
        kombu = Connection(
            url,
            ssl=with_default(url, target.broker_ssl),
            login_method=target.login_method,
            connect_timeout=timeout,
            heartbeat=heartbeat if target.driver == "amqp" else 0,
            transport_options={**target.broker_options, **self._bounds(timeout, blocked, named)},
        )
        try:
            kombu.ensure_connection(max_retries=0, reraise_as_library_errors=False, timeout=timeout)
            return BrokerConnection(kombu, blocked)
        except BaseException:
            kombu.collect() if target.driver == "amqp" else kombu.release()
            raise

    def _bounds(self, timeout: float, blocked: threading.Event, named: bool) -> dict[str, Any]:
        """Options that keep a connection of this kind bounded and harmless, whatever the application's are."""
        io = self._io_timeout
        match self.target.driver:
            case "redis":
                return {
                    **bounded_sentinel(self.target.broker_options, io),
                    "socket_connect_timeout": timeout,
                    "socket_timeout": io,
                    "retry_on_timeout": False,
                    "visibility_timeout": NEVER,
                    "client_name": CLIENT_NAME if named else None,
                }
            case "amqp":
                return {
                    "read_timeout": io,
                    "write_timeout": io,
                    "confirm_publish": False,
                    "on_blocked": lambda _reason: blocked.set(),
                    "on_unblocked": blocked.clear,
                    "client_properties": {
                        "product": CLIENT_NAME,
                        "product_version": __version__,
                        "connection_name": CLIENT_NAME,
                    },
                }
            case "sqs":
                return bounded_sqs(self.target.broker_options, timeout, io)
            case "filesystem" | "memory":
                return {"polling_interval": 0.05}
            case _:
                return {}
