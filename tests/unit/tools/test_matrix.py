"""The test matrix: the tests that its rows and its known failures name exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.matrix.known import KNOWN, Known
from tests.matrix.rows import ROWS

ROOT = Path(__file__).parents[3]


def _identifiers(path: Path) -> list[str]:
    """Return the identifiers of the tests of a file, without parameters."""
    name, found = path.relative_to(ROOT).as_posix(), list[str]()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            methods = (one.name for one in node.body if isinstance(one, ast.FunctionDef))
            found += (f"{name}::{node.name}::{method}" for method in methods)
        elif isinstance(node, ast.FunctionDef):
            found.append(f"{name}::{node.name}")
    return found


TESTS = [test for path in ROOT.glob("tests/**/test_*.py") for test in _identifiers(path)]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.test)
def test_known_failures_name_existing_tests(known: Known) -> None:
    assert any(known.test in test for test in TESTS)
    assert set(known.rows) <= set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_rows_name_existing_tests(row: str) -> None:
    paths = [one for one in ROWS[row].tests if one.startswith("tests")]
    for path in paths:
        assert (ROOT / path).is_dir() or any(test.startswith(path) for test in TESTS)
