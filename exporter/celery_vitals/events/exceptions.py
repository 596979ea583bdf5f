"""The class of an exception, from what an event tells of it: its repr and its traceback, both written by anybody."""

from __future__ import annotations

import re

UNKNOWN = "unknown"

_CALL = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)\(")
_LAST_LINE = re.compile(r"([^\W\d][\w.<>]*)(?::|\s*$)")
_WRAPPERS = frozenset(
    {
        "ExceptionWithTraceback",
        "ExceptionInfo",
        "UnpickleableExceptionWrapper",
        "MaybeEncodingError",
    }
)
"""Celery's and billiard's own, which only say that there was some exception."""
_LONGEST = 100


def exception_class(text: str | None, traceback: str | None) -> str:
    """The name of the class without its module, or "unknown".

    From the repr where that looks like one; else (time limits, lost workers, classes with a repr of their own) from the
    line of the traceback that follows the last frame.
    """
    found = _CALL.match(text or "")
    name = found.group(1) if found else ""
    if not name or name in _WRAPPERS:
        name = _from_traceback(traceback or "")
    name = name.rpartition(".")[2][:_LONGEST]
    return name if name and name not in _WRAPPERS else UNKNOWN


def _from_traceback(text: str) -> str:
    # The message may have lines of any kind, so from the last frame on, not from the end backwards.
    _, frame, rest = text.rpartition('  File "')
    lines = rest.splitlines()[bool(frame) :]
    after_frame = next((line for line in lines if line and not line[0].isspace()), "")
    found = _LAST_LINE.match(after_frame)
    return found.group(1) if found else ""
