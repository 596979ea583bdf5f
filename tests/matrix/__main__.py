"""Run rows of the matrix and write their lines of the table in docs/compatibility.md.

    python -m tests.matrix [ROW ...]        all rows, or these
    python -m tests.matrix --table          only write the table anew, from the last runs

Exit code 0: tests/matrix/known.py explains every failure; 1: it does not, or a row did not run.
"""

from __future__ import annotations

import argparse
import sys

from .folder import FOLDER, NotHereError, run
from .rows import ROWS, Row
from .table import Seen, update

CACHE = FOLDER / "cache"
FIRST = (
    "--cache-clear",
    "-n",
    "2",
    "--dist",
    "loadfile",
)  # of failures in other rows pytest would make a whole run
ONCE_MORE = (
    "--last-failed",
    "--last-failed-no-failures",
    "none",
)  # as in `make test`: what failed, alone


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.matrix", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all when none is given"
    )
    parser.add_argument(
        "--table", action="store_true", help="run nothing, write the table from the last runs"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    FOLDER.mkdir(exist_ok=True)
    chosen = [ROWS[name] for name in arguments.rows or ROWS]
    if arguments.table:
        update(row.name for row in chosen if (FOLDER / f"{row.name}.json").exists())
        return 0
    results = [run_row(row) for row in chosen]
    return 0 if all(results) else 1


def run_row(row: Row) -> bool:
    """Run a row and write its line; return whether every failure is explained."""
    print(f"== {row.name}", flush=True)
    try:
        setup = row.set_up()
    except NotHereError as exc:
        print(f"{row.name} was not run: {exc}", file=sys.stderr)
        return False
    (FOLDER / f"{row.name}.title").write_text(setup.title)
    for name, how in ((row.name, FIRST), (f"{row.name}.again", ONCE_MORE)):
        report = FOLDER / f"{name}.json"
        report.unlink(missing_ok=True)
        options = [
            "-q",
            "-p",
            "tests.matrix.plugin",
            "--matrix-report",
            report,
            "-o",
            f"cache_dir={CACHE}",
            *how,
        ]
        run([setup.python, "-m", "pytest", *options, *row.tests], setup.env)
        if not report.exists():
            print(f"{row.name}: the tests ended without a report", file=sys.stderr)
            return False
    update([row.name])
    seen = Seen.load(row.name)
    print(
        seen.line(), *(f"not explained: {test}" for test in seen.unexplained), sep="\n", flush=True
    )
    return not seen.unexplained


if __name__ == "__main__":
    sys.exit(main())
