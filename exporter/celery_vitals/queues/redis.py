"""Queues on Redis: a list per priority step, and one hash for everything that workers hold."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import redis.exceptions

from celery_vitals.cluster import BrokerConnection
from celery_vitals.deadline import Deadline
from celery_vitals.queues import Backlog, Depth, KnownQueues
from celery_vitals.queues.bindings import Discovery

log = logging.getLogger(__name__)

_UNACKED_BLIND = (
    "queue_unacked_messages",
    "What workers hold is not told apart by queue: it is too much, or this Redis allows no scripts.",
    "",
)

_SCAN_SECONDS = 0.003
"""What looking for queues may cost a scrape, once all keys have been looked through for the first time."""
_FIRST_SCAN = 0.25
"""The part of its time that a scrape may spend on it before."""
_UNACKED_LIMIT = 2000
"""Unacknowledged messages that are told apart by queue; above, only their total is known."""
_UNACKED_BYTES = 1_000_000
"""The same for their size: Redis copies a message to look at its end."""

_UNACKED_BY_QUEUE = """
-- KEYS: the hash of unacknowledged messages, their index by time.  ARGV: how many to look at, and how many bytes.
-- An entry ends in the exchange and the routing key it was sent with; nothing else of it is looked at or sent.
local tags = redis.call('ZRANGE', KEYS[2], 0, tonumber(ARGV[1]) - 1)
if #tags ~= redis.call('HLEN', KEYS[1]) then return false end
local counts, result, bytes = {}, {}, 0
for _, tag in ipairs(tags) do
  bytes = bytes + redis.call('HSTRLEN', KEYS[1], tag)
  if bytes > tonumber(ARGV[2]) then return false end
  local entry = redis.call('HGET', KEYS[1], tag)
  if not entry then return false end
  local exchange, key = string.match(string.sub(entry, -600), '"([^"]*)", "([^"]*)"%]$')
  if not exchange then return false end
  local name = exchange .. '\\n' .. key
  counts[name] = (counts[name] or 0) + 1
end
for name, count in pairs(counts) do
  result[#result + 1] = name
  result[#result + 1] = count
end
return result
"""


class RedisGauge:
    """See `Gauge`.  Key names are made as the application's own kombu makes them, from the same transport options."""

    def __init__(self, connection: BrokerConnection, known: KnownQueues) -> None:
        channel = connection.channel
        self._redis = connection.redis()
        self._known = known
        self._prefix: str = channel.global_keyprefix or ""
        self._sep: str = channel.sep
        self._steps: Sequence[int] = channel.priority_steps
        self._unacked = self._prefix + channel.unacked_key
        self._index = self._prefix + channel.unacked_index_key
        self._script = self._redis.register_script(_UNACKED_BY_QUEUE)
        self._scripting = True
        self._discovery = Discovery(self._redis, self._prefix + channel.keyprefix_queue % "", self._sep, known)
        self._unreadable: set[str] = set()

    def measure(self, consumed: Collection[str], deadline: Deadline) -> Backlog:
        """All lengths in one pipeline, after a look for queues that nobody has named."""
        blind = self._discovery.go_on(deadline.within(deadline.remaining * _FIRST_SCAN), _SCAN_SECONDS)
        names = sorted(self._known.names() | set(consumed))
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            for step in self._steps:
                pipe.llen(self._key(name, step))
        pipe.hlen(self._unacked)
        pipe.zrange(self._index, 0, 0, withscores=True)
        *lengths, unacked, oldest = pipe.execute(raise_on_error=False)
        self._raise_if_all_failed([*lengths, unacked, oldest])
        total = unacked if isinstance(unacked, int) else None
        held = self._unacked_by_queue(total) if total is not None else None
        if held is None:
            blind = (*blind, _UNACKED_BLIND)
        return Backlog(
            queues=dict(self._depths(names, lengths, held)),
            unacked=total,
            oldest_unacked_at=oldest[0][1] if isinstance(oldest, list) and oldest else None,
            blind=blind,
        )

    def close(self) -> None:
        """Nothing was set up."""

    def _key(self, queue: str, step: int) -> str:
        return f"{self._prefix}{queue}{self._sep}{step}" if step else f"{self._prefix}{queue}"

    @staticmethod
    def _raise_if_all_failed(answers: list[Any]) -> None:
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if len(errors) == len(answers):
            raise errors[0]

    def _depths(
        self, names: Sequence[str], lengths: Sequence[Any], held: Counter[str] | None
    ) -> Iterator[tuple[str, Depth]]:
        """The queues that could be read: a key that is no list, or is not for this user, costs its own queue only."""
        width = len(self._steps)
        for position, name in enumerate(names):
            steps = lengths[position * width : (position + 1) * width]
            error = next((step for step in steps if isinstance(step, Exception)), None)
            if error is None:
                self._unreadable.discard(name)
                yield name, Depth(ready=sum(steps), unacked=held[name] if held is not None else None)
            elif name not in self._unreadable:
                self._unreadable.add(name)
                log.warning("queue %s cannot be read: %s", name, error)

    def _unacked_by_queue(self, total: int) -> Counter[str] | None:
        """Unacknowledged messages by queue; None when they are too many, cannot be told apart, or scripts are off."""
        if total == 0:
            return Counter()
        if total > _UNACKED_LIMIT or not self._scripting:
            return None
        try:
            flat = self._script(keys=[self._unacked, self._index], args=[_UNACKED_LIMIT, _UNACKED_BYTES])
        except redis.exceptions.ResponseError as error:
            self._scripting = not (isinstance(error, redis.exceptions.NoPermissionError) or "unknown" in str(error))
            return None
        if flat is None:
            return None
        counts: Counter[str] = Counter()
        for name, count in zip(flat[::2], flat[1::2], strict=True):
            exchange, _, key = name.decode("utf-8", "replace").partition("\n")
            queue = self._discovery.queue_of(exchange, key) if exchange else key
            if queue is None:
                return None
            counts[queue] += count
        return counts
