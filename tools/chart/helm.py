"""Render the chart with Helm's own engine, for the value files of its `ci` folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import helm_python as helm
import yaml

from tools.base import ROOT

CHART = ROOT / "helm" / "celery-vitals"
CASES = {
    path.stem.removesuffix("-values"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))
}
RELEASE, NAMESPACE = "celery", "jobs"

Object = dict[str, Any]


@cache
def chart() -> helm.Chart:
    """Load the chart of the repository."""
    with _stderr_discarded():
        return helm.Chart.load(CHART)


@contextmanager
def _stderr_discarded() -> Iterator[None]:
    """Discard Helm's log: it has a line for each symbolic link of the chart, and no level."""
    saved = os.dup(2)
    with open(os.devnull, "wb") as sink:  # noqa: PTH123
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def values_of(case: str) -> Object:
    """Read the values of a case."""
    values: Object = yaml.safe_load(CASES[case].read_text())
    return values


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Render the chart and return the text of each template; raises helm.HelmError."""
    return _texts(json.dumps(values))


@cache
def _texts(values: str) -> dict[str, str]:
    rendered = chart().render(json.loads(values), name=RELEASE, namespace=NAMESPACE)
    return {
        path.removeprefix("celery-vitals/templates/"): text.strip()
        for path, text in rendered.items()
    }


def notes(values: Mapping[str, Any]) -> str:
    """Return the text that Helm prints after an installation."""
    return texts(values)["NOTES.txt"]


def manifest(values: Mapping[str, Any]) -> str:
    """Return all objects in YAML, as `helm template` prints them."""
    parts = [text for path, text in sorted(texts(values).items()) if path != "NOTES.txt" and text]
    return "\n".join(text if text.startswith("---") else f"---\n{text}" for text in parts) + "\n"


def objects(values: Mapping[str, Any]) -> list[Object]:
    """Return all objects, parsed. They are cached: do not change them."""
    return _objects(manifest(values))


@cache
def _objects(text: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(kind: str, values: Mapping[str, Any]) -> list[Object]:
    """Return the objects of one kind."""
    return [one for one in objects(values) if one["kind"] == kind]
