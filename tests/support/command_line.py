"""The command line as a person uses it, inside this process and in one of its own."""

from __future__ import annotations

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
from celery_vitals.settings import Settings
from celery_vitals.settings.click_options import ClickOption, all_options, settings_of

BROKER = "redis://localhost:1/0"


def read(*args: str, **variables: str) -> Settings:
    """The settings that the arguments and variables give."""
    seen: list[Settings] = []

    @click.command(cls=cli.OneLineCommand, params=[ClickOption(option) for option in all_options()])
    @click.pass_context
    def command(ctx: click.Context, /, **_: Any) -> None:
        seen.append(settings_of(ctx))

    result = CliRunner().invoke(command, args, env=variables)
    assert result.exit_code == 0, result.output
    return seen[0]


def invoke(*args: str, env: Mapping[str, str] | None = None) -> Result:
    """The program inside this process, whose log is left as it is."""
    with patch("celery_vitals.logging.set_up"):
        return CliRunner().invoke(cli.vitals, args, env=env)


def serve(*args: str, env: Mapping[str, str] | None = None) -> Result:
    """The command with `--config.check`, inside this process."""
    return invoke("serve", "--config.check", *args, env=env)


def run(
    *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A real process, with the package on its path."""
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
    """The error of a command that ended as an error of the user's should."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("celery-vitals: error: ")
    return result.stderr.removeprefix("celery-vitals: error: ").rstrip("\n")
