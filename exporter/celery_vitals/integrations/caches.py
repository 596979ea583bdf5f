"""The caches of results: in memory, or shared by many processes in Redis."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_vitals.brokers.redis.connection import CLIENT_OPTIONS
from celery_vitals.errors import ConfigError, VitalsError
from celery_vitals.reasons import reason_of
from celery_vitals.secrets import redact_urls

_IO_TIMEOUT = 0.5
"""Seconds for one command of the cache: the caller can probe by itself."""
_RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"


class CacheError(VitalsError):
    """The cache does not work.  The text contains no secret."""


@runtime_checkable
class Cache(Protocol):
    """Stores the last result under a key.  Its methods raise CacheError."""

    kind: str
    """The name in `stats`."""

    def read(self, key: str) -> tuple[bytes, float] | None:
        """Return the value and its age in seconds; None where there is none."""

    def write(self, key: str, value: bytes, seconds: float) -> None:
        """Store a value for some seconds."""

    def claim(self, key: str, seconds: float) -> str:
        """Return a token for the next round; an empty one while another process has it.

        A claim that is not released ends after `seconds`.
        """

    def release(self, key: str, token: str) -> None:
        """End a claim."""

    def close(self) -> None:
        """Close the connections of this process."""


class MemoryCache:
    """A cache in the memory of this process, for one or several checkers."""

    kind = "memory"

    def __init__(self) -> None:
        self._values: dict[str, tuple[bytes, float, float]] = {}

    def read(self, key: str) -> tuple[bytes, float] | None:
        """Return the value and its age in seconds; None where there is none."""
        now = time.monotonic()
        value, written, expires = self._values.get(key, (b"", now, now))
        return (value, now - written) if now < expires else None

    def write(self, key: str, value: bytes, seconds: float) -> None:
        """Store a value for some seconds."""
        now = time.monotonic()
        self._values[key] = value, now, now + seconds

    def claim(self, key: str, seconds: float) -> str:
        """Return a token: within a process, a checker runs one round at a time anyway."""
        return key

    def release(self, key: str, token: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class RedisCache:
    """A cache in Redis: of all processes that share it, one probes and the others read.

    `store` is a URL or a client of redis-py.  The keys begin with `prefix`.
    """

    kind = "redis"

    def __init__(
        self, store: str | redis.Redis, prefix: str = "", timeout: float = _IO_TIMEOUT
    ) -> None:
        self._prefix = prefix
        self._timeout = timeout
        self._store = store
        self._clients: dict[int, redis.Redis] = {}
        if isinstance(store, str):
            self._opened()

    def read(self, key: str) -> tuple[bytes, float] | None:
        """Return the value and its age in seconds; None where there is none."""
        with self._client() as client:
            pipeline = client.pipeline().get(self._prefix + key).pttl(self._prefix + key)
            text, left = pipeline.execute()
        if text is None:
            return None
        # By the clock of the server: the processes may run on several machines.
        lifetime, _, value = _bytes(text).partition(b" ")
        if not lifetime.isdigit():
            raise CacheError(f"the key {self._prefix}{key} has a value of another program")
        return value, max(0, int(lifetime) - left) / 1000

    def write(self, key: str, value: bytes, seconds: float) -> None:
        """Store a value for some seconds."""
        lifetime = max(1, int(seconds * 1000))
        with self._client() as client:
            client.set(self._prefix + key, b"%d %s" % (lifetime, value), px=lifetime)

    def claim(self, key: str, seconds: float) -> str:
        """Return a token for the next round; an empty one while another process has it."""
        token = uuid.uuid4().hex
        with self._client() as client:
            lifetime = max(1, int(seconds * 1000))
            given = client.set(f"{self._prefix}{key}:claim", token, nx=True, px=lifetime)
        return token if given else ""

    def release(self, key: str, token: str) -> None:
        """End a claim, unless it has ended and another process has the next one."""
        with self._client() as client:
            client.eval(_RELEASE, 1, f"{self._prefix}{key}:claim", token)

    def close(self) -> None:
        """Close the connections of this process; a client that was given stays open."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            yield self._opened() if isinstance(self._store, str) else self._store
        except (redis.RedisError, OSError) as error:
            raise CacheError(f"{reason_of(error).description}") from error

    def _opened(self) -> redis.Redis:
        """Return the client of this process: a fork shares no connection with its parent."""
        client = self._clients.get(os.getpid())
        if client is None:
            options = {
                **CLIENT_OPTIONS,
                "socket_timeout": self._timeout,
                "socket_connect_timeout": self._timeout,
                # A kept connection may have died with a restart of the server.
                "retry": Retry(NoBackoff(), 1),
            }
            try:
                client = redis.Redis.from_url(self._store, **options)
            except (ValueError, TypeError) as error:
                raise ConfigError(f"RedisCache: {redact_urls(str(error))}") from None
            client = self._clients.setdefault(os.getpid(), client)
        return client


def cache_of(given: Any) -> Cache:
    """Return the cache for an argument: None, the URL or client of a Redis, or a cache."""
    if given is None:
        return MemoryCache()
    if isinstance(given, (str, redis.Redis)):
        return RedisCache(given)
    if isinstance(given, Cache):
        return given
    raise ConfigError(
        "HealthChecker: cache must be the URL of a Redis, a client of redis-py, or a cache, not"
        f" {type(given).__name__}"
    )


def _bytes(text: Any) -> bytes:
    """Return the value of a client that may decode its responses."""
    return text.encode() if isinstance(text, str) else bytes(text)
