"""An event sent by the exporter to itself: its return proves that the event stream is live."""

from __future__ import annotations

import json
import time
import uuid

TYPE = "vitals-canary"
KEY = "vitals.canary"
"""Routing key of a canary; as with all events, the type with dots."""
_MARK = TYPE.encode()
_MAX_LENGTH = 250
"""Bytes; every canary is shorter, so the content of most events need not be searched."""


class Canary:
    """The canaries of this exporter: makes them, and removes all canaries from received events."""

    def __init__(self) -> None:
        self.lag: float | None = None
        """Seconds that the last canary took through the broker and back; None before the first."""
        self.returned = 0
        """Number of canaries that have come back."""
        self._hostname = f"celery-vitals@{uuid.uuid4()}"

    def body(self) -> bytes:
        """Return a new canary, in JSON."""
        event = {
            "type": TYPE,
            "hostname": self._hostname,
            "timestamp": time.time(),
            "sent": time.monotonic(),
        }
        return json.dumps(event).encode()

    def remove(self, bodies: list[bytes]) -> list[bytes]:
        """Return these bodies without any canary, and record those sent by this exporter."""
        for body in bodies:
            if len(body) < _MAX_LENGTH and _MARK in body:
                return [one for one in bodies if not self._is_canary(one)]
        return bodies

    def _is_canary(self, body: bytes) -> bool:
        if len(body) >= _MAX_LENGTH or _MARK not in body:
            return False
        try:
            event = json.loads(body)
            if event["type"] != TYPE:
                return False
            if event["hostname"] == self._hostname:
                self.lag = max(0.0, time.monotonic() - event["sent"])
                self.returned += 1
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        return True
