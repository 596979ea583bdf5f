"""The version in `_version.py`, and every file that repeats it."""

from __future__ import annotations

import re

import yaml

from celery_vitals._version import __version__
from tools.base import ROOT
from tools.chart.helm import CHART
from tools.versions import GENERATOR


def test_version_of_the_program_is_repeated_in_chart_image_and_compose_file() -> None:
    assert {path.name for path in GENERATOR.files()} == {
        "Chart.yaml",
        "Dockerfile",
        "compose.yaml",
    }
    assert GENERATOR.stale() == {}


def test_image_tag_of_the_chart_follows_from_its_app_version() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["image"]["tag"] == ""
    manifests = (ROOT / "examples/kubernetes/celery-vitals.yaml").read_text()
    images = re.findall(r"^ +image: (\S+)$", manifests, re.MULTILINE)
    assert images == [f"celery-vitals:{__version__}"]


def test_changelog_has_a_dated_section_for_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", one) for one in headings[1:])
    assert headings[1].startswith(f"{__version__} - ")
