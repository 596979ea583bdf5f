"""Parse PromQL: the metrics and labels that a query uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

_PARTS = ("lhs", "rhs", "expr", "param", "vector_selector")


@dataclass(frozen=True)
class Selected:
    """A vector selector: its metric and the labels of its matchers."""

    metric: str
    """Empty if the selector has no metric name."""
    labels: frozenset[str]


def nodes(query: str) -> Iterator[Any]:
    """Yield all nodes of a query; raise ValueError for invalid PromQL."""
    todo = [promql.parse(query)]
    while todo:
        node = todo.pop()
        yield node
        todo += [part for name in _PARTS if (part := getattr(node, name, None)) is not None]
        todo += list(getattr(node, "args", None) or ())


def selected(query: str) -> list[Selected]:
    """Return the vector selectors of a query."""
    return [
        Selected(node.name or "", frozenset(one.name for one in node.matchers.matchers))
        for node in nodes(query)
        if isinstance(node, promql.VectorSelector)
    ]


def grouping(query: str) -> set[str]:
    """Return the labels of by, without, on, ignoring and group_left in a query."""
    found: set[str] = set()
    for node in nodes(query):
        modifier = getattr(node, "modifier", None)
        for part in (modifier, getattr(modifier, "matching", None)):
            found |= set(getattr(part, "labels", None) or ())
    return found


def added(query: str) -> set[str]:
    """Return the labels that label_replace adds anywhere in a query."""
    return {
        node.args[1].val
        for node in nodes(query)
        if isinstance(node, promql.Call) and node.func.name == "label_replace"
    }
