"""An opt-in label whose value is an argument of the task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from celery_vitals.events.decode import Event

MAX_LABEL_LENGTH = 200
"""Characters of a label value; a longer text is not a real name of a task or a queue."""
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\[({]|[\])}]|,""", re.DOTALL)
_VALUE = r"""(?:'([^'\\]*)'|"([^"\\]*)"|(-?\d+(?:\.\d+)?))"""
_AFTER_KEY = re.compile(rf": {_VALUE}[,}}]")
_ITEM = re.compile(rf" ?{_VALUE}[,)\]]")
_MAX_ARGUMENTS_LENGTH = 10_000
"""Characters of the arguments that are searched; Celery itself writes fewer."""


@dataclass(frozen=True)
class KwargLabel:
    """The label name, and the argument: its keyword, or its position from 0."""

    label: str
    argument: str | int
    parameters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The names of the parameters of each task of the app, in their order."""

    def value_of(self, event: Event) -> str:
        """Return the argument's value.

        It is empty where the task has no such argument, or one that is neither text nor a number.
        Events contain the arguments as their repr, shortened, so only this one is parsed.  Where
        the parameters of the task are known, it may be passed either way.
        """
        parameters = self.parameters.get(event.name or "", ())
        if isinstance(self.argument, str):
            position = parameters.index(self.argument) if self.argument in parameters else None
            keyword: str | None = self.argument
        else:
            position = self.argument
            keyword = parameters[position] if position < len(parameters) else None
        value = _keyword_argument(event.kwargs, keyword) if keyword else ""
        if not value and position is not None:
            value = _positional_argument(event.args, position)
        return value[:MAX_LABEL_LENGTH]


def _keyword_argument(arguments: object, keyword: str) -> str:
    text, depth = _searched(arguments), 0
    for token in _TOKEN.finditer(text):
        what = token.group()
        depth += (what in "[({") - (what in "])}")
        if depth == 1 and what[1:-1] == keyword and (found := _AFTER_KEY.match(text, token.end())):
            return _matched(found)
    return ""


def _positional_argument(arguments: object, position: int) -> str:
    text, depth = _searched(arguments), 0
    for token in _TOKEN.finditer(text):
        what = token.group()
        depth += (what in "[({") - (what in "])}")
        if depth == 1 and what in "(,[":
            position -= what == ","
            if position == 0:
                found = _ITEM.match(text, token.end())
                return _matched(found) if found else ""
    return ""


def _searched(arguments: object) -> str:
    return arguments[:_MAX_ARGUMENTS_LENGTH] if isinstance(arguments, str) else ""


def _matched(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)
