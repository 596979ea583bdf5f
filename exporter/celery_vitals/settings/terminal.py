"""What the environment shows of the terminal."""

from __future__ import annotations

import os


def wants_color() -> bool:
    """Return whether the user has not disabled colour; see https://no-color.org."""
    return not os.environ.get("NO_COLOR")


def moves_cursor() -> bool:
    """Return whether the terminal can overwrite a line."""
    return os.environ.get("TERM") not in (None, "", "dumb", "unknown")
