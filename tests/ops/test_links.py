"""Links of the documents: relative ones exist, and those of the README also work on PyPI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.base import ROOT

REPOSITORY = r"https://(?:github\.com|raw\.githubusercontent\.com)/celery-vitals/celery-vitals"
IN_THE_TREE = re.compile(rf"{REPOSITORY}/(?:blob/|tree/)?main/([\w./-]+)")
FOLDERS = ("", "compose", "docs", "docs/runbooks", "examples", "helm/celery-vitals")
DOCUMENTS = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.md"))]
LINKING = [*DOCUMENTS, ROOT / "pyproject.toml", *(ROOT / ".github").rglob("*.yml")]


def targets(text: str) -> list[str]:
    """Return the targets of inline links, images and link definitions."""
    inline = re.findall(r"\]\(([^)\s]+)\)", text)
    return inline + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_relative_links_exist(document: Path) -> None:
    for target in targets(document.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (document.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("document", LINKING, ids=name)
def test_links_into_the_repository_exist(document: Path) -> None:
    for path in IN_THE_TREE.findall(document.read_text()):
        assert (ROOT / path).exists(), path


def test_the_readme_has_no_relative_link_which_pypi_would_break() -> None:
    found = targets((ROOT / "README.md").read_text())
    assert len(found) > 10
    assert [one for one in found if not one.startswith(("https://", "#"))] == []


def test_the_index_links_every_page_of_docs() -> None:
    index = targets((ROOT / "docs" / "README.md").read_text())
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(index)


def test_every_link_definition_of_the_readme_is_used() -> None:
    text = (ROOT / "README.md").read_text()
    defined = re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE)
    used = re.findall(r"\]\[([^\]]+)\]", text) + re.findall(r"\[([^\[\]]+)\](?![\[(:])", text)
    assert set(defined) <= set(used)
