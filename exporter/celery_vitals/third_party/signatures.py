"""The parameters of a function of a library."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any


def parameters(function: Any) -> set[str]:
    """Return the names of a function's parameters; none when it hides them."""
    with suppress(TypeError, ValueError):
        return set(inspect.signature(function).parameters)
    return set()
