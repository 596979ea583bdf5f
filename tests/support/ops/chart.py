"""The chart through Helm's own engine, and the value files that the tests render."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "celery-vitals"
CASES = {
    path.stem.removesuffix("-values"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))
}
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))
RELEASE, NAMESPACE = "celery", "jobs"

Object = dict[str, Any]


@cache
def chart() -> helm.Chart:
    """The chart as it is in the tree."""
    return helm.Chart.load(CHART)


def values_of(case: str) -> Object:
    """The values of a case."""
    values: Object = yaml.safe_load(CASES[case].read_text())
    return values


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """What the chart renders for the values, by template; raises helm.HelmError."""
    return _texts(json.dumps(values))


@cache
def _texts(values: str) -> dict[str, str]:
    rendered = chart().render(json.loads(values), name=RELEASE, namespace=NAMESPACE)
    return {
        path.removeprefix("celery-vitals/templates/"): text.strip()
        for path, text in rendered.items()
    }


def notes(values: Mapping[str, Any]) -> str:
    """What Helm prints after an install."""
    return texts(values)["NOTES.txt"]


def manifest(values: Mapping[str, Any]) -> str:
    """All objects, as `helm template` prints them."""
    parts = [text for path, text in sorted(texts(values).items()) if path != "NOTES.txt" and text]
    return "\n".join(text if text.startswith("---") else f"---\n{text}" for text in parts) + "\n"


def objects(values: Mapping[str, Any]) -> list[Object]:
    """All objects; they are shared, so change none of them."""
    return _objects(manifest(values))


@cache
def _objects(text: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(kind: str, values: Mapping[str, Any]) -> list[Object]:
    """The objects of one kind."""
    return [one for one in objects(values) if one["kind"] == kind]


def check_or_write(path: Path, text: str) -> None:
    """Compare a generated file with what it should be, or write it when UPDATE_GOLDEN is set."""
    if UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing: run `make chart`"
    assert path.read_text() == text, f"{path} is stale: run `make chart` and look at the difference"
