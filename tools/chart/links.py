"""The rules and dashboards in the chart: links to those of the repository, never copies of them."""

from __future__ import annotations

from tools.base import ROOT, Files, Generator

_FILES = ROOT / "helm" / "celery-vitals" / "files"


def links() -> Files:
    """Return the target of each link."""
    rules = ROOT / "alerts" / "celery-vitals.rules.yml"
    dashboards = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
    return {
        _FILES / rules.name: rules,
        **{_FILES / "dashboards" / path.name: path for path in dashboards},
    }


GENERATOR = Generator(
    "links", links, owned=("helm/celery-vitals/files/*.*", "helm/celery-vitals/files/dashboards/*")
)
