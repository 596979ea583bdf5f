"""The failures that were looked into: why a test cannot pass in a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A failure, and whose it is."""

    rows: tuple[str, ...]
    test: str
    """Part of its name, with the file and the parameters."""
    why: str


KNOWN: tuple[Known, ...] = ()


def why(row: str, test: str) -> str | None:
    """The reason, for a failure that has one."""
    return next((one.why for one in KNOWN if row in one.rows and one.test in test), None)
