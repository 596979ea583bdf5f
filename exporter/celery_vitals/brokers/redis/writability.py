"""Whether Redis accepts messages: a write that changes nothing, and what INFO reports."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import redis.exceptions

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.redis.permissions import refusal_of
from celery_vitals.brokers.writability import (
    RefusalReason,
    Writability,
    memory_unknown_because,
    unknown_because,
)
from celery_vitals.deadline import Deadline

_HEADROOM = 32 * 1024
"""Bytes that a message takes with the buffers of its connection.  With less than that a large
message is refused, although a small write succeeds."""
_CODES = (
    ("OOM", RefusalReason.MEMORY),
    ("READONLY", RefusalReason.READ_ONLY),
    ("MASTERDOWN", RefusalReason.READ_ONLY),
    ("NOREPLICAS", RefusalReason.REPLICAS),
    ("MISCONF", RefusalReason.PERSISTENCE),
    ("LOADING", RefusalReason.LOADING),
)
_TYPES: tuple[tuple[type[Exception], RefusalReason], ...] = (
    (redis.exceptions.OutOfMemoryError, RefusalReason.MEMORY),
    (redis.exceptions.ReadOnlyError, RefusalReason.READ_ONLY),
    (redis.exceptions.MasterDownError, RefusalReason.READ_ONLY),
    (redis.exceptions.BusyLoadingError, RefusalReason.LOADING),
)
"""redis-py removes the code from the text of these errors."""


class RedisWritabilityReader:
    """A `WritabilityReader` for Redis.

    LPUSHX passes every check of the server that LPUSH passes, and does nothing to a missing key.
    Where this user may not call it, INFO decides as far as it can.  A server that is loading its
    data or cannot save them refuses the PING before.
    """

    def __init__(self, connection: RedisConnection, key_prefix: str) -> None:
        self._redis = connection.redis()
        self._key = f"{key_prefix}celery-vitals.{uuid.uuid4()}.missing"

    def read(self, deadline: Deadline) -> Writability:
        """Try to write, and read the memory, in one pipeline."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.lpushx(self._key, "")
        pipe.info("memory")
        pipe.info("keyspace")
        tried, memory, keyspace = pipe.execute(raise_on_error=False)
        state = _memory_state(memory)
        if isinstance(tried, int):
            full = _is_full(memory, keyspace)
            reason = RefusalReason.MEMORY if full else None
            return replace(state, writable=not full, reason=reason)
        reason = refusal_reason(tried)
        if reason is not None:
            return replace(state, writable=False, reason=reason)
        return self._by_info(state, tried, memory, keyspace)

    def close(self) -> None:
        """Do nothing: nothing was set up."""

    def _by_info(
        self, state: Writability, error: Exception, memory: Any, keyspace: Any
    ) -> Writability:
        if isinstance(memory, Mapping):
            replication = self._redis.info("replication")
            reason = _refusal_by_info(replication)
            if reason is None and _is_full(memory, keyspace):
                reason = RefusalReason.MEMORY
            if reason is not None:
                return replace(state, writable=False, reason=reason)
            if "min_slaves_good_slaves" not in replication:  # or more of them are required
                return replace(state, writable=True)
        spot = unknown_because(f"{_clause(error)}, and INFO does not decide it")
        return replace(state, blind_spots=(spot, *state.blind_spots))


def refusal_reason(error: object) -> RefusalReason | None:
    """Return why the server refuses to write; None when the error is another."""
    for kind, reason in _TYPES:
        if isinstance(error, kind):
            return reason
    return next((reason for code, reason in _CODES if str(error).startswith(code)), None)


def _memory_state(memory: Any) -> Writability:
    used, limit = (_number(memory, name) for name in ("used_memory", "maxmemory"))
    if used is None:
        return Writability(blind_spots=(_memory_blind_spot(memory),))
    policy = str(memory.get("maxmemory_policy") or "") if limit else ""
    # Redis does not count the buffers of its replicas and of the append-only file.
    uncounted = _number(memory, "mem_not_counted_for_evict") or 0
    return Writability(
        memory_used=used - uncounted, memory_limit=limit or None, eviction_policy=policy
    )


def _memory_blind_spot(error: object) -> BlindSpot:
    return memory_unknown_because(_clause(error))


def _is_full(memory: Any, keyspace: Any) -> bool:
    """Return whether the limit is reached and no key may be evicted."""
    state = _memory_state(memory)
    if state.memory_used is None or state.memory_limit is None:
        return False
    if state.memory_limit - state.memory_used >= min(_HEADROOM, state.memory_limit // 10):
        return False
    if state.eviction_policy == "noeviction":
        return True
    if not state.eviction_policy.startswith("volatile-") or not isinstance(keyspace, Mapping):
        return False
    databases = (one for one in keyspace.values() if isinstance(one, Mapping))
    return not any(_number(one, "expires") for one in databases)


def _refusal_by_info(replication: Mapping[str, Any]) -> RefusalReason | None:
    if replication.get("role") == "slave" and _number(replication, "slave_read_only") != 0:
        return RefusalReason.READ_ONLY
    if replication.get("role") == "master" and _number(replication, "min_slaves_good_slaves") == 0:
        return RefusalReason.REPLICAS
    return None


def _number(values: Any, name: str) -> int | None:
    value = values.get(name) if isinstance(values, Mapping) else None
    return value if isinstance(value, int) else None


def _clause(error: object) -> str:
    refusal = refusal_of(error)
    if refusal is not None:
        return refusal.clause
    return "the server does not report it" if isinstance(error, Mapping) else f"{error}"
