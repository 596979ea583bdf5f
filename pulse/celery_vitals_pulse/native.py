"""Threads of the operating system, also where gevent or eventlet replace those of Python.

A loop that a greenlet blocks must not block the thread that reports it.
"""

from __future__ import annotations

import sys
from typing import Any


def original(module: str, name: str) -> Any:
    """Return an attribute of a standard module as it was before any patch."""
    if "gevent.monkey" in sys.modules:
        return sys.modules["gevent.monkey"].get_original(module, name)
    if "eventlet.patcher" in sys.modules:
        return getattr(sys.modules["eventlet.patcher"].original(module), name)
    return getattr(__import__(module), name)
