"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T],
    timeout: float = 15.0,
    *,
    what: str = "",
    ignoring: tuple[type[Exception], ...] = (),
    interval: float = 0.02,
) -> T:
    """Poll `condition` every `interval` seconds, at most `timeout` seconds; return its first true
    value.

    A failed assertion inside the condition means "not yet", and so does any exception of the kinds
    in `ignoring`. AssertionError after the timeout, with the last value or exception seen.
    """
    not_yet: tuple[type[Exception], ...] = (AssertionError, *ignoring)
    until = time.monotonic() + timeout
    while True:
        last: object
        try:
            value = condition()
        except not_yet as exc:
            last = exc
        else:
            if value:
                return value
            last = value
        if time.monotonic() >= until:
            label = what or getattr(condition, "__qualname__", "condition")
            raise AssertionError(f"not within {timeout:g} s: {label}; last seen: {last!r}")
        time.sleep(interval)
