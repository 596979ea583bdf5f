"""When the oldest waiting messages on Redis were sent, by their producers' timestamps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from celery_vitals.brokers.kombu_message import producer_timestamp
from celery_vitals.brokers.redis.scripts import (
    BYTES,
    MESSAGE_BYTES,
    OLDEST_TIMESTAMPS,
    ServerScript,
)

_LARGE_SKIPPED_FOR = 60.0
"""Seconds for which a list is skipped whose next message is too large to be read."""


class OldestTimestamps:
    """Reads the timestamps of the next messages; a queue with one missing has no result."""

    def __init__(self, client: Any) -> None:
        self._script = ServerScript(client, OLDEST_TIMESTAMPS)
        self._large: dict[str, float] = {}

    def read(self, waiting: Mapping[str, list[str]]) -> dict[str, float]:
        """Return Unix times by queue; `waiting` names each queue's lists that are not empty."""
        now = time.monotonic()
        self._large = {key: until for key, until in self._large.items() if until > now}
        queues = {
            name: keys
            for name, keys in waiting.items()
            if keys and not self._large.keys() & set(keys)
        }
        keys = [key for keys in queues.values() for key in keys]
        results = self._script.run(keys, [BYTES, MESSAGE_BYTES]) if keys else None
        by_key = dict(zip(keys, results or [], strict=False))
        self._large |= {
            key: now + _LARGE_SKIPPED_FOR for key, result in by_key.items() if result == b"large"
        }
        times = {
            name: [producer_timestamp(_text(by_key.get(key))) for key in keys]
            for name, keys in queues.items()
        }
        return {name: min(known) for name, all_ in times.items() if (known := _complete(all_))}


def _text(result: bytes | None) -> str | None:
    return result.decode() if result else None


def _complete(times: list[float | None]) -> list[float]:
    """Return all of them, or none when one is missing."""
    known = [at for at in times if at is not None]
    return known if len(known) == len(times) else []
