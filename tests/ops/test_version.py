"""The version in `_version.py`, and every file that repeats it.

`make chart` writes a new version into all of them; only CHANGELOG.md is written by hand.
"""

from __future__ import annotations

import re

import pytest
import yaml

from celery_vitals._version import __version__
from tests.support.ops.chart import CHART, ROOT, check_or_write

REPEATED = [
    ("helm/celery-vitals/Chart.yaml", "version: "),
    ("helm/celery-vitals/Chart.yaml", "appVersion: "),
    ("Dockerfile", "ARG VERSION="),
    ("compose.yaml", "    image: celery-vitals:"),
]


@pytest.mark.parametrize(("path", "before"), REPEATED)
def test_the_version_of_the_program_is_repeated(path: str, before: str) -> None:
    line = re.compile(f"^{re.escape(before)}.+$", re.MULTILINE)
    text, found = line.subn(before + __version__, (ROOT / path).read_text())
    assert found == 1
    check_or_write(ROOT / path, text)


def test_the_image_tag_of_the_chart_follows_from_its_app_version() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["image"]["tag"] == ""
    manifests = (ROOT / "examples/kubernetes/celery-vitals.yaml").read_text()
    images = re.findall(r"^ +image: (\S+)$", manifests, re.MULTILINE)
    assert images == [f"celery-vitals:{__version__}"]


def test_the_changelog_has_a_dated_section_for_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", one) for one in headings[1:])
    assert headings[1].startswith(f"{__version__} - ")
