"""Blind spots: what the exporter cannot observe, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BlindSpot:
    """Something that cannot be observed now."""

    subject: str
    """One of a closed set: the value of the label `subject`."""
    reason: str
    """One or two sentences: what is not observed, and why."""
    setting: str = ""
    """The option that makes it observable; empty when there is none."""
