"""Value mappings: the texts and colours that panels show instead of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.models import dashboard as model

from tools.dashboards.thresholds import CRITICAL, NEUTRAL, OK, WARNING


def value_map(texts: Mapping[Any, tuple[str, str]]) -> list[model.ValueMapping]:
    """Map each value to a text and a colour."""
    results = {
        str(value): model.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return [model.ValueMap(options=results)]


UP_DOWN = value_map({0: ("DOWN", CRITICAL), 1: ("UP", OK)})
YES_NO = value_map({0: ("no", CRITICAL), 1: ("yes", OK)})
HEALTH = value_map({0: ("HEALTHY", OK), 1: ("DEGRADED", WARNING), 2: ("UNHEALTHY", CRITICAL)})
NEVER = value_map({"Infinity": ("never", CRITICAL)})
SEVERITY = value_map(
    {
        "critical": ("critical", CRITICAL),
        "warning": ("warning", WARNING),
        "info": ("info", NEUTRAL),
    }
)

STATES: Sequence[tuple[str, str, str]] = (
    ("up", "up", OK),
    ("busy", "busy", NEUTRAL),
    ("draining", "draining", "purple"),
    ("gone", "gone", "gray"),
    ("stalled", "stalled", WARNING),
    ("not_consuming", "not consuming", CRITICAL),
)
"""Worker states: label value, text, colour.  The queries number them by position, from 1."""

WORKER_STATE = value_map(
    {number: (text, colour) for number, (_, text, colour) in enumerate(STATES, 1)}
)
