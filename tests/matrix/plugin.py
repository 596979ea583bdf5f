"""A pytest plugin for a row of the matrix: selects tests by server, writes a report in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

OUTCOMES = ("passed", "failed", "error", "skipped")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options of a row."""
    group = parser.getgroup("matrix")
    group.addoption(
        "--matrix-server", default="", help="run the tests against this kind of server only"
    )
    group.addoption(
        "--matrix-report", type=Path, required=True, help="file for the outcome of each test"
    )


@pytest.hookimpl(trylast=True)  # after tests/conftest.py has noted the servers of each test
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs on other servers."""
    if kind := config.getoption("--matrix-server"):
        chosen = [item for item in items if ("server", kind) in item.user_properties]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Write the report: the names of the tests by outcome."""
    stats = terminalreporter.stats
    names = {
        outcome: sorted({report.nodeid for report in stats.get(outcome, [])})
        for outcome in OUTCOMES
    }
    config.getoption("--matrix-report").write_text(json.dumps(names, indent=1))
