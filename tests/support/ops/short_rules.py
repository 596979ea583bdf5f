"""The rules and the Alertmanager example with shorter times, derived from the files."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.support.ops.rules import ALERTS, RULES, groups

_UNITS = {"s": 1, "m": 60, "h": 3600}
_WINDOWS = {"6h": "40s", "361m": "41s", "1h": "30s", "61m": "31s", "15m": "9s", "16m": "10s"}
SPEED = 100
"""Default divisor of the times."""


def seconds(duration: str) -> int:
    """Return the seconds of a Prometheus duration with one unit."""
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]


def _shorter(duration: str, speed: int = SPEED) -> str:
    return f"{max(1, round(seconds(duration) / speed))}s"


def quick_groups(*unchanged: str, speed: int = SPEED, **labels: str) -> list[dict[str, Any]]:
    """Return the rule groups with shorter times, except those of the `unchanged` alerts.

    `labels` are added to all alerts.
    """
    found = groups(RULES)
    for group in found:
        for rule in group["rules"]:
            if "alert" in rule:
                if rule["alert"] not in unchanged:
                    rule |= {
                        name: _shorter(rule[name], speed)
                        for name in ("for", "keep_firing_for")
                        if name in rule
                    }
                rule["labels"] |= labels
    return found


def short_windows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Shorten the windows of the rules about lost and repeated tasks to less than a minute."""
    for group in found:
        if group["name"].startswith("celery-vitals-ledger"):
            for rule in group["rules"]:
                for long, short in _WINDOWS.items():
                    rule["expr"] = re.sub(rf"(\[|offset ){long}\b", rf"\g<1>{short}", rule["expr"])
    return found


def overrides(**thresholds: float) -> dict[str, Any]:
    """Return a rule group that overrides thresholds, as in a user's file."""
    rules = [
        {"record": f"celery_vitals:override:{name}", "expr": str(value)}
        for name, value in thresholds.items()
    ]
    return {"name": "overrides", "rules": rules}


def quick_alertmanager(webhook: str) -> dict[str, Any]:
    """Return the example with shorter times; receivers post to `webhook`/NAME."""
    config: dict[str, Any] = yaml.safe_load((ALERTS / "alertmanager.example.yml").read_text())
    config["route"] |= {
        name: _shorter(config["route"][name]) for name in ("group_wait", "group_interval")
    }
    config["global"] = {"resolve_timeout": "30s"}
    for receiver in config["receivers"]:
        for one in receiver.get("slack_configs", ()):
            del one["api_url_file"]
            one["api_url"] = f"{webhook}/{receiver['name']}"
    assert urlsplit(webhook).hostname == "127.0.0.1"
    return config
