"""The table in docs/compatibility.md, written from what the rows have reported."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from .folder import FOLDER, ROOT
from .known import why
from .rows import ROWS

PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- written by make test-matrix -->\n", "<!-- end -->\n"
HEAD = (
    "| row | subject | tests | run | passed | failed | failures and reasons |\n"
    "|---|---|---|---|---|---|---|\n"
)
_MAX_NAMES = 4


@dataclass(frozen=True)
class Seen:
    """What has become of the tests of a row."""

    row: str
    title: str
    passed: list[str]
    failed: list[str]
    again: list[str]
    """Failed once and passed then."""

    @classmethod
    def load(cls, row: str) -> Seen:
        """What the row's last run has reported; OSError when there was none."""
        title = (FOLDER / f"{row}.title").read_text()
        first, failed = _report(f"{row}.json")
        second, still = _report(f"{row}.again.json")
        again = second - still
        return cls(row, title, sorted(first - failed | again), sorted(still), sorted(again))

    @property
    def unexplained(self) -> list[str]:
        """Failures without an entry in known.py."""
        return [test for test in self.failed if why(self.row, test) is None]

    def line(self) -> str:
        """Its row of the table."""
        passed, failed = len(self.passed), len(self.failed)
        how = f" ({len(self.again)} in the rerun)" if self.again else ""
        cells = (
            f"`{self.row}`",
            self.title,
            ROWS[self.row].what,
            passed + failed,
            f"{passed}{how}",
            failed,
        )
        return f"| {' | '.join(map(str, cells))} | {self._failures()} |"

    def _failures(self) -> str:
        by_reason: dict[str, list[str]] = {}
        for test in self.failed:
            by_reason.setdefault(why(self.row, test) or "not explained", []).append(test)
        return (
            "<br>".join(f"{_short(tests)}: {reason}" for reason, tests in by_reason.items())
            or "none"
        )


def _report(name: str) -> tuple[set[str], set[str]]:
    """Return passed and failed tests of one run; a failing teardown is in both."""
    report = json.loads((FOLDER / name).read_text())
    return set(report["passed"]), {*report["failed"], *report["error"]}


def _short(tests: list[str]) -> str:
    """The names of tests, as Markdown; of many, how many there are in each file."""
    if len(tests) > _MAX_NAMES:
        files = Counter(test.partition("::")[0].rpartition("/")[2] for test in tests)
        return ", ".join(f"{count} in `{file}`" for file, count in files.items())
    return ", ".join(f"`{test.rpartition('/')[2]}`" for test in tests)


def update(rows: Iterable[str]) -> None:
    """Replace the lines of these rows; other lines stay."""
    before, rest = PAGE.read_text().split(BEGIN)
    table, after = rest.split(END)
    lines = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    lines |= {row: Seen.load(row).line() for row in rows}
    body = chain.from_iterable((lines[name], "\n") for name in ROWS if name in lines)
    PAGE.write_text(before + BEGIN + HEAD + "".join(body) + END + after)
