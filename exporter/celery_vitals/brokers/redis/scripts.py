"""Short scripts that inspect messages inside Redis, bounded in messages and bytes.

They run on every Redis since 6, and return numbers and names, never a part of a task.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any

import redis.exceptions

from celery_vitals.brokers.redis.permissions import Refusal, refusal_of

UNACKED_LIMIT = 2000
"""Unacknowledged messages that are counted by queue; above, only their total is known."""
BYTES = 1_000_000
"""Bytes of messages that one script copies: Redis copies a message to inspect it."""
MESSAGE_BYTES = 256_000
"""Bytes of the largest message whose timestamp is read."""

UNACKED_BY_QUEUE = """
-- KEYS: the hash of unacknowledged messages, their index by time.  ARGV: most messages, most bytes.
-- An entry ends in the exchange and the routing key it was sent with; nothing else of it is read.
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

OLDEST_TIMESTAMPS = """
-- KEYS: lists of waiting messages, the next one last.  ARGV: most bytes in total, of one message.
-- For each list the producer's timestamp of that message, '' without one, 'large' for one not read;
-- fewer answers than lists when there are too many bytes.  A task that is sent again may carry its
-- old header.
local times, bytes = {}, 0
for position, key in ipairs(KEYS) do
  local entry = redis.call('LINDEX', key, -1) or ''
  bytes = bytes + #entry
  if #entry > tonumber(ARGV[2]) then
    times[position] = 'large'
  elseif string.find(entry, '"timestamp"', 1, true)
      or string.find(entry, '"sent_at"', 1, true) then
    local read, message = pcall(cjson.decode, entry)
    local headers = read and type(message) == 'table' and message.headers
    local properties = read and type(message) == 'table' and message.properties
    local sent = type(headers) == 'table' and tonumber(headers.sent_at) or 0
    local stamp = type(properties) == 'table' and tonumber(properties.timestamp) or 0
    local latest = math.max(sent, stamp)
    times[position] = latest > 0 and string.format('%.6f', latest) or ''
  else
    times[position] = ''
  end
  if bytes > tonumber(ARGV[1]) then break end
end
return times
"""

HELD_TASKS = """
-- KEYS: the hash of unacknowledged messages, their index by time.  ARGV: most messages, most bytes.
-- The name of each task with an ETA, and its ETA; the body of a message is not returned.
local result, bytes = {}, 0
for _, tag in ipairs(redis.call('ZRANGE', KEYS[2], 0, tonumber(ARGV[1]) - 1)) do
  bytes = bytes + redis.call('HSTRLEN', KEYS[1], tag)
  if bytes > tonumber(ARGV[2]) then break end
  local entry = redis.call('HGET', KEYS[1], tag) or ''
  local eta = string.match(entry, '"eta": "([^"\\\\]+)"')
  local task = string.match(entry, '"task": "([^"\\\\]+)"')
  if eta and task then
    result[#result + 1] = task
    result[#result + 1] = eta
  end
end
return result
"""

_CALLS = re.compile(r"redis\.call\('(\w+)'")


class ScriptProblem(Enum):
    """Why a script was not run, other than a refusal; the value is part of a sentence."""

    UNSUPPORTED = "this Redis runs no scripts"
    NOT_NOW = "Redis does not run the script now"


class ServerScript:
    """A script on a server that may not permit this user to run any."""

    def __init__(self, client: Any, source: str) -> None:
        self._script = client.register_script(source)
        self._commands = tuple(dict.fromkeys(map(str.upper, _CALLS.findall(source))))
        self.problem: Refusal | ScriptProblem | None = None
        """Why the last run failed; None when it did not."""

    def run(self, keys: Sequence[str], args: Sequence[int]) -> list[Any] | None:
        """Return the script's result; None when its limits are exceeded or it cannot run."""
        self.problem = None
        try:
            result: list[Any] | None = self._script(keys=keys, args=args)
        except redis.exceptions.ResponseError as error:
            self.problem = self._problem_of(error)
            return None
        return result

    def _problem_of(self, error: Exception) -> Refusal | ScriptProblem:
        refusal = refusal_of(error)
        if refusal is not None:
            return refusal
        if "can't run this command" in str(error):  # Redis 6 does not name it
            return Refusal(self._commands)
        unknown = "unknown" in str(error).lower()
        return ScriptProblem.UNSUPPORTED if unknown else ScriptProblem.NOT_NOW
