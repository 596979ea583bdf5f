"""Chords whose tasks have not all ended: by the retries of the task that polls them.

With a result backend that cannot count, Celery sends `celery.chord_unlock`, which retries itself
until all tasks of the chord have ended: for ever, where one of them was lost.
"""

from __future__ import annotations

CHORD_UNLOCK = "celery.chord_unlock"
_MAX_TRACKED = 10_000


class ChordUnlocks:
    """The polling tasks that have been retried and not ended.  For one thread."""

    def __init__(self) -> None:
        self.retries: dict[str, tuple[int, float]] = {}
        """Retries of each by uuid, and when the last one was reported; the oldest first."""
        self._seen = False

    def retried(self, uuid: str, retries: int, now: float) -> None:
        """Record that one has been sent again, for so many times in total."""
        self._seen = True
        self.retries.pop(uuid, None)
        if len(self.retries) >= _MAX_TRACKED:
            del self.retries[next(iter(self.retries))]
        self.retries[uuid] = retries, now

    def expire(self, since: float) -> None:
        """Remove those that have not been retried since that time: their message is gone."""
        while self.retries:
            uuid, (_, at) = next(iter(self.retries.items()))
            if at >= since:
                return
            del self.retries[uuid]

    @property
    def max_retries(self) -> int | None:
        """The most retries of one; None while none has ever been retried."""
        if not self._seen:
            return None
        return max((retries for retries, _ in self.retries.values()), default=0)
