"""What a query of PromQL names: metrics and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

_PARTS = ("lhs", "rhs", "expr", "param", "vector_selector")


@dataclass(frozen=True)
class Selected:
    """A metric that a query selects, and the labels by which it does."""

    metric: str
    """Empty where the query does not name one."""
    labels: frozenset[str]


def nodes(query: str) -> Iterator[Any]:
    """All parts of a query; ValueError when it is none."""
    todo = [promql.parse(query)]
    while todo:
        node = todo.pop()
        yield node
        todo += [part for name in _PARTS if (part := getattr(node, name, None)) is not None]
        todo += list(getattr(node, "args", None) or ())


def selected(query: str) -> list[Selected]:
    """The metrics that a query selects."""
    return [
        Selected(node.name or "", frozenset(one.name for one in node.matchers.matchers))
        for node in nodes(query)
        if isinstance(node, promql.VectorSelector)
    ]


def grouping(query: str) -> set[str]:
    """The labels by which a query groups and matches: those of by, without, on, ignoring and group_left."""
    found: set[str] = set()
    for node in nodes(query):
        modifier = getattr(node, "modifier", None)
        for part in (modifier, getattr(modifier, "matching", None)):
            found |= set(getattr(part, "labels", None) or ())
    return found
