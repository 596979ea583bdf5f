"""The class of a task's exception, from the repr and the traceback in the event.

Both are free text: a class may define its own repr, and a message may contain anything, such as the
traceback of another process.  Only the layout of Python's tracebacks proves a class: the exception
is on the first line that is not indented, after the frames.
"""

from __future__ import annotations

import re
from itertools import islice

UNKNOWN = "unknown"

_CALL = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)\(")
_LINE, _GROUP_LINE = (re.compile(rf"^{margin}(\S.*)$", re.MULTILINE) for margin in ("", r"  \| "))
_CLASS = re.compile(r"([^\W\d][\w.<>]*)(?::|$)")
_GROUP = "  + Exception Group "
_HEADER = r"(?:  \+ Exception Group )?Traceback \(most recent call last\):\n"
_FRAMES = re.compile(rf"^{_HEADER}", re.MULTILINE)
_TASK_FRAMES = re.compile(rf'^{_HEADER}[ |]+File ".*celery[/\\]app[/\\]trace\.py"', re.MULTILINE)
"""The frames from Celery's call of the task on: those of the exception that the task raised."""
_CAUSE = r"\n\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = r"\n\nDuring handling of the above exception, another exception occurred:\n\n"
_CHAIN = re.compile(rf"(?:{_CAUSE}|{_CONTEXT})(?={_HEADER})")
_REMOTE_CAUSE = re.compile(rf'[\w.]*RemoteTraceback: ?\n""".*\n"""{_CAUSE}(?={_HEADER})', re.DOTALL)
"""The traceback in a process of multiprocessing, concurrent.futures or billiard, as the cause."""
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
_MAX_CHAIN = 50
_MAX_WRAPPED = 3
"""Wrappers around each other that are opened; Celery adds at most two."""


def exception_class(text: str | None, traceback: str | None) -> str:
    """Return the name of the class without its module, or "unknown".

    It is the class in the traceback.  The repr alone must look like the call of a class.
    """
    call = _CALL.match(text or "")
    stated = _without_module(call.group(1)) if call else ""
    name = _from_traceback(traceback or "", stated)
    if not name or name in _WRAPPERS:
        name = "" if stated in _WRAPPERS or stated.lstrip("_")[:1].islower() else stated
    return name or UNKNOWN


def _from_traceback(text: str, stated: str, wrapped: int = _MAX_WRAPPED) -> str:
    """Return the class of the last exception in a chain; "" without one.

    `stated` is the class by the repr.  It decides where a message contains a traceback, too, which
    may look like the rest of the chain.  At most `wrapped` wrappers are opened.
    """
    tasks = [one.start() for one in islice(_TASK_FRAMES.finditer(text), 2)]
    if len(tasks) == 1:
        name, _ = _first_exception(text, tasks[0])
        if name and name not in _WRAPPERS:
            return name
    remote = _REMOTE_CAUSE.match(text)
    chain = _CHAIN.split(text[remote.end() :] if remote else text)
    name, message = _first_exception(chain[0])
    if name in _WRAPPERS and '"""\n' in message and wrapped:  # around the child's traceback
        return _from_traceback(text.partition('"""\n')[2], stated, wrapped - 1)
    if len(chain) == 1:
        return name
    headers = islice(_FRAMES.finditer(text), _MAX_CHAIN)
    if stated in {_first_exception(text, one.start())[0] for one in headers}:
        return stated
    if any(len(_FRAMES.findall(part)) > 1 for part in chain[:-1]):
        return UNKNOWN
    return _first_exception(chain[-1])[0]


def _first_exception(text: str, begin: int = 0) -> tuple[str, str]:
    """Return the class and the message after the first frames, which may be cut at their start."""
    line = _GROUP_LINE if text.startswith(_GROUP, begin) else _LINE
    if header := _FRAMES.match(text, begin):
        begin = header.end()
    elif not text.startswith("  ", begin):
        begin = max(begin, text.find('\n  File "', begin))
    found = line.search(text, begin)
    name = _CLASS.match(found.group(1)) if found else None
    return (_without_module(name.group(1)), text[found.end() :]) if found and name else ("", "")


def _without_module(name: str) -> str:
    return name.rpartition(".")[2][:_MAX_LENGTH]
