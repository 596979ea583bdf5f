"""The lists of modules in docs/architecture.md, generated from the packages."""

from __future__ import annotations

import re

from tools.base import ROOT, Files, Generator

PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "exporter" / "celery_vitals"
_ROW = re.compile(r"^\| `([\w/]+/)` \| ([^|\n]+) \| [^|\n]*\|$", re.MULTILINE)
"""A row with a package, its contents and its modules."""


def _row(found: re.Match[str]) -> str:
    folder, contents = found.groups()
    names = sorted(path.name for path in (PACKAGE / folder).glob("*.py"))
    modules = " ".join(f"`{name}`" for name in names if name != "__init__.py")
    return f"| `{folder}` | {contents} | {modules} |"


def files() -> Files:
    """Return the page with the present modules, by its path."""
    return {PAGE: _ROW.sub(_row, PAGE.read_text())}


GENERATOR = Generator("module table", files)
