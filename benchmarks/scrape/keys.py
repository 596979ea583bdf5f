"""Unrelated keys in the same Redis."""

from __future__ import annotations

from typing import Any

import redis

_CHUNK = 100_000
_FILL = """
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
  redis.call('SET', 'celery-task-meta-' .. number, '1')
end
"""


def fill(client: redis.Redis, present: int, wanted: int) -> None:
    """Add small keys up to a number; the server creates them itself, in chunks."""
    for first in range(present, wanted, _CHUNK):
        client.eval(_FILL, 0, str(first), str(min(wanted, first + _CHUNK)))


def memory(client: redis.Redis) -> float:
    """Return the memory of Redis in GB."""
    info: Any = client.info("memory")
    return float(info["used_memory"] / 1e9)
