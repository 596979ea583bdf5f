"""Unexpected errors in the log: once when they appear, not once per scrape."""

from __future__ import annotations

import logging
import threading
import traceback
from pathlib import Path

_logger = logging.getLogger(__name__)


class FaultLog:
    """Remembers what is failing, and logs only changes.

    The text of an exception is left out on purpose: it may quote a URL with its password.
    """

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def failed(self, what: str, error: Exception) -> None:
        """`what` raised `error`: a line in the log unless this is known already."""
        text = _where(error)
        with self._lock:
            seen = self._seen.setdefault(what, set())
            if text in seen:
                return
            seen.add(text)
        _logger.error("%s failed, its metrics are left out: %s", what, text)

    def worked(self, what: str) -> None:
        """`what` went well: if it failed before, its next failure is news again."""
        with self._lock:
            failed = self._seen.pop(what, None)
        if failed:
            _logger.info("%s works again", what)


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    last = frames[-1]
    return f"{type(error).__name__} in {last.name} ({Path(last.filename).name}:{last.lineno})"
