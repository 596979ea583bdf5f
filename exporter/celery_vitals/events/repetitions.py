"""Recognizes messages that the broker delivers twice, as after a connection was lost."""

from __future__ import annotations

_KEEP = 60.0
"""Seconds for which a message is recognized, at least."""
_MAX_KEPT = 20_000


class Repetitions:
    """The messages of the last minutes, by the hash of their body.

    No two have the same one: each event contains its time and the clock of its sender.  The hash is
    of this process, so that a state file cannot contain it; after a restart, the messages of the
    journal are known.
    """

    def __init__(self) -> None:
        self._new: set[int] = set()
        self._old: set[int] = set()
        self._since = 0.0

    def is_new(self, body: bytes) -> bool:
        """Return whether a message has not arrived before, and remember it."""
        digest = hash(body)
        if digest in self._new or digest in self._old:
            return False
        self._new.add(digest)
        return True

    def expire(self, now: float) -> None:
        """Drop the older half when it is due, or when there are too many."""
        if len(self._new) > _MAX_KEPT or not 0 <= now - self._since <= _KEEP:
            recent = 0 <= now - self._since <= 2 * _KEEP
            self._new, self._old, self._since = set(), self._new if recent else set(), now
