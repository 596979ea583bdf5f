"""The rules as text: they load, name what exists, and each alert has all that it needs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from celery_vitals.metrics.base import Kind
from celery_vitals.metrics.definitions import DEFINITIONS
from tests.support.ops.queries import grouping, selected
from tests.support.ops.rules import (
    ALERTS,
    COMPAT,
    OVERRIDES,
    ROOT,
    RULES,
    RUNBOOKS,
    THRESHOLD,
    Alert,
    alerts,
    rules,
)
from tests.support.servers import promtool
from tests.support.servers.finding import find_program
from tools.alert_table import PAGE, covered, page

# What Prometheus itself adds to each scrape.
PROMETHEUS: dict[str, set[str]] = {"up": set(), "scrape_duration_seconds": set()}
SCRAPE_LABELS = {"job", "instance", "pod", "container", "endpoint"}
USERS = ("celery_vitals:override:", "celery_vitals:expected_interval_seconds")
SECTIONS = ["## Meaning", "## Impact", "## Diagnosis", "## What to do", "## Over when"]
DOCUMENTS = [
    *sorted(RUNBOOKS.glob("*.md")),
    ROOT / "docs" / "alerts.md",
    ROOT / "docs" / "migration.md",
]
ALL = [RULES, COMPAT, OVERRIDES]


def known() -> dict[str, set[str]]:
    """Every series that a rule may read, and its labels."""
    found = dict(PROMETHEUS)
    for metric in DEFINITIONS:
        labels = set(metric.labels)
        if metric.kind is Kind.HISTOGRAM:
            # By its own name where Prometheus makes a native one of it.
            found |= {f"{metric.name}{part}": labels for part in ("", "_sum", "_count")}
            found[f"{metric.name}_bucket"] = labels | {"le"}
        else:
            found[metric.name] = labels | (
                {"worker"} if metric.name.startswith("celery_task_") else set()
            )
    return found


def recorded() -> set[str]:
    """What the rules record themselves."""
    return {rule["record"] for rule in rules() if "record" in rule}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_promtool_accepts_the_rules(path: Path) -> None:
    command = [str(promtool()), "check", "rules", "--lint=all", "--lint-fatal", str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_every_metric_and_label_exists(path: Path) -> None:
    series = known()
    labels = SCRAPE_LABELS | {"le"} | {label for one in series.values() for label in one}
    unknown = []
    for rule in rules(path):
        for one in selected(str(rule["expr"])):
            if one.metric in series:
                unknown += [(one.metric, label) for label in one.labels - series[one.metric]]
            elif one.metric not in recorded() and not one.metric.startswith(USERS):
                unknown.append((one.metric, ""))
        unknown += [(str(rule["expr"]), label) for label in grouping(str(rule["expr"])) - labels]
    assert unknown == []


def test_every_threshold_is_used_and_can_be_overridden() -> None:
    used = {
        one.metric
        for alert in alerts()
        for one in selected(alert.expr)
        if one.metric.startswith(THRESHOLD)
    }
    declared = {
        rule["record"]: rule["expr"]
        for rule in rules()
        if str(rule.get("record")).startswith(THRESHOLD)
    }
    assert used == set(declared)
    for name, expr in declared.items():
        override = name.replace(":threshold:", ":override:")
        assert re.fullmatch(rf"max\({override}\) or vector\([0-9.]+\)", expr), name


def test_the_example_overrides_what_exists() -> None:
    names = {rule["record"] for rule in rules(OVERRIDES)} - {
        "celery_vitals:expected_interval_seconds"
    }
    assert {name.replace(":override:", ":threshold:") for name in names} <= recorded()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_alert_has_severity_summary_description_and_runbook_url(alert: Alert) -> None:
    assert re.fullmatch(r"Celery[A-Z][A-Za-z]+", alert.name)
    assert alert.severity in ("critical", "warning", "info")
    assert re.fullmatch(r"[0-9]+m", alert.hold)
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert "{{" not in alert.annotations["summary"]
    assert alert.annotations["runbook_url"] == f"docs/runbooks/{alert.name}.md"
    used = set(re.findall(r"\$labels\.(\w+)", alert.annotations["description"]))
    assert used <= SCRAPE_LABELS | {label for one in known().values() for label in one}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_has_a_runbook_that_ends_the_incident(alert: Alert) -> None:
    text = (RUNBOOKS / f"{alert.name}.md").read_text()
    assert text.startswith(f"# {alert.name}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS


def test_there_is_no_runbook_without_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {alert.name for alert in alerts()}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_the_queries_in_the_documents_can_be_asked(path: Path) -> None:
    """In the blocks marked as promql; each line that begins at the margin begins a query."""
    series = known()
    for block in re.findall(r"```promql\n(.*?)```", path.read_text(), re.DOTALL):
        for query in re.split(r"\n(?=\S)", block.strip()):
            metrics = {one.metric for one in selected(query) if one.metric}
            assert metrics <= {*series, *recorded()}, query


def test_there_is_one_copy_of_the_rules() -> None:
    """The chart and everything else take the files of alerts/; a copy could drift."""
    names = {path.name for path in ALERTS.iterdir() if path.is_file()}
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    copies = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.name in names
        and path.resolve().parent != ALERTS
        and path.name.endswith(".rules.yml")
    ]
    assert copies == []


def test_the_table_of_alerts_is_up_to_date() -> None:
    assert page() == PAGE.read_text()


def test_every_alert_is_tested_to_fire_and_to_clear() -> None:
    names = {alert.name for alert in alerts()}
    assert covered() == (names, names)


def test_alertmanager_takes_the_example() -> None:
    program = find_program("amtool")
    assert program is not None
    command = [str(program), "check-config", str(ALERTS / "alertmanager.example.yml")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_example_for_alertmanager_names_alerts_that_exist() -> None:
    text = (ALERTS / "alertmanager.example.yml").read_text()
    patterns = {
        one for found in re.findall(r'alertname[=!]~?"([^"]+)"', text) for one in found.split("|")
    }
    for pattern in patterns:
        assert any(re.fullmatch(pattern, alert.name) for alert in alerts()), pattern
