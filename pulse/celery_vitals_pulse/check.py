"""The command of liveness probes: whether a heartbeat file is fresh.

It parses its few arguments itself: importing argparse takes longer than the check.
"""

from __future__ import annotations

import os
import sys
import time

from celery_vitals_pulse.defaults import DEFAULT_FILE, DEFAULT_INTERVAL, MISSED_INTERVALS

USAGE = "usage: celery-vitals-pulse check [--file FILE] [--max-age SECONDS]"


class InvalidArgumentError(Exception):
    """An argument that the command does not accept; the text is one line for the user."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        print(f"{USAGE}: exit code 0 when the heartbeat file is fresh, else 1")
        return 0
    try:
        file, max_age = parse(arguments)
    except InvalidArgumentError as error:
        print(f"{error} ({USAGE})", file=sys.stderr)
        return 1
    fresh, line = check(file, max_age)
    print(line)
    return 0 if fresh else 1


def parse(arguments: list[str]) -> tuple[str, float | None]:
    """Return file and maximum age; None: three intervals of the process that writes the file."""
    if arguments[:1] != ["check"]:
        given = f"unknown command {arguments[0]!r}" if arguments else "no command"
        raise InvalidArgumentError(f"{given}, expected: check")
    values = {"--file": DEFAULT_FILE, "--max-age": ""}
    rest = arguments[1:]
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name not in values:
            raise InvalidArgumentError(
                f"unknown option {name!r}, expected one of: {', '.join(values)}"
            )
        if not equals:
            value = rest.pop(0) if rest else ""
        if not value:
            raise InvalidArgumentError(f"{name}: a value is missing")
        values[name] = value
    return values["--file"], _seconds(values["--max-age"]) if values["--max-age"] else None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidArgumentError(f"--max-age: {text!r} is not a positive number of seconds")
    return seconds


def check(file: str, max_age: float | None) -> tuple[bool, str]:
    """Return whether every file of a pattern is fresh, and a line about the oldest one."""
    paths = _paths(file)
    if not paths:
        return False, f"stale: no file {file}"
    results = sorted(_check_one(path, max_age) for path in paths)
    return results[0]


def _check_one(path: str, max_age: float | None) -> tuple[bool, str]:
    """Return whether a file is fresh, and a line about it."""
    try:
        age = time.time() - os.stat(path).st_mtime
        limit = MISSED_INTERVALS * _interval(path) if max_age is None else max_age
    except FileNotFoundError:
        return False, f"stale: no file {path}"
    except OSError as error:
        return False, f"stale: {path}: {error.strerror}"
    if age > limit:
        return False, f"stale: {path} was touched {age:.0f} s ago, the limit is {limit:g} s"
    if age < -limit:
        return False, f"stale: {path} has a time {-age:.0f} s in the future"
    return True, f"fresh: {path} was touched {max(0.0, age):.0f} s ago"


def _paths(file: str) -> list[str]:
    """Return the files of all processes where the name contains placeholders."""
    if "{hostname}" not in file and "{pid}" not in file:
        return [file]
    import glob

    parts = [glob.escape(part) for part in file.replace("{pid}", "{hostname}").split("{hostname}")]
    return glob.glob("*".join(parts))


def _interval(path: str) -> float:
    """Return the interval that the writing process recorded, else the default."""
    with open(path, encoding="ascii", errors="replace") as file:
        content = file.read(1000)
    for part in content.split():
        name, _, value = part.partition("=")
        if name == "interval":
            try:
                return float(value)
            except ValueError:
                break
    return DEFAULT_INTERVAL
