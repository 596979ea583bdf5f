"""Write the dashboards to grafana/dashboards, or check that the files there are up to date."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.source import exporter, overview, queues, tasks, workers

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"
DASHBOARDS = tuple(module.DASHBOARD for module in (overview, tasks, queues, workers, exporter))


def render() -> dict[str, str]:
    """Return the JSON of each dashboard by file name."""
    return {
        f"celery-vitals-{dashboard.name}.json": json.dumps(
            dashboard.build(), cls=JSONEncoder, indent=2, sort_keys=True
        )
        + "\n"
        for dashboard in DASHBOARDS
    }


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when all files are written or up to date, 1 when one is stale."""
    parser = argparse.ArgumentParser(prog="python -m grafana.source", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a file is stale"
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=FOLDER, help="folder of the JSON files"
    )
    options = parser.parse_args(arguments)
    rendered = render()
    if not options.check:
        for name, text in rendered.items():
            (options.folder / name).write_text(text)
        return 0
    present = {path.name: path.read_text() for path in options.folder.glob("*.json")}
    stale = sorted(
        name for name in {*rendered, *present} if rendered.get(name) != present.get(name)
    )
    for name in stale:
        print(f"{options.folder / name} is stale: run `make dashboards`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
