"""Parsers: one function for each type of value, from a string or a YAML value.

A parser raises `ValueError` with a text that completes "NAME: ...", and returns its own results
unchanged.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Parser = Callable[[object], T]

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[\w.-]*):([0-9]{1,5})")
_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True)
class Address:
    """A host name or IP address (empty: every interface) and a port (0: any free port)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def text(value: object) -> str:
    """Parse a non-empty string."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {_type_name(value)}")  # noqa: TRY004
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def boolean(value: object) -> bool:
    """Parse true or false, and the words of YAML for them."""
    word = value.strip().lower() if isinstance(value, str) else None
    if isinstance(value, bool):
        return value
    if word not in _BOOLEANS:
        raise ValueError(f"must be true or false, not {_shown(value)}")
    return _BOOLEANS[word]


def seconds(low: float, high: float) -> Parser[float]:
    """Return a parser of a number of seconds from `low` to `high`."""

    def parse(value: object) -> float:
        try:
            number = (
                float(value)
                if isinstance(value, (str, int, float)) and not isinstance(value, bool)
                else math.nan
            )
        except (ValueError, OverflowError):
            number = math.nan
        if not low <= number <= high:  # false for NaN too
            raise ValueError(
                f"must be a number of seconds from {low:.9g} to {high:.9g}, not {_shown(value)}"
            )
        return number

    return parse


def integer(low: int, high: int) -> Parser[int]:
    """Return a parser of an integer from `low` to `high`."""

    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be an integer from {low} to {high}, not {_shown(value)}")
        return value

    return parse


_LIMIT = integer(0, 10**9)
_AGE = seconds(1, 365 * 86400)


def choice(*choices: str) -> Parser[str]:
    """Return a parser of one of `choices`."""

    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {_shown(value)}")
        return str(value)

    return parse


_SEVERITY = choice("info", "degraded", "unhealthy")


def buckets(value: object) -> tuple[float, ...]:
    """Parse the upper bounds of buckets, in seconds: a list or a comma-separated string."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        bounds = tuple(float(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ValueError(f"must be numbers of seconds like 0.1,1,10, not {_shown(value)}") from None
    increasing = all(low < high for low, high in pairwise(bounds))
    if not bounds or not increasing or not all(0 < bound < math.inf for bound in bounds):
        raise ValueError("must be increasing numbers of seconds greater than 0")
    return bounds


def task_buckets(value: object) -> tuple[str, tuple[float, ...]]:
    """Parse `TASK=0.1,1,10`: a task name and its buckets."""
    if isinstance(value, tuple):
        return value[0], buckets(value[1])
    name, found, raw = text(value).partition("=")
    if not found or not name:
        raise ValueError(f"must be TASK=SECONDS,SECONDS,..., not {_shown(value)}")
    return name, buckets(raw.strip("[]"))


def task_label(value: object) -> tuple[str, str | int]:
    """Parse `NAME=kwargs.KEY` or `NAME=args.N`: a label and the argument of its value."""
    if isinstance(value, tuple):
        return value
    match = re.fullmatch(
        r"([a-z][a-z0-9_]*)=(?:args\.([0-9]{1,3})|(?:kw)?args\.([^\W\d]\w*))", text(value)
    )
    if match is None:
        raise ValueError(
            "must be NAME=kwargs.KEY or NAME=args.POSITION with a lower-case name,"
            f" not {_shown(value)}"
        )
    if match[1] in ("task", "queue", "worker", "exception", "reason", "le"):
        raise ValueError(f"must not use the name of the existing label {match[1]}")
    return match[1], int(match[2]) if match[2] else match[3]


def app_name(value: object) -> str:
    """Parse the module of a Celery app, with `:NAME` unless it is called `app` or `celery`."""
    name = text(value)
    # A module may have a name that is no identifier, like my-app.
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*(:\w+(\.\w+)*)?", name):
        raise ValueError(f"must be MODULE or MODULE:APP, not {_shown(value)}")
    return name


