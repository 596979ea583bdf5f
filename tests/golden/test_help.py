"""The help of each command, compared with a golden file.

To update the files: UPDATE_GOLDEN=1 pytest tests/golden/test_help.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from celery_vitals.cli import vitals

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("command", ["", "audit", "check", "serve", "healthy", "export", "demo"])
def test_help_matches_the_golden_file(command: str) -> None:
    golden = FOLDER / (f"help_{command}.txt" if command else "help.txt")
    result = CliRunner().invoke(
        vitals, [*command.split(), "--help"], prog_name="celery-vitals", terminal_width=100
    )
    assert result.exit_code == 0
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(result.output)
    assert result.output == golden.read_text()
