"""The ignored folder that everything of the matrix is in, and how its programs are run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".matrix"


class NotHereError(Exception):
    """A row cannot be run on this machine; the message is one line with the reason."""


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> int:
    """Run a program in the project's folder; its exit code.

    Ctrl-C reaches the program as well, which is then waited for: it cleans up after itself.
    """
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=os.environ | dict(env or {}))
    try:
        return process.wait()
    except BaseException:
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        raise


def run_well(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
    """Run a program that must succeed; NotHereError when it does not."""
    if code := run(command, env):
        raise NotHereError(f"{' '.join(map(str, command))} ended with {code}")


def ask(*command: str | Path) -> str:
    """What a program prints; NotHereError when it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHereError(f"{' '.join(map(str, command))}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
