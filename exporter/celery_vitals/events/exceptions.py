"""The class of a task's exception, from the repr and the traceback in the event.

Both are free text: a class may define its own repr, and a message may contain anything.
"""

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
"""Classes of Celery and billiard that wrap the exception and hide its class."""
_MAX_LENGTH = 100


def exception_class(text: str | None, traceback: str | None) -> str:
    """Return the name of the class without its module, or "unknown".

    It is taken from the repr where that looks like a call.  Otherwise (time limits, lost workers,
    classes with a repr of their own) it is taken from the line of the traceback that follows the
    last frame.
    """
    found = _CALL.match(text or "")
    name = found.group(1) if found else ""
    if not name or name in _WRAPPERS:
        name = _from_traceback(traceback or "")
    name = name.rpartition(".")[2][:_MAX_LENGTH]
    return name if name and name not in _WRAPPERS else UNKNOWN


def _from_traceback(text: str) -> str:
    # Search from the last frame on, not from the end backwards: the message may have lines of any
    # kind.
    _, frame, rest = text.rpartition('  File "')
    lines = rest.splitlines()[bool(frame) :]
    after_frame = next((line for line in lines if line and not line[0].isspace()), "")
    found = _LAST_LINE.match(after_frame)
    return found.group(1) if found else ""
