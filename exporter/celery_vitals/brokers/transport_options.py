"""Checks of `--broker-transport-option`: kombu ignores a name that it does not know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from celery_vitals.errors import ConfigError

OPTION = "--broker-transport-option"

_OF_ALL_TRANSPORTS = frozenset(
    {
        "callback",
        "connect_retries_timeout",
        "errback",
        "interval_max",
        "interval_start",
        "interval_step",
        "max_retries",
        "polling_interval",
        "retry_errors",
    }
)
"""Options that kombu reads itself, for connections and producers."""


def unknown_names(options: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """Return the options that are not among those of the transport, if these are known."""
    allowed = _OF_ALL_TRANSPORTS.union(names)
    return [name for name in options if name not in allowed] if names else []


def check_names(options: Mapping[str, Any], transport: str, names: Collection[str]) -> None:
    """Raise ConfigError for a name that is not among those of the transport, if these are known."""
    for name in unknown_names(options, names):
        allowed = ", ".join(sorted(_OF_ALL_TRANSPORTS.union(names)))
        raise ConfigError(
            f"{OPTION}: unknown option {name!r} of {transport} (expected one of: {allowed})"
        )


def check_text(options: Mapping[str, Any], *names: str, empty: bool = False) -> None:
    """Raise ConfigError for a value that is no text."""
    for name in names:
        value = options.get(name, "-")
        if not isinstance(value, str) or not (value or empty):
            raise ConfigError(
                f"{OPTION}: {name} must be text{'' if empty else ' and not empty'}, not {value!r}"
            )


def check_numbers(options: Mapping[str, Any], *names: str) -> None:
    """Raise ConfigError for a value that is no number; None stands for no limit."""
    for name in names:
        value = options.get(name)
        if value is not None and not is_number(value):
            raise ConfigError(f"{OPTION}: {name} must be a number, not {value!r}")


def is_number(value: Any) -> bool:
    """Return whether a value is a number, and not NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
