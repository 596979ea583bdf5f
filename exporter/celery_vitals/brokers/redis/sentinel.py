"""Redis Sentinel: its clients need bounds of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry


def bounded_sentinel(options: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Transport options under which asking a Sentinel ends in time (seconds): a dead one costs the others nothing.

    By itself redis-py tries a Sentinel that does not answer several times, with pauses of seconds.
    """
    if "master_name" not in options:
        return dict(options)
    bounds = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
    }
    return {**options, "sentinel_kwargs": {**(options.get("sentinel_kwargs") or {}), **bounds}}
