"""An event of our own that goes through the broker and comes back: the proof that the stream hears."""

from __future__ import annotations

import json
import time
import uuid

TYPE = "vitals-canary"
KEY = "vitals.canary"
"""Its routing key; as with all events, the type with dots."""
_MARK = TYPE.encode()
_LENGTH = 250
"""Bytes; every canary is shorter, so that most events need no closer look."""


class Canary:
    """Makes canaries, and finds them, and those of other exporters, among the events."""

    def __init__(self) -> None:
        self.lag: float | None = None
        """Seconds that the last one took from here through the broker and back."""
        self.returned = 0
        """How many have come back."""
        self._name = f"celery-vitals@{uuid.uuid4()}"

    def body(self) -> bytes:
        """A new one, in JSON."""
        event = {
            "type": TYPE,
            "hostname": self._name,
            "timestamp": time.time(),
            "sent": time.monotonic(),
        }
        return json.dumps(event).encode()

    def catch(self, bodies: list[bytes]) -> list[bytes]:
        """These bodies without any canary."""
        for body in bodies:
            if len(body) < _LENGTH and _MARK in body:
                return [one for one in bodies if not self._is_one(one)]
        return bodies

    def _is_one(self, body: bytes) -> bool:
        if len(body) >= _LENGTH or _MARK not in body:
            return False
        try:
            event = json.loads(body)
            if event["type"] != TYPE:
                return False
            if event["hostname"] == self._name:
                self.lag = max(0.0, time.monotonic() - event["sent"])
                self.returned += 1
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        return True
