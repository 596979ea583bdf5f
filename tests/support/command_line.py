"""The command line, in this process and in a child process."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
from click.testing import CliRunner, Result

from celery_vitals import cli
from celery_vitals.cli.one_line import OneLineCommand
from celery_vitals.settings import Settings
from celery_vitals.settings.click_options import ClickOption, all_options, settings_of

BROKER = "redis://localhost:1/0"


def runner() -> CliRunner:
    """Return click's runner with stderr apart from stdout, which click before 8.2 has to be
    asked for."""
    mixed = "mix_stderr" in inspect.signature(CliRunner).parameters
    return CliRunner(**({"mix_stderr": False} if mixed else {}))  # type: ignore[arg-type]


def read(*args: str, **variables: str) -> Settings:
    """Return the settings of the arguments and variables."""
    seen: list[Settings] = []

    @click.command(cls=OneLineCommand, params=[ClickOption(option) for option in all_options()])
    @click.pass_context
    def command(ctx: click.Context, /, **_: Any) -> None:
        seen.append(settings_of(ctx))

    result = runner().invoke(command, args, env=variables)
    assert result.exit_code == 0, result.output
    return seen[0]


def invoke(*args: str, env: Mapping[str, str] | None = None) -> Result:
    """Run the program in this process, without changing its log."""
    with patch("celery_vitals.logging.set_up"):
        return runner().invoke(cli.vitals, args, env=env)


def serve(*args: str, env: Mapping[str, str] | None = None) -> Result:
    """Run `serve --config.check` in this process."""
    return invoke("serve", "--config.check", *args, env=env)


def run(
    *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a child process with the package on its path."""
    source = str(Path(cli.__file__).parents[2])
    variables = {**os.environ, "PYTHONPATH": source, **(env or {})}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=variables,
        timeout=60,
        check=False,
    )


def one_line(result: Result) -> str:
    """Return the error of a command that failed with a one-line user error."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("celery-vitals: error: ")
    return result.stderr.removeprefix("celery-vitals: error: ").rstrip("\n")
