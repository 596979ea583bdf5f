"""An opt-in label whose value is a keyword argument of the task."""

from __future__ import annotations

import re
from dataclasses import dataclass

from celery_vitals.events.decode import Event

MAX_LABEL_LENGTH = 200
"""Characters of a label value; a longer text is not a real name of a task or a queue."""
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\[({]|[\])}]""", re.DOTALL)
_VALUE = re.compile(r""": (?:'([^'\\]*)'|"([^"\\]*)"|(-?\d+(?:\.\d+)?))[,}]""")
_MAX_ARGUMENTS_LENGTH = 10_000
"""Characters of the arguments that are searched; Celery itself writes fewer."""


@dataclass(frozen=True)
class KwargLabel:
    """The label name and the name of the keyword argument."""

    label: str
    argument: str

    def value_of(self, event: Event) -> str:
        """Return the argument's value.

        It is empty where the task has no such argument, or one that is neither text nor a number.
        Events contain the arguments as their repr, shortened, so only this one is parsed.
        """
        text, depth = (event.kwargs or "")[:_MAX_ARGUMENTS_LENGTH], 0
        for token in _TOKEN.finditer(text):
            what = token.group()
            depth += (what in "[({") - (what in "])}")
            if (
                depth == 1
                and what[1:-1] == self.argument
                and (found := _VALUE.match(text, token.end()))
            ):
                value = next(group for group in found.groups() if group is not None)
                return value[:MAX_LABEL_LENGTH]
        return ""
