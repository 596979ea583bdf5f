"""The pinned versions: constraints files with hashes, for every supported Python.

    python -m tools.pins            compile them with uv from the package index (`make constraints`)
    python -m tools.pins --check    compare them with pyproject.toml, offline (`make check`)

Versions that are already pinned stay unless a requirement excludes them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from packaging.requirements import Requirement

from tools.base import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_UV = (
    "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--generate-hashes",
    "--no-emit-index-url", "--no-annotate", "--no-header",
)  # fmt: skip


@dataclass(frozen=True)
class PinFile:
    """One constraints file, and the parts of pyproject.toml that it pins."""

    path: str
    project: bool = True
    """Whether the dependencies of the program are part of it."""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    base: str = ""
    """A file whose versions it repeats."""

    def arguments(self) -> list[str]:
        """Return the command line of uv."""
        parts = [f"--extra={name}" for name in self.extras]
        parts += [f"--group={name}" for name in self.groups]
        parts += ["-c", self.base] if self.base else []
        return [*_UV, *(["pyproject.toml"] if self.project else []), *parts, "-o", self.path]


FILES = (
    PinFile("constraints.txt", extras=("demo",), groups=("build",)),
    PinFile(
        "constraints-dev.txt",
        extras=("demo",),
        groups=("build", "test", "check", "dashboards"),
        base="constraints.txt",
    ),
    PinFile("image/run.txt", extras=("memcached", "sqlalchemy"), base="constraints-dev.txt"),
    PinFile("image/build.txt", project=False, groups=("build",), base="constraints-dev.txt"),
)


def load_pyproject() -> dict[str, Any]:
    """Read pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return found


def faults(file: PinFile, pyproject: dict[str, Any]) -> Iterator[str]:
    """Yield each unsatisfied requirement, and each version that differs from the base file."""
    pins = read_pins(ROOT / file.path)
    project = pyproject["project"]
    wanted = list(project["dependencies"]) if file.project else []
    wanted += [line for name in file.extras for line in project["optional-dependencies"][name]]
    wanted += [line for name in file.groups for line in pyproject["dependency-groups"][name]]
    for requirement in map(Requirement, wanted):
        version = pins.get(normal(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            yield f"pins {version or 'no version'} of {requirement}"
    base = read_pins(ROOT / file.base) if file.base else pins
    for name in sorted(name for name in pins if pins[name] != base.get(name, pins[name])):
        yield f"pins {name} {pins[name]}, {file.base} {base[name]}"


def read_pins(path: Path) -> dict[str, str]:
    """Return the pinned version of each distribution."""
    found = pinned_requirements(path)
    return {normal(one.name): str(one.specifier).removeprefix("==") for one in found}


def pinned_requirements(path: Path) -> list[Requirement]:
    """Return the requirements of a constraints file; a name occurs once for each marker."""
    lines = [line for line in path.read_text().splitlines() if "==" in line.partition(";")[0]]
    return [Requirement(line.rstrip(" \\")) for line in lines]


def normal(name: str) -> str:
    """Return the name of a distribution as constraints files spell it."""
    return name.lower().replace("_", "-").replace(".", "-")


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when a file is stale.")
def main(check: bool) -> None:
    """Write the constraints files, or check them."""
    if not check:
        for file in FILES:
            subprocess.run(
                [Path(sys.executable).with_name("uv"), *file.arguments()], check=True, cwd=ROOT
            )
        return
    pyproject = load_pyproject()
    found = [f"{file.path} {fault}" for file in FILES for fault in faults(file, pyproject)]
    for line in found:
        click.echo(f"{line}: run `make constraints`", err=True)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
