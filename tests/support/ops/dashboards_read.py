"""The committed dashboards as the tests read them."""

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
    """One query of a dashboard, and where it stands."""

    board: str
    panel: dict[str, Any]
    target: dict[str, Any]

    @property
    def expr(self) -> str:
        """As committed, with variables."""
        return str(self.target["expr"])

    def __str__(self) -> str:
        return f"{self.board} / {self.panel['title']} / {self.target['refId']}"


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """All but the headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Every query of every panel."""
    for name, board in DASHBOARDS.items():
        for panel in panels(board):
            for target in panel["targets"]:
                yield Query(name, panel, target)


def annotation_queries() -> Iterator[str]:
    """Every query of an annotation."""
    for board in DASHBOARDS.values():
        yield from (one["expr"] for one in board["annotations"]["list"])


def filled(expr: str, rate_interval: str = "20s", **chosen: str) -> str:
    """With its variables filled in; All where nothing is chosen."""
    expr = expr.replace("$__rate_interval", rate_interval)
    return re.sub(r"\$([a-z]+)", lambda found: chosen.get(found[1], ".+"), expr)


def walk(node: Any) -> Iterator[Any]:
    """An expression and everything in it."""
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
