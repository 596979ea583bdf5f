"""Virtual environments: other Celery versions for workers, other Pythons, the oldest libraries."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tools.pins import load_pyproject, normal, pinned_requirements, read_pins

from .folder import FOLDER, ROOT, NotHereError, ask, run_well

# Packages that workers of the tests need besides Celery.
POOLS_AND_BACKENDS = ("gevent", "eventlet", "msgpack", "pymemcache", "pyyaml", "sqlalchemy")


def with_celery(series: str, also: Sequence[str]) -> Path:
    """Make an environment with the newest Celery and kombu of a series (e.g. 5.3)."""
    packages = [f"celery[redis]=={series}.*", f"kombu=={series}.*", *POOLS_AND_BACKENDS, *also]
    return _made(f"celery-{series}", Path(sys.executable), [packages])


def with_python(series: str) -> Path:
    """Make an environment of another Python (e.g. 3.12) with the pinned versions."""
    project = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    steps = [["--require-hashes", "-r", str(ROOT / "constraints-dev.txt")], project]
    return _made(f"python-{series}", find_python(series), steps)


def with_packages(name: str, *packages: str) -> Path:
    """Make an environment with the pinned versions, except for these packages."""
    project = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    steps = [["--require-hashes", "-r", str(ROOT / "constraints-dev.txt")], project, packages]
    return _made(name, Path(sys.executable), steps)


def with_oldest(series: str) -> Path:
    """Make an environment of a Python with the lowest versions that pyproject.toml declares.

    The tools of the tests keep the versions of the constraints file.
    """
    requirements = FOLDER / "oldest.txt"
    uv = _made("uv", Path(sys.executable), [["uv"]]).with_name("uv")
    lowest = ["--resolution", "lowest-direct", "--python-version", series, "--no-header"]
    extras = ["--all-extras", "--group", "build"]
    tools = FOLDER / "oldest-tools.in"
    tools.write_text("".join(f"{line}\n" for line in _test_tools()))
    arguments = ["pyproject.toml", str(tools), *extras, *lowest, "-o", str(requirements)]
    requirements.unlink(missing_ok=True)
    run_well([uv, "pip", "compile", "--quiet", *arguments])
    _check_bounds(read_pins(requirements))
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:8]
    project = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    return _made(f"oldest-{digest}", find_python(series), [["-r", str(requirements)], project])


def _test_tools() -> list[Requirement]:
    """Return the pins of the group `test`, without libraries that the program itself declares."""
    wanted = {
        normal(one.name): one
        for one in map(Requirement, load_pyproject()["dependency-groups"]["test"])
    }
    program = {normal(one.name) for one in _declared()}
    found = pinned_requirements(ROOT / "constraints-dev.txt")
    chosen = [one for one in found if normal(one.name) in wanted.keys() - program]
    for one in chosen:
        one.extras = wanted[normal(one.name)].extras
    return chosen


def _declared() -> list[Requirement]:
    project = load_pyproject()["project"]
    extras = (line for lines in project["optional-dependencies"].values() for line in lines)
    return [Requirement(line) for line in (*project["dependencies"], *extras)]


def _check_bounds(found: dict[str, str]) -> None:
    """Raise NotHereError when a lower bound is not the version that the row would run."""
    for one in _declared():
        bound = next(str(spec.version) for spec in one.specifier if spec.operator == ">=")
        version = found.get(normal(one.name), bound)
        if Version(version) != Version(bound):
            raise NotHereError(
                f"pyproject.toml declares {one.name}>={bound}, but the lowest version that can be"
                f" tested is {version}: raise the bound"
            )


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
    """An environment made by these calls of `pip install`, unless it is there already and
    complete."""
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
