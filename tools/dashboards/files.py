"""The JSON files of the dashboards, for import in Grafana."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.base import ROOT, Files, Generator
from tools.dashboards import exporter, overview, queues, tasks, workers

FOLDER = ROOT / "grafana" / "dashboards"
DASHBOARDS = tuple(module.DASHBOARD for module in (overview, tasks, queues, workers, exporter))


def files(folder: Path = FOLDER) -> Files:
    """Return the text of each dashboard by its path."""
    return {
        folder / f"celery-vitals-{dashboard.name}.json": json.dumps(
            dashboard.build(), cls=JSONEncoder, indent=2, sort_keys=True
        )
        + "\n"
        for dashboard in DASHBOARDS
    }


GENERATOR = Generator("dashboards", files, owned=("grafana/dashboards/*.json",))
