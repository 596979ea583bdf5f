"""The Python that make creates .venv with; the old one is a script, not a real Python 3.9."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.base import ROOT

OLD = '#!/bin/sh\n[ "$1" = -c ] && exit 0\nmkdir -p .venv/bin && cp "$0" .venv/bin/python\n'
"""Prints nothing where a supported Python prints `yes`, and creates an environment when asked."""
WITHOUT_PIP = f"""#!/bin/sh
[ "$1" = -c ] && exec {sys.executable} "$@"
mkdir -p .venv/bin && ln -s {sys.executable} .venv/bin/python
echo "ensurepip is not available" >&2
exit 1
"""
"""A Python whose module venv fails halfway, as Debian's without python3-venv."""


def make(folder: Path, target: str, python: str) -> tuple[int, list[str]]:
    """Run make in a folder with nothing but its Makefile; return the exit code and the output."""
    for name in ("Makefile", "constraints.txt", "constraints-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    command = ["make", "--no-print-directory", target, f"PYTHON={python}"]
    done = subprocess.run(
        command,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("target", ["demo", "test-unit", "check"])
@pytest.mark.parametrize("kind", ["old", "missing"])
def test_unsupported_python_is_one_line_and_leaves_nothing(
    tmp_path: Path, target: str, kind: str
) -> None:
    python = script(tmp_path / "python3", OLD) if kind == "old" else "/nowhere/python3"
    code, lines = make(tmp_path, target, python)
    assert code == 2
    (line,) = lines
    assert f"{python} is not Python 3.10 or newer." in line
    assert f"`make PYTHON=python3.12 {target}`" in line
    assert not (tmp_path / ".venv").exists()


def test_environment_of_an_old_python_is_named(tmp_path: Path) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    script(tmp_path / ".venv/bin/python", OLD)
    _, (line,) = make(tmp_path, "demo", sys.executable)
    assert ".venv/bin/python is not Python 3.10 or newer." in line
    assert "`make clean` removes an old .venv" in line


def test_environment_that_cannot_be_completed_is_removed(tmp_path: Path) -> None:
    code, lines = make(tmp_path, "demo", script(tmp_path / "python3", WITHOUT_PIP))
    assert code == 2
    assert "ensurepip is not available" in lines
    assert not (tmp_path / ".venv").exists()
