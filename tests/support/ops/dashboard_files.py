"""Read the committed dashboards, their panels and their queries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser as promql

FOLDER = Path(__file__).resolve().parents[3] / "grafana" / "dashboards"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))
}


@dataclass(frozen=True)
class Query:
    """One query of a dashboard, with its panel."""

    dashboard: str
    panel: dict[str, Any]
    target: dict[str, Any]

    @property
    def expr(self) -> str:
        """The expression as committed, with variables."""
        return str(self.target["expr"])

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel['title']} / {self.target['refId']}"


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels without the row headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Yield every query of every panel."""
    for name, dashboard in DASHBOARDS.items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield Query(name, panel, target)


def annotation_queries() -> Iterator[str]:
    """Yield every query of an annotation."""
    for dashboard in DASHBOARDS.values():
        yield from (one["expr"] for one in dashboard["annotations"]["list"])


def interpolate(expr: str, rate_interval: str = "20s", **values: str) -> str:
    """Replace the variables of a query; `.+` (All) for variables without a value."""
    expr = expr.replace("$__rate_interval", rate_interval)
    return re.sub(r"\$([a-z]+)", lambda match: values.get(match[1], ".+"), expr)


def walk(node: Any) -> Iterator[Any]:
    """Yield an expression and all its parts."""
    yield node
    if isinstance(node, promql.Call):
        children = list(node.args)
    elif isinstance(node, promql.BinaryExpr):
        children = [node.lhs, node.rhs]
    elif isinstance(node, promql.MatrixSelector):
        children = [node.vector_selector]
    else:
        children = [node.expr] if hasattr(node, "expr") else []
    for child in children:
        yield from walk(child)
