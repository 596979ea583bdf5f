"""Logging of unexpected errors on change: once when they appear, not once per scrape."""

from __future__ import annotations

import logging
import threading
import traceback
from pathlib import Path

_logger = logging.getLogger(__name__)


class FailureLog:
    """Tracks failing operations, and logs changes only.

    The text of an exception is never logged: it may quote a URL with its password.
    """

    def __init__(self) -> None:
        self._failures: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def failed(self, operation: str, error: Exception) -> None:
        """Record that `operation` raised `error`, and log it unless it is a repetition."""
        text = _describe(error)
        with self._lock:
            seen = self._failures.setdefault(operation, set())
            if text in seen:
                return
            seen.add(text)
        _logger.error("%s failed, its metrics are missing: %s", operation, text)

    def succeeded(self, operation: str) -> None:
        """Record that `operation` succeeded, and log it after a failure."""
        with self._lock:
            failed = self._failures.pop(operation, None)
        if failed:
            _logger.info("%s recovered", operation)


def _describe(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    last = frames[-1]
    return f"{type(error).__name__} in {last.name} ({Path(last.filename).name}:{last.lineno})"
