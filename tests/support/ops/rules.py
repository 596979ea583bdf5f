"""Read the rule files of `alerts/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
ALERTS = ROOT / "alerts"
RULES = ALERTS / "celery-vitals.rules.yml"
OVERRIDES = ALERTS / "overrides.example.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"
THRESHOLD = "celery_vitals:threshold:"


@dataclass(frozen=True)
class Alert:
    """An alerting rule."""

    name: str
    expr: str
    for_: str
    """The field `for`."""
    severity: str
    annotations: dict[str, str]


def groups(path: Path = RULES) -> list[dict[str, Any]]:
    """Return the groups of a rule file."""
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return found


def rules(path: Path = RULES) -> list[dict[str, Any]]:
    """Return all rules of a file, in order."""
    return [rule for group in groups(path) for rule in group["rules"]]


def alerts() -> list[Alert]:
    """Return all alerting rules, in order."""
    return [
        Alert(
            rule["alert"],
            rule["expr"],
            rule["for"],
            rule["labels"]["severity"],
            rule["annotations"],
        )
        for rule in rules()
        if "alert" in rule
    ]
