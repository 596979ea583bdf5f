"""Bounds the replies of a round of remote control: what workers send has no other limit."""

from __future__ import annotations

from celery_vitals.brokers.serialization import JSON, MAX_SLOW_MESSAGE, MSGPACK

MAX_REPLY = 4 * 1024 * 1024
"""Bytes of one reply; a worker with 10,000 tasks sends less than one million."""
MAX_ROUND = 32 * 1024 * 1024
"""Bytes of all replies of a round."""


class Intake:
    """Decides which replies are decoded, and counts the others."""

    def __init__(self) -> None:
        self.discarded = 0
        """Replies of this round that were too large, or more than a round may bring."""
        self._bytes = 0

    def begin_round(self) -> bool:
        """Begin a round; return whether replies of the last one may be left in the mailbox."""
        full, self._bytes, self.discarded = self._bytes > MAX_ROUND, 0, 0
        return full

    def accepts(self, size: int, content_type: str | None = JSON) -> bool:
        """Return whether to decode a reply; one of size 0 was left out by the connection."""
        self._bytes += size
        limit = MAX_REPLY if content_type in (JSON, MSGPACK) else MAX_SLOW_MESSAGE
        if 0 < size <= limit and self._bytes <= MAX_ROUND:
            return True
        self.discard()
        return False

    def discard(self) -> None:
        """Count a reply that is not read."""
        self.discarded += 1
