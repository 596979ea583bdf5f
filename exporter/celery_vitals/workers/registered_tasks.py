"""The tasks of a worker, from its reply to the remote control command `registered`, or of an app.

An entry of that reply reads `project.add [rate_limit=10/m acks_late=True max_retries=3]`, without
the attributes that are None.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery

from celery_vitals.metrics.base import label_text

log = logging.getLogger(__name__)

REGISTERED_ARGUMENTS: Mapping[str, Any] = {
    "taskinfoitems": ("rate_limit", "acks_late", "max_retries", "retry_kwargs"),
    "builtins": True,
}
"""The arguments of the command."""
_VALUES = " ?".join(
    (
        r"(?:rate_limit=(?P<rate_limit>[^\s\]]*))?",
        r"(?:acks_late=(?P<acks_late>[^\s\]]*))?",
        r"(?:max_retries=(?P<max_retries>[^\s\]]*))?",
        r"(?:retry_kwargs=(?P<retry_kwargs>.*))?",
    )
)
_ENTRY = re.compile(rf"(?P<name>.*?)(?: \[{_VALUES}\])?", re.DOTALL)
_RETRY_LIMIT = re.compile(r"['\"]max_retries['\"]: ([^\s,}]+)")
_FALSE = {"False", "0", "0.0", ""}


@dataclass(frozen=True)
class RegisteredTask:
    """The settings of one task."""

    acks_late: bool | None
    """Whether it acknowledges its messages after its execution; None while unknown."""
    max_retries: float | None
    """Infinite for a task without a limit; None while unknown."""
    rate_limit: str | None = None

    @classmethod
    def of(
        cls, acks_late: object, max_retries: object, retry_kwargs: object, rate_limit: str | None
    ) -> RegisteredTask:
        """Return the settings that these attributes of a task cause, or their texts.

        With `autoretry_for`, the `max_retries` of `retry_kwargs` applies.
        """
        if acks_late is None:  # no task of an app is without it
            return cls(None, None, rate_limit)
        limit = _RETRY_LIMIT.search(str(retry_kwargs))
        retries = _number(limit[1] if limit else max_retries)
        return cls(str(acks_late) not in _FALSE, retries, rate_limit)


def registered_tasks(body: Any) -> dict[str, RegisteredTask] | None:
    """Return the tasks of a worker by name; None when `body` is no reply to `registered`."""
    if not isinstance(body, list):
        return None
    entries = (_ENTRY.fullmatch(text) for text in body if isinstance(text, str))
    return {
        label_text(entry["name"]): RegisteredTask.of(
            entry["acks_late"], entry["max_retries"], entry["retry_kwargs"], entry["rate_limit"]
        )
        for entry in entries
        if entry
    }


def tasks_of(app: Celery) -> dict[str, RegisteredTask]:
    """Return the tasks that an app has so far: modules that it has not imported may have effects.

    Workers report the others.
    """
    try:
        tasks = dict(app.tasks)
    except Exception as error:  # noqa: BLE001  user code may raise anything
        log.warning("--app: cannot read the settings of its tasks: %s", type(error).__name__)
        return {}
    return {
        label_text(name): RegisteredTask.of(
            getattr(task, "acks_late", None),
            getattr(task, "max_retries", None),
            getattr(task, "retry_kwargs", None),
            None,
        )
        for name, task in tasks.items()
    }


def _number(max_retries: object) -> float | None:
    """Return a limit of retries; infinite for None, as its attribute is then not in the reply."""
    if max_retries is None or max_retries == "None":
        return math.inf
    try:
        return float(str(max_retries))
    except ValueError:
        return None