def queue_name(value: object) -> str:
    """Parse the name of a queue."""
    name = text(value)
    if not name.isprintable():
        raise ValueError("must not contain control characters")
    return name


def queue_limit(value: object) -> tuple[str, int]:
    """Parse `NAME=NUMBER`: a queue, or `*`, and a length."""
    if isinstance(value, tuple):
        return queue_name(value[0]), _LIMIT(value[1])
    name, found, raw = text(value).rpartition("=")  # the name of a queue may contain "="
    if not found or not name:
        raise ValueError(f"must be NAME=NUMBER, not {_shown(value)}")
    return queue_name(name), _LIMIT(raw)


def named_seconds(value: object) -> tuple[str, float]:
    """Parse `NAME=SECONDS`: a queue or a task, or `*`, and a time."""
    if isinstance(value, tuple):
        return queue_name(value[0]), _AGE(value[1])
    name, found, raw = text(value).rpartition("=")
    if not found or not name:
        raise ValueError(f"must be NAME=SECONDS, not {_shown(value)}")
    return queue_name(name), _AGE(raw)


def severity(value: object) -> tuple[str, str]:
    """Parse `CODE=SEVERITY`: the code of a finding, and its weight."""
    if isinstance(value, tuple):
        return text(value[0]), _SEVERITY(value[1])
    code, found, raw = text(value).partition("=")
    if not found or not code:
        raise ValueError(f"must be CODE=SEVERITY, not {_shown(value)}")
    return code, _SEVERITY(raw.strip('"'))  # quoted where the variable is a JSON object


def address(value: object) -> Address:
    """Parse `:PORT`, `HOST:PORT` or `[IPV6]:PORT`."""
    if isinstance(value, Address):
        return value
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be :PORT, HOST:PORT or [IPV6]:PORT, not {_shown(value)}")
    if int(match[2]) > 65535:
        raise ValueError(f"must have a port from 0 to 65535, not {match[2]}")
    return Address(match[1].strip("[]"), int(match[2]))


def telemetry_path(value: object) -> str:
    """Parse the path of the metrics endpoint; paths below `/-/` are reserved."""
    path = text(value)
    if not re.fullmatch(r"/|(/[\w.~-]+)+", path):
        raise ValueError(f"must be a path like /metrics, not {_shown(value)}")
    if path.startswith("/-/"):
        raise ValueError("must not be below /-/, which is reserved for the health endpoints")
    return path


def file(value: object) -> Path:
    """Parse the path of a readable file."""
    path = value if isinstance(value, Path) else Path(text(value))
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        # The value, not the path: if it is a URL, Path removes a slash and prevents its redaction.
        raise ValueError(f"cannot read {value}: {error.strerror}") from None


def state_file(value: object) -> Path:
    """Parse the path of a file that the exporter writes, in a folder that exists."""
    path = value if isinstance(value, Path) else Path(text(value))
    if path.is_dir():
        raise ValueError(f"{value} is a directory")
    if path.exists() and not path.is_file():
        raise ValueError(f"{value} is not a file")
    if not path.parent.is_dir():
        raise ValueError(f"the directory of {value} does not exist")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write into the directory of {value}")
    return path


def pair(value: object) -> tuple[str, Any]:
    """Parse `NAME=VALUE`; the value is JSON if it is valid JSON, else a string."""
    if isinstance(value, tuple):
        return value
    name, found, raw = text(value).partition("=")
    if not found or not re.fullmatch(r"\w+", name):
        raise ValueError("must be NAME=VALUE")  # not quoted: the value may be a password
    try:
        return name, json.loads(raw)
    except ValueError:
        return name, raw


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (str, int, float)) else _type_name(value)


def _type_name(value: object) -> str:
    names = {
        dict: "a mapping",
        list: "a list",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "nothing" if value is None else names.get(type(value), f"a {type(value).__name__}")
