"""Write the dashboards to grafana/dashboards, or check that they are what the source makes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.source import exporter, overview, queues, tasks, workers

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"
BOARDS = tuple(module.BOARD for module in (overview, tasks, queues, workers, exporter))


def files() -> dict[str, str]:
    """The text of each file by its name."""
    return {
        f"celery-vitals-{board.name}.json": json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for board in BOARDS
    }


def main(arguments: list[str] | None = None) -> int:
    """0 when all is written, or current; 1 when a file is stale."""
    parser = argparse.ArgumentParser(prog="python -m grafana.source", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a file is stale")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    given = parser.parse_args(arguments)
    made = files()
    if not given.check:
        for name, text in made.items():
            (given.folder / name).write_text(text)
        return 0
    present = {path.name: path.read_text() for path in given.folder.glob("*.json")}
    stale = sorted(name for name in {*made, *present} if made.get(name) != present.get(name))
    for name in stale:
        print(f"{given.folder / name} is stale: run `make dashboards`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
