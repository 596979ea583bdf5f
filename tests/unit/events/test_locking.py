"""Locks are released before control leaves the code that took them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import celery_vitals

SOURCES = sorted(Path(celery_vitals.__file__).parent.rglob("*.py"))


def yields_under_a_lock(tree: ast.AST) -> Iterator[int]:
    """The lines of `with` blocks over a lock that yield: their reader decides when they end."""
    for block in ast.walk(tree):
        if isinstance(block, ast.With):
            managers = " ".join(ast.unparse(item.context_expr) for item in block.items)
            yields = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(block))
            if yields and "lock" in managers.lower():
                yield block.lineno


def test_no_generator_yields_while_it_holds_a_lock() -> None:
    found = {
        f"{path.name}:{line}"
        for path in SOURCES
        for line in yields_under_a_lock(ast.parse(path.read_text()))
    }
    assert found == set()
