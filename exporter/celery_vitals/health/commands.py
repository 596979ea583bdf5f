"""Commands of recommendations, with the names of this cluster."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from celery_vitals.health.limits import HealthLimits

_SHOWN = 5


def start_worker(limits: HealthLimits, queues: Iterable[str] = (), name: str = "") -> str:
    """Return the command that starts a worker of these queues.

    Without a known app it uses the variable APP, as `celery` does: a worker without its app would
    discard the messages.
    """
    app = shlex.quote(limits.app) if limits.app else '"$APP"'
    names = sorted(queues)
    chosen = f" -Q {shlex.quote(','.join(names))}" if names else ""
    named = f" -n {shlex.quote(name)}" if name else ""
    return f"celery -A {app} worker{chosen}{named}"


def control(limits: HealthLimits, command: str, *arguments: str, worker: str = "") -> str:
    """Return a command of remote control; without a known app it needs the broker's URL only."""
    target = f"-A {shlex.quote(limits.app)}" if limits.app else '-b "$BROKER_URL"'
    destination = ["-d", worker] if worker else []
    words = " ".join(map(shlex.quote, (*destination, *arguments)))
    return f"celery {target} {command} {words}".rstrip()


def listed(names: Iterable[str]) -> str:
    """Return names in their order, the first few and the number of others."""
    ordered = sorted(names)
    more = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {more} others" if more > 0 else "")


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Return a time in its largest unit, rounded down."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return count(int(seconds // size), unit)
    return count(int(seconds), "second")
