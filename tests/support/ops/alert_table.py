"""The table of alerts in docs/alerts.md, made from the rules and from their tests.

    python -m tests.support.ops.alert_table [--check]

Exit code 0: the table is written, or with --check: it is what it would be.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.support.ops.rules import ROOT, THRESHOLD, Alert, alerts, rules
from tests.support.ops.scenarios import all_scenarios

PAGE = ROOT / "docs" / "alerts.md"
LIVE = Path(__file__).resolve().parents[2] / "ops" / "test_alerts_live.py"
BEGIN, END = "<!-- made by python -m tests.support.ops.alert_table -->\n", "<!-- end -->\n"
HEAD = (
    "| Alert | Severity | `for` | Thresholds | Tested to fire | Tested to clear | Seen end to end, when |\n"
    "|---|---|---|---|---|---|---|\n"
)


def thresholds() -> dict[str, str]:
    """The default of each threshold, by its short name."""
    return {
        rule["record"].removeprefix(THRESHOLD): re.findall(r"vector\((.*)\)", rule["expr"])[0]
        for rule in rules()
        if str(rule.get("record")).startswith(THRESHOLD)
    }


def proven() -> tuple[set[str], set[str]]:
    """The alerts that some scenario expects to fire, and those that it expects to be silent again later."""
    fires: set[str] = set()
    clears: set[str] = set()
    for scenario in all_scenarios():
        firing: set[str] = set()
        for _, names in scenario.expect:
            clears |= firing - set(names)
            firing |= set(names)
        fires |= firing
    return fires, clears


def seen() -> dict[str, list[str]]:
    """The tests that wait for the message of an alert, in words."""
    found: dict[str, list[str]] = {}
    test = ""
    for line in LIVE.read_text().splitlines():
        if match := re.match(r"def test_(\w+)", line):
            test = match[1].replace("_", " ")
        elif match := re.search(r'scene\.one_message\("(\w+)"', line):
            found.setdefault(match[1], []).append(test)
    return found


def table() -> str:
    """The rows."""
    defaults, (fires, clears), live = thresholds(), proven(), seen()

    def row(alert: Alert) -> str:
        names = dict.fromkeys(re.findall(rf"{THRESHOLD}(\w+)", alert.expr))
        cells = (
            f"[{alert.name}](runbooks/{alert.name}.md)",
            alert.severity,
            alert.hold,
            ", ".join(f"`{name}` {defaults[name]}" for name in names),
            "yes" if alert.name in fires else "no",
            "yes" if alert.name in clears else "no",
            "; ".join(live.get(alert.name, ())),
        )
        return f"| {' | '.join(cells)} |\n"

    return HEAD + "".join(map(row, alerts()))


def page() -> str:
    """The whole page as it should be."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def main(check: bool) -> int:
    """Write the page, or compare it; the exit code."""
    new = page()
    if check and new != PAGE.read_text():
        print(f"{PAGE.name} is stale: python -m tests.support.ops.alert_table", file=sys.stderr)
        return 1
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
