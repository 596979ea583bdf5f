"""Virtual environments: workers with another Celery, and the whole project with another Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .folder import FOLDER, ROOT, NotHereError, ask, run_well

# What the tests ask of a worker besides Celery itself.
POOLS_AND_BACKENDS = ("gevent", "eventlet", "pymemcache", "sqlalchemy")


def with_celery(series: str, also: Sequence[str]) -> Path:
    """The Python of an environment with the newest Celery of a series (e.g. 5.3), and the kombu that came with it."""
    packages = [f"celery[redis]=={series}.*", f"kombu=={series}.*", *POOLS_AND_BACKENDS, *also]
    return _made(f"celery-{series}", Path(sys.executable), [packages])


def with_python(series: str) -> Path:
    """Another Python (e.g. 3.12) with the project and what its tests need, as the constraints file says."""
    project = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    steps = [["--require-hashes", "-r", str(ROOT / "constraints-dev.txt")], project]
    return _made(f"python-{series}", find_python(series), steps)


def find_python(series: str) -> Path:
    """The Python of a series on PATH, also where that is pyenv's; NotHereError without one."""
    try:
        ask_for = [f"python{series}", "-c", "import sys; print(sys.executable)"]
        done = subprocess.run(
            ask_for, env=os.environ | {"PYENV_VERSION": series}, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as exc:
        raise NotHereError(f"there is no python{series} on PATH") from exc
    return Path(done.stdout.decode().strip())


def versions(python: Path, *packages: str) -> list[str]:
    """The versions of installed packages."""
    program = (
        "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    )
    return ask(python, "-c", program, *packages).split()


def release(python: Path) -> str:
    """The version of a Python, e.g. 3.12.1."""
    return ask(python, "-c", "import platform; print(platform.python_version())")


def _made(name: str, base: Path, steps: Sequence[Sequence[str]]) -> Path:
    """An environment made by these calls of `pip install`, unless it is there already and complete."""
    folder = FOLDER / name
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    run_well([base, "-m", "venv", folder])
    for step in steps:
        run_well([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *step])
    complete.touch()
    return python
