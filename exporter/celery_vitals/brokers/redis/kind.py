"""Redis as a kind of broker."""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import redis.exceptions
from kombu import Connection
from kombu.transport import redis as redis_transport
from kombu.utils.scheduling import CYCLE_ALIASES, cycle_by_name

from celery_vitals.brokers import tls
from celery_vitals.brokers.base import (
    BrokerKind,
    EventReceiver,
    EventSubscription,
    Mailbox,
    QueueReaderOptions,
    QueueReaders,
    WritabilityReaders,
)
from celery_vitals.brokers.capabilities import Capabilities, observed
from celery_vitals.brokers.connection import CLIENT_NAME, ConnectRequest
from celery_vitals.brokers.redis import server_facts
from celery_vitals.brokers.redis.connection import CLIENT_OPTIONS, RedisConnection
from celery_vitals.brokers.redis.events import RedisReceiver
from celery_vitals.brokers.redis.mailbox import RedisMailbox
from celery_vitals.brokers.redis.queues import RedisQueueReader
from celery_vitals.brokers.redis.writability import RedisWritabilityReader, refusal_reason
from celery_vitals.brokers.server_facts import ServerFacts
from celery_vitals.brokers.transport_options import (
    OPTION,
    check_numbers,
    check_text,
    is_number,
)
from celery_vitals.brokers.writability import RefusalReason
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ConfigError
from celery_vitals.third_party import kombu_internals, kombu_redis, redis_py

NO_REDELIVERY = 10**9
"""Seconds.  A connection of kombu that consumes redelivers every message that has been
unacknowledged for longer than *its own* visibility timeout, so that tasks of the application run
twice.  With this one it never redelivers."""


class RedisKind(BrokerKind[RedisConnection]):
    """Redis."""

    capabilities = Capabilities(
        "Redis",
        ("redis", "rediss"),
        up=observed("PING"),
        writable=observed("LPUSHX to a key that does not exist, INFO"),
        length=observed("LLEN of all priority steps"),
        unacked=observed(
            "a script that reads the ends of up to 2000 messages; the total from HLEN"
        ),
        workers=observed("PUBLISH, replies in a list"),
        events=observed("PSUBSCRIBE"),
        tested=True,
    )
    driver_type = "redis"
    aliases = {"rediss": "redis"}  # noqa: RUF012 - typed in the base class
    connection_class = RedisConnection
    server_parts = frozenset({"info", "config", "held"})

    def option_names(self) -> frozenset[str]:
        """Return the options of kombu's channel, and those that its event loop reads."""
        return kombu_internals.transport_option_names(redis_transport.Transport) | {
            "reauth_check_interval",
            "retry",
            "retry_on_error",
        }

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Check what names the keys, and what kombu and redis-py only refuse when they connect."""
        check_text(options, "sep", "unacked_key", "unacked_index_key")
        check_text(options, "global_keyprefix", empty=True)
        check_numbers(
            options,
            "health_check_interval",
            "max_connections",
            "socket_connect_timeout",
            "socket_timeout",
        )
        steps = options.get("priority_steps", (0,))
        if (
            not isinstance(steps, (list, tuple, range))
            or not steps
            or not all(map(is_number, steps))
        ):
            raise ConfigError(f"{OPTION}: priority_steps must be a list of numbers, not {steps!r}")
        strategy = options.get("queue_order_strategy", "round_robin")
        try:
            cycle_by_name(strategy)
        except Exception:  # noqa: BLE001 - it may be the name of a class, whose import fails
            raise ConfigError(
                f"{OPTION}: unknown queue_order_strategy {strategy!r}"
                f" (expected one of: {', '.join(CYCLE_ALIASES)})"
            ) from None

    def visibility_timeout(self, options: Mapping[str, Any], default: float | None) -> float | None:
        """Return the application's own value, where it is known."""
        value = options.get("visibility_timeout", default)
        if value is None:
            return None
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = math.nan
        if not seconds > 0:  # false for NaN too
            raise ConfigError(
                f"{OPTION}: visibility_timeout must be a positive number of seconds, not {value!r}"
            )
        return seconds

    def tls_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Accept the parameters of redis-py, with or without `ssl_`."""
        named = {
            name if name.startswith("ssl_") else f"ssl_{name}": value
            for name, value in options.items()
        }
        return tls.checked(named, redis_py.redis_tls_options())

    def tls_or_default(self, url: str, options: Any) -> Any:
        """Return kombu's default for rediss:// without options, where kombu logs a warning."""
        if options or not url.startswith("rediss://") or "ssl_" in urlsplit(url).query:
            return options
        return {"ssl_cert_reqs": ssl.CERT_NONE}

    def unverified_certificate(self, url: str, options: Any) -> tls.UnverifiedCertificate | None:
        """Return the missing check; both the options and the query of the URL count."""
        named = Connection(url, ssl=self.tls_or_default(url, options)).ssl
        if not isinstance(named, Mapping) or not named:
            return None
        if named.get("ssl_cert_reqs", ssl.CERT_REQUIRED) in tls.DISABLED:
            return tls.UnverifiedCertificate(tls.NOT_VERIFIED, "ssl_cert_reqs=required")
        if not named.get("ssl_check_hostname", True):
            return tls.UnverifiedCertificate(tls.NAME_NOT_VERIFIED, "ssl_check_hostname=true")
        return None

    def prepare(self, kombu: Connection) -> None:
        """Set the parameters of redis-py."""
        kombu_redis.set_redis_options(kombu, CLIENT_OPTIONS)

    def connection_options(self, request: ConnectRequest) -> dict[str, Any]:
        """Bound each read and write, without retries, and never redeliver messages."""
        return {
            "socket_connect_timeout": request.connect_timeout,
            "socket_timeout": request.io_timeout,
            "retry_on_timeout": False,
            "visibility_timeout": NO_REDELIVERY,
            "client_name": CLIENT_NAME if request.named else None,
        }

    def rejects_name(self, error: Exception) -> bool:
        """Return whether CLIENT SETNAME failed: denied to this user, or not implemented."""
        return isinstance(error, redis.exceptions.ResponseError) and "client" in str(error).lower()

    def refusal_reason(self, error: Exception) -> RefusalReason | None:
        """Return the reason in the server's answer to any command."""
        return refusal_reason(error)

    def writability_readers(
        self, options: QueueReaderOptions
    ) -> WritabilityReaders[RedisConnection]:
        """Write to a missing key."""
        return lambda connection: RedisWritabilityReader(
            connection, kombu_redis.redis_keys(connection.channel).prefix
        )

    def server_facts(
        self, connection: RedisConnection, options: QueueReaderOptions, deadline: Deadline
    ) -> ServerFacts:
        """Read INFO and CONFIG GET, and look for ETAs among the messages that workers hold."""
        return server_facts.read(connection)

    def queue_readers(self, options: QueueReaderOptions) -> QueueReaders[RedisConnection]:
        """Read lists and the hash of unacknowledged messages."""
        return lambda connection, registry: RedisQueueReader(
            connection, registry, options.control_exchange
        )

    def mailbox(
        self, connection: RedisConnection, control_exchange: str, serializer: str
    ) -> Mailbox:
        """Receive replies in a list."""
        return RedisMailbox(connection, control_exchange, serializer)

    def event_receiver(
        self, connection: RedisConnection, subscription: EventSubscription, deadline: Deadline
    ) -> EventReceiver:
        """Subscribe to the pub/sub topics of the events."""
        return RedisReceiver(
            connection,
            subscription.exchange,
            subscription.listener,
            subscription.max_buffer,
            deadline,
        )
