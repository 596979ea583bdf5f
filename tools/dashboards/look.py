"""Units, colours, limits and the words for values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.models import dashboard as model

SECONDS = "s"
SHARE = "percentunit"
BYTES = "bytes"
NONE = "none"
COUNTED = "suffix: "
"""How the units of what is counted begin."""
TASKS = f"{COUNTED}tasks"
TASKS_PER_SECOND = f"{COUNTED}tasks/s"
EVENTS_PER_SECOND = f"{COUNTED}events/s"
MESSAGES = f"{COUNTED}messages"
WORKERS = f"{COUNTED}workers"
QUEUES = f"{COUNTED}queues"
SLOTS = f"{COUNTED}slots"
CORES = "suffix:cores"
SERIES = f"{COUNTED}series"

GOOD, WATCH, BAD, CALM, OFF = "green", "orange", "red", "blue", "text"
CLEAR = "transparent"

Steps = tuple[tuple[float | None, str], ...]
"""Colours from so much upwards; the first has no lower bound."""

ALARM: Steps = ((None, GOOD), (1, BAD))
UP: Steps = ((None, BAD), (1, GOOD))
PLAIN: Steps = ((None, CALM),)


def rising(watch: float, bad: float) -> Steps:
    """Good below the first, bad from the second on."""
    return ((None, GOOD), (watch, WATCH), (bad, BAD))


def calm(watch: float, bad: float) -> Steps:
    """The same for the cells of a table: no colour where all is well, nor where nothing is known."""
    return ((None, CLEAR), (watch, WATCH), (bad, BAD))


def none_is(colour: str) -> Steps:
    """For cells whose 0 is not right."""
    return ((None, CLEAR), (0, colour), (1, CLEAR))


def thresholds(steps: Steps) -> model.ThresholdsConfig:
    """The same for Grafana."""
    return model.ThresholdsConfig(steps=[model.Threshold(value, colour) for value, colour in steps])


def saying(words: Mapping[Any, tuple[str, str]]) -> list[model.ValueMapping]:
    """Words and their colours in the place of values."""
    results = {
        str(value): model.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return [model.ValueMap(options=results)]


ANSWERS = saying({0: ("DOWN", BAD), 1: ("UP", GOOD)})
YES_NO = saying({0: ("no", BAD), 1: ("yes", GOOD)})
VERDICT = saying({0: ("HEALTHY", GOOD), 1: ("DEGRADED", WATCH), 2: ("UNHEALTHY", BAD)})
NEVER = saying({"Infinity": ("never", BAD)})
SEVERITY = saying({"critical": ("critical", BAD), "warning": ("warning", WATCH), "info": ("info", CALM)})

STATES: Sequence[tuple[str, str, str]] = (
    ("up", "up", GOOD),
    ("busy", "busy", CALM),
    ("draining", "draining", "purple"),
    ("gone", "gone", "gray"),
    ("stalled", "stalled", WATCH),
    ("not_consuming", "not consuming", BAD),
)
"""The states of a worker: its label, its words, its colour.  The number of a state is its place here, from 1."""

STATE_WORDS = saying({number: (words, colour) for number, (_, words, colour) in enumerate(STATES, 1)})
