"""Redis behind Sentinel, which names the master and needs bounds of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kombu.transport.redis import SentinelTransport
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_vitals.brokers.capabilities import Capabilities, observed
from celery_vitals.brokers.connection import ConnectRequest
from celery_vitals.brokers.redis.connection import CLIENT_OPTIONS
from celery_vitals.brokers.redis.kind import RedisKind
from celery_vitals.brokers.transport_options import OPTION
from celery_vitals.errors import ConfigError
from celery_vitals.third_party import kombu_internals


class SentinelKind(RedisKind):
    """Redis with Sentinel."""

    capabilities = Capabilities(
        "Redis with Sentinel",
        ("sentinel",),
        up=observed("PING to the master"),
        writable=observed("as on Redis, on the master"),
        length=observed("as on Redis, from the master"),
        unacked=observed("as on Redis, from the master"),
        workers=observed("as on Redis, through the master"),
        events=observed("as on Redis, through the master"),
        tested=True,
    )

    def split_urls(self, urls: Sequence[str]) -> tuple[str, ...]:
        """Keep the Sentinels together: redis-py asks them itself."""
        return (";".join(urls),)

    def option_names(self) -> frozenset[str]:
        """Add those of Sentinel."""
        return super().option_names() | kombu_internals.transport_option_names(SentinelTransport)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Require the name of the master."""
        super().check_options(options)
        check_master_name(options, OPTION)

    def connection_options(self, request: ConnectRequest) -> dict[str, Any]:
        """Bound the connections to the Sentinels as well."""
        return {
            **bounded_sentinel(request.options, request.io_timeout),
            **super().connection_options(request),
        }


def check_master_name(options: Mapping[str, Any], flag: str) -> None:
    """Raise ConfigError when the name of the master is missing."""
    if not options.get("master_name"):
        raise ConfigError(f"{flag}: Sentinel requires master_name=NAME")


def bounded_sentinel(options: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return transport options with which asking a Sentinel takes at most `timeout` seconds.

    redis-py retries a Sentinel that does not respond, with pauses of seconds.
    """
    if "master_name" not in options:
        return dict(options)
    bounds = {
        "protocol": CLIENT_OPTIONS["protocol"],
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
    }
    return {**options, "sentinel_kwargs": {**(options.get("sentinel_kwargs") or {}), **bounds}}
