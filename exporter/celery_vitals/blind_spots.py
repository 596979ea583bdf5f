"""What cannot be seen, said in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BlindSpot:
    """Something that cannot be seen now."""

    subject: str
    """One of a closed set: the value of the label `subject`."""
    text: str
    """What is not seen, and why."""
    setting: str
    """What would show it; empty where nothing would."""
