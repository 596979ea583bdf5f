"""What only Redis itself can look at without sending messages away: short scripts, bounded in messages and bytes.

The sources are written for every Redis since 6; each gives back numbers and names, never a part of a task.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import redis.exceptions

UNACKED_LIMIT = 2000
"""Unacknowledged messages that are told apart by queue; above, only their total is known."""
BYTES = 1_000_000
"""The same for their size, for Redis copies a message to look at it; and for the oldest messages of all queues."""
MESSAGE_BYTES = 256_000
"""The most that a message may have whose stamp is read."""

UNACKED_BY_QUEUE = """
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

OLDEST_STAMPS = """
-- KEYS: lists of waiting messages, the next one to be taken last.  ARGV: how many bytes to look at, and of one message.
-- For each list the time that its producer has stamped on that message, '' without one, 'large' for one not looked
-- into; fewer answers than lists when there are too many bytes.  A task that is sent again may carry its old header.
local stamps, bytes = {}, 0
for position, key in ipairs(KEYS) do
  local entry = redis.call('LINDEX', key, -1) or ''
  bytes = bytes + #entry
  if #entry > tonumber(ARGV[2]) then
    stamps[position] = 'large'
  elseif string.find(entry, '"timestamp"', 1, true) or string.find(entry, '"sent_at"', 1, true) then
    local read, message = pcall(cjson.decode, entry)
    local headers = read and type(message) == 'table' and message.headers
    local properties = read and type(message) == 'table' and message.properties
    local sent = type(headers) == 'table' and tonumber(headers.sent_at) or 0
    local stamp = type(properties) == 'table' and tonumber(properties.timestamp) or 0
    local latest = math.max(sent, stamp)
    stamps[position] = latest > 0 and string.format('%.6f', latest) or ''
  else
    stamps[position] = ''
  end
  if bytes > tonumber(ARGV[1]) then break end
end
return stamps
"""

_CALLS = re.compile(r"redis\.call\('(\w+)'")
_COMMAND = re.compile(r"run the '([^']+)' command")


class ServerScript:
    """A script on a server that may not let this user run any."""

    def __init__(self, client: Any, source: str) -> None:
        self._script = client.register_script(source)
        self._commands = ", ".join(dict.fromkeys(_CALLS.findall(source)))
        self.refused = ""
        """Why it could not be run the last time, in words; empty when it could."""

    def run(self, keys: Sequence[str], args: Sequence[int]) -> list[Any] | None:
        """What it gives; None when it found too much, or cannot be run."""
        self.refused = ""
        try:
            result: list[Any] | None = self._script(keys=keys, args=args)
        except redis.exceptions.ResponseError as error:
            self.refused = self._why(error)
            return None
        return result

    def _why(self, error: Exception) -> str:
        words = refusal(error)
        if words or "can't run this command" in str(error):
            return words or f"this user may not run one of {self._commands} in a script"
        return (
            "this Redis runs no scripts"
            if "unknown" in str(error).lower()
            else "Redis does not run the script now"
        )


def refusal(error: object) -> str:
    """What this user may not do, in words; empty when that is not what went wrong."""
    command = _COMMAND.search(str(error))
    if command is not None:
        return f"this user may not run {command[1].upper().replace('|', ' ')}"
    return (
        "this user may not use the keys"
        if isinstance(error, redis.exceptions.NoPermissionError)
        else ""
    )
