"""Colours, and the thresholds from which panels and cells show them."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

OK, WARNING, CRITICAL, NEUTRAL, TEXT = "green", "orange", "red", "blue", "text"
TRANSPARENT = "transparent"

Thresholds = tuple[tuple[float | None, str], ...]
"""Lower bounds and their colours; the first has no lower bound."""

NONZERO_IS_CRITICAL: Thresholds = ((None, OK), (1, CRITICAL))
ZERO_IS_CRITICAL: Thresholds = ((None, CRITICAL), (1, OK))
NO_THRESHOLDS: Thresholds = ((None, NEUTRAL),)
MAPPINGS_ONLY: Thresholds = ((None, TEXT),)
"""For panels that take their colour from a value mapping."""


def ascending(warning: float, critical: float) -> Thresholds:
    """Return thresholds for values that get worse as they rise."""
    return ((None, OK), (warning, WARNING), (critical, CRITICAL))


def ascending_cell(warning: float, critical: float) -> Thresholds:
    """Return the same for table cells: no colour below the first threshold or without a value."""
    return ((None, TRANSPARENT), (warning, WARNING), (critical, CRITICAL))


def zero_cell(colour: str) -> Thresholds:
    """Return thresholds for table cells in which 0 is a problem."""
    return ((None, TRANSPARENT), (0, colour), (1, TRANSPARENT))


def thresholds_config(thresholds: Thresholds) -> model.ThresholdsConfig:
    """Convert to Grafana's type."""
    steps = [model.Threshold(value, colour) for value, colour in thresholds]
    return model.ThresholdsConfig(steps=steps)
