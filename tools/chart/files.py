"""The files rendered by the chart: renders for the tests, plain manifests."""

from __future__ import annotations

from tools.base import ROOT, Files, Generator
from tools.chart.helm import CASES, NAMESPACE, Object, manifest, notes, values_of

RENDERS = ROOT / "tests" / "ops" / "chart_renders"
PLAIN_HEAD = """\
# Rendered from the chart (docs/chart.md).  The image is published nowhere: build it from the source
# tree with `docker build`, push it to your registry, and change `image` below.
"""
PLAIN = ROOT / "examples" / "kubernetes" / "celery-vitals.yaml"


def files() -> Files:
    """Return every file that the chart renders."""
    renders = {path: text for case in CASES for path, text in render(case).items()}
    return {
        PLAIN: plain_manifests(),
        **renders,
    }


def render(case: str) -> Files:
    """Return the objects and the notes of one value file, without the rules and dashboards.

    Those are files of this repository already, and have tests of their own.
    """
    given = values_of(case)
    return {
        RENDERS / f"{case}.yaml": manifest(_without_files(given)),
        RENDERS / f"{case}.notes.txt": notes(given) + "\n",
    }


def _without_files(given: Object) -> Object:
    omitted = ("prometheusRule", "dashboards")
    return {name: value for name, value in given.items() if name not in omitted}


def plain_manifests() -> str:
    """Return the objects of the smallest useful installation, for `kubectl apply`."""
    given = values_of("url") | {"fullnameOverride": "celery-vitals", "test": {"enabled": False}}
    return PLAIN_HEAD + (
        manifest(given)
        .replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl")
        .replace(f"namespace: {NAMESPACE}", "namespace: default")
    )


GENERATOR = Generator("chart", files, owned=("tests/ops/chart_renders/*",))
