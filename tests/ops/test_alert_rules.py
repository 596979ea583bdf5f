"""The rule files: syntax, metrics, labels, thresholds, annotations, runbooks and documentation."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from celery_vitals.metrics.base import Kind
from celery_vitals.metrics.definitions import DEFINITIONS
from tests.support.ops.queries import added, grouping, selected
from tests.support.ops.rules import (
    ALERTS,
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

# Series that Prometheus adds to each scrape.
PROMETHEUS: dict[str, set[str]] = {"up": set(), "scrape_duration_seconds": set()}
SCRAPE_LABELS = {"job", "instance", "pod", "container", "endpoint"}
USER_RECORDS = ("celery_vitals:override:", "celery_vitals:expected_interval_seconds")
SECTIONS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation", "## Resolution"]
DOCUMENTS = [
    *sorted(RUNBOOKS.glob("*.md")),
    ROOT / "docs" / "alerts.md",
    ROOT / "docs" / "migration.md",
]
ALL = [RULES, OVERRIDES]

SCOPE = (
    r"(?:max by \(queue\) \({0}\{{task=\"\"\}}\)"
    r"|max by \(task\) \({0}\{{queue=\"\"\}}\)"
    r"|max\({0}\{{queue=\"\",task=\"\"\}}\))"
)
"""The overrides that a threshold may have: by queue, by task, or one for all."""

REPOSITORY_RUNBOOKS = "https://github.com/celery-vitals/celery-vitals/blob/main/docs/runbooks/"
RUNBOOK_URL = (
    '{{ with query "celery_vitals:override:runbook_url" }}{{ . | first | label "url" }}{{ else }}'
    f"{REPOSITORY_RUNBOOKS}{{{{ end }}}}NAME.md"
)


def known() -> dict[str, set[str]]:
    """Return every series that a rule may use, with its labels."""
    found = dict(PROMETHEUS)
    for metric in DEFINITIONS:
        labels = set(metric.labels)
        if metric.kind is Kind.HISTOGRAM:
            # Prometheus may convert it to a native histogram, without a suffix.
            found |= {f"{metric.name}{part}": labels for part in ("", "_sum", "_count")}
            found[f"{metric.name}_bucket"] = labels | {"le"}
        else:
            found[metric.name] = labels | (
                {"worker"} if metric.name.startswith("celery_task_") else set()
            )
    return found


@cache
def recorded() -> set[str]:
    """Return the names of the recording rules."""
    return {rule["record"] for rule in rules() if "record" in rule}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_promtool_accepts_the_rules(path: Path) -> None:
    command = [str(promtool()), "check", "rules", "--lint=all", "--lint-fatal", str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_rules_use_known_metrics_and_labels(path: Path) -> None:
    series = known()
    labels = SCRAPE_LABELS | {"le"} | {label for one in series.values() for label in one}
    unknown = []
    for rule in rules(path):
        for one in selected(str(rule["expr"])):
            if one.metric in series:
                unknown += [(one.metric, label) for label in one.labels - series[one.metric]]
            elif one.metric not in recorded() and not one.metric.startswith(USER_RECORDS):
                unknown.append((one.metric, ""))
        expr = str(rule["expr"])
        unknown += [(expr, label) for label in grouping(expr) - labels - added(expr)]
    assert unknown == []


def test_every_threshold_is_used_and_can_be_overridden() -> None:
    used = {
        one.metric
        for rule in rules()
        for one in selected(rule["expr"])
        if one.metric.startswith(THRESHOLD)
    }
    declared = {
        rule["record"]: rule["expr"]
        for rule in rules()
        if str(rule.get("record")).startswith(THRESHOLD)
    }
    assert used == set(declared)
    for name, expr in declared.items():
        override = re.escape(name.replace(":threshold:", ":override:"))
        assert re.fullmatch(rf"{SCOPE.format(override)} or vector\([0-9.]+\)", expr), name


@pytest.mark.parametrize("scope", ["queue", "task"])
def test_thresholds_by_queue_or_task_are_compared_in_the_same_way(scope: str) -> None:
    """An expression prefers the threshold of its queue or task to the general one."""
    texts = [" ".join(str(rule["expr"]).split()) for rule in rules()]
    scoped = [
        str(rule["record"])
        for rule in rules()
        if str(rule.get("record")).startswith(THRESHOLD) and f"max by ({scope})" in rule["expr"]
    ]
    for name in scoped:
        own = sum(
            len(re.findall(rf"on \({scope}\) (?:group_left \(\) )?{name}\b", t)) for t in texts
        )
        general = sum(
            len(re.findall(rf'scalar\({name}{{{scope}=""}}\) unless on \({scope}\) {name}\b', t))
            for t in texts
        )
        assert general > 0, name
        assert own == 2 * general, name


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_values_in_descriptions_are_rounded(alert: Alert) -> None:
    """Extrapolated counts are not whole, and large ones have an exponent."""
    formats = re.findall(r"{{ \$value ?([^}]*?) ?}}", alert.annotations["description"])
    allowed = {"| humanizePercentage", "| humanizeDuration", "| printf `%.0f`"}
    assert set(formats) <= allowed


def test_example_overrides_existing_thresholds() -> None:
    names = {rule["record"] for rule in rules(OVERRIDES)} - {
        "celery_vitals:expected_interval_seconds",
        "celery_vitals:override:runbook_url",
    }
    assert {name.replace(":override:", ":threshold:") for name in names} <= recorded()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_alert_has_severity_for_and_annotations(alert: Alert) -> None:
    assert re.fullmatch(r"Celery[A-Z][A-Za-z]+", alert.name)
    assert alert.severity in ("critical", "warning", "info")
    assert re.fullmatch(r"[0-9]+m", alert.for_)
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert "{{" not in alert.annotations["summary"]
    assert alert.annotations["runbook_url"] == RUNBOOK_URL.replace("NAME", alert.name)
    used = set(re.findall(r"\$labels\.(\w+)", alert.annotations["description"]))
    assert used <= SCRAPE_LABELS | {label for one in known().values() for label in one}


@pytest.mark.parametrize(
    ("files", "address"),
    [([RULES], REPOSITORY_RUNBOOKS), ([RULES, OVERRIDES], "https://wiki.example.org/celery/")],
)
def test_one_setting_changes_the_address_of_the_runbooks(
    files: list[Path], address: str, tmp_path: Path
) -> None:
    alert = next(one for one in alerts() if one.name == "CeleryBrokerDown")
    series = {"series": 'celery_broker_up{job="vitals",instance="a"}', "values": "0x20"}
    annotations = {**alert.annotations, "runbook_url": f"{address}CeleryBrokerDown.md"}
    fired = {"exp_labels": {"severity": alert.severity, "job": "vitals"}}
    expected = {"eval_time": "10m", "alertname": alert.name}
    test = {
        "interval": "1m",
        "input_series": [series],
        "alert_rule_test": [
            {**expected, "exp_alerts": [{**fired, "exp_annotations": annotations}]}
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(json.dumps({"rule_files": [str(one) for one in files], "tests": [test]}))
    command = [str(promtool()), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_alert_has_a_runbook_with_all_sections(alert: Alert) -> None:
    text = (RUNBOOKS / f"{alert.name}.md").read_text()
    assert text.startswith(f"# {alert.name}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS


def test_every_runbook_has_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {alert.name for alert in alerts()}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_queries_in_the_documentation_use_known_metrics(path: Path) -> None:
    """In blocks marked as promql, each line without indentation starts a query."""
    series = known()
    for block in re.findall(r"```promql\n(.*?)```", path.read_text(), re.DOTALL):
        for query in re.split(r"\n(?=\S)", block.strip()):
            metrics = {one.metric for one in selected(query) if one.metric}
            assert metrics <= {*series, *recorded()}, query


def test_rules_are_not_copied() -> None:
    """The chart links to the files of alerts/; a copy could become stale."""
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


def test_table_of_alerts_is_up_to_date() -> None:
    assert page() == PAGE.read_text()


def test_every_alert_is_tested_to_fire_and_to_resolve() -> None:
    names = {alert.name for alert in alerts()}
    assert covered() == (names, names)


def test_amtool_accepts_the_example() -> None:
    program = find_program("amtool")
    assert program is not None
    command = [str(program), "check-config", str(ALERTS / "alertmanager.example.yml")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_alertmanager_example_uses_existing_alerts() -> None:
    text = (ALERTS / "alertmanager.example.yml").read_text()
    patterns = {
        one for found in re.findall(r'alertname[=!]~?"([^"]+)"', text) for one in found.split("|")
    }
    for pattern in patterns:
        assert any(re.fullmatch(pattern, alert.name) for alert in alerts()), pattern
