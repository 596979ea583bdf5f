"""Write every generated file, or check that each one is current.

    python -m tools.generate [--check]      `make generate`; with --check a part of `make check`

Exit code 1: --check found a stale file.  Golden expositions need running servers (`make golden`)
and pins need a package index (`make constraints`): the tests and `tools.pins` check those.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click

from tools.base import ROOT, Content, Generator

_GENERATORS = {
    "reference_pages": "",
    "audit_page": "",
    "versions": "",
    "alert_table": "",
    "module_table": "",
    "chart.values": "",
    "chart.links": "",
    "chart.files": "",
    "dashboards.files": "grafana_foundation_sdk",
}
"""Modules of this package with a `GENERATOR`, and a package that only newer Pythons have."""


def generators() -> Iterator[Generator]:
    """Import the generators that this Python can run; a line on stderr names each skipped one."""
    for name, required in _GENERATORS.items():
        if required and find_spec(required) is None:
            click.echo(
                f"skipped {name}: {required} is not installed (Python 3.11 or newer)", err=True
            )
        else:
            yield import_module(f"tools.{name}").GENERATOR


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when a file is stale.")
def main(check: bool) -> None:
    """Write every generated file."""
    found = False
    # One generator after the other: Helm renders with the schema that the one before it writes.
    for path, text in (item for one in generators() for item in one.stale().items()):
        found, name = True, path.relative_to(ROOT)
        if check:
            click.echo(f"{name} is stale: run `make generate`", err=True)
        elif text is None:
            path.unlink()
            click.echo(f"removed {name}")
        else:
            _write(path, text)
            click.echo(f"wrote {name}")
    sys.exit(1 if check and found else 0)


def _write(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(content, path.parent))
    else:
        path.write_text(content)


if __name__ == "__main__":
    main()
