"""The committed dashboards: up to date, following the conventions, and using known metrics."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from celery_vitals.metrics.base import Kind
from celery_vitals.metrics.definitions import DEFINITIONS
from tests.support.ops.dashboard_files import (
    DASHBOARDS,
    FOLDER,
    Query,
    annotation_queries,
    interpolate,
    panels,
    queries,
    walk,
)
from tools.base import Generator
from tools.dashboards.query import SHARED_NAMES

NAMES = ("exporter", "overview", "queues", "tasks", "workers")
TARGET_LABELS = {"job", "instance", "pod"}
FOREIGN: Mapping[str, tuple[str, ...]] = {
    "up": (),
    "scrape_duration_seconds": (),
    "scrape_samples_scraped": (),
    "process_cpu_seconds_total": (),
    "process_resident_memory_bytes": (),
    "process_start_time_seconds": (),
    "ALERTS": ("alertname", "alertstate", "severity"),
}
"""Metrics of Prometheus and prometheus_client, and their labels."""
HISTOGRAMS = {metric.name for metric in DEFINITIONS if metric.kind is Kind.HISTOGRAM}
QUERIES = list(queries())

needs_grafana_types = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Grafana's types need Python 3.11"
)


def labels_of(name: str) -> set[str]:
    """Return the labels of a metric; raise KeyError for an unknown metric."""
    known = {metric.name: metric.labels for metric in DEFINITIONS} | dict(FOREIGN)
    known |= {f"{one}_bucket": (*known[one], "le") for one in HISTOGRAMS}
    return {*known[name], *TARGET_LABELS}


def added_labels(node: Any) -> set[str]:
    """Return the labels that label_replace adds anywhere in an expression."""
    calls = [
        one
        for one in walk(node)
        if isinstance(one, promql.Call) and one.func.name == "label_replace"
    ]
    return {call.args[1].val for call in calls}


def query_errors(expr: str) -> list[str]:
    """Return unknown metrics and labels of a query, and counters outside rate() or increase()."""
    tree = promql.parse(interpolate(expr))
    found = []
    rated = {
        id(one.args[0].vector_selector): one.func.name
        for one in walk(tree)
        if isinstance(one, promql.Call)
        and one.args
        and isinstance(one.args[0], promql.MatrixSelector)
    }
    for node in walk(tree):
        if isinstance(node, promql.VectorSelector):
            found += _selector(node, rated.get(id(node), ""))
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            known = set().union(*(labels_of(name) for name in _names(node)))
            found += [
                f"by {label}"
                for label in node.modifier.labels
                if label not in known | added_labels(node)
            ]
    return found


def _names(node: Any) -> list[str]:
    known = (
        {metric.name for metric in DEFINITIONS}
        | set(FOREIGN)
        | {f"{one}_bucket" for one in HISTOGRAMS}
    )
    return [
        one.name
        for one in walk(node)
        if isinstance(one, promql.VectorSelector) and one.name in known
    ]


def _selector(node: Any, function: str) -> list[str]:
    try:
        labels = labels_of(node.name)
    except KeyError:
        return [f"unknown metric {node.name}"]
    found = [
        f"{node.name} has no {one.name}" for one in node.matchers.matchers if one.name not in labels
    ]
    counter = node.name.endswith(("_total", "_bucket")) or node.name in HISTOGRAMS
    if counter != (function in ("rate", "increase")) and function not in (
        "last_over_time",
        "changes",
    ):
        found.append(f"{node.name} inside {function or 'nothing'}")
    return found


def lost_fields(before: Any, after: Any, place: str = "") -> list[str]:
    """Return the paths of values that are missing or changed; added defaults are ignored."""
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(key, value, after.get(key)) for key, value in before.items()]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(str(index), *pair) for index, pair in enumerate(zip(before, after, strict=True))]
    else:
        return [] if before == after else [place]
    return [
        found for key, one, other in pairs for found in lost_fields(one, other, f"{place}/{key}")
    ]


@needs_grafana_types
def test_committed_dashboards_match_their_source() -> None:
    from tools.dashboards.files import GENERATOR

    assert GENERATOR.stale() == {}


@needs_grafana_types
def test_check_reports_stale_dashboards(tmp_path: Path) -> None:
    from tools.dashboards.files import files

    for name, board in DASHBOARDS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(board | {"title": "by hand"}))
    assert len(Generator("dashboards", lambda: files(tmp_path)).stale()) == len(NAMES)


@needs_grafana_types
@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_field_is_known_to_the_grafana_types(name: str) -> None:
    """A field that Grafana's types do not know is lost when they parse and encode a dashboard."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    encoded = json.loads(json.dumps(Dashboard.from_json(DASHBOARDS[name]), cls=JSONEncoder))
    assert lost_fields(DASHBOARDS[name], encoded) == []


def test_there_are_five_dashboards() -> None:
    assert list(DASHBOARDS) == [f"celery-vitals-{name}" for name in NAMES]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_follows_the_conventions(name: str) -> None:
    board = DASHBOARDS[name]
    assert board["uid"] == name
    assert board["tags"] == ["celery-vitals"]
    assert board["editable"] is False
    assert [link["tags"] for link in board["links"]] == [["celery-vitals"]]
    variables = board["templating"]["list"]
    assert [one["name"] for one in variables][:3] == ["datasource", "job", "instance"]
    for one in variables[1:]:
        assert (one["multi"], one["includeAll"], one["allValue"]) == (True, True, ".+")
    assert {one["name"] for one in board["annotations"]["list"]} == {
        "Worker restarts",
        "Exporter restarts",
        "Firing alerts",
    }


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_describes_good_bad_and_action(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        for part in ("**Good:**", "**Bad:**", "**Do:**", f"**When empty:** {defaults['noValue']}"):
            assert part in panel["description"], panel["title"]
        assert panel["type"] in {"stat", "timeseries", "table", "heatmap", "state-timeline"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    board = DASHBOARDS[name]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        x, y = place.get("x", 0), place.get("y", 0)
        cells = set(itertools.product(range(x, x + place["w"]), range(y, y + place["h"])))
        assert not cells & taken, panel["title"]
        assert x + place["w"] <= 24
        taken |= cells


def test_every_link_leads_to_a_celery_vitals_dashboard() -> None:
    links = re.findall(r"/d/(celery-vitals-[a-z]+)\?", json.dumps(DASHBOARDS))
    assert set(links) <= set(DASHBOARDS)
    details = set(re.findall(r'\\"look\\", \\"(\w+)\\"', json.dumps(DASHBOARDS)))
    assert details
    assert details <= set(NAMES)


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query_uses_exported_metrics_and_labels(query: Query) -> None:
    assert query_errors(query.expr) == []


@pytest.mark.parametrize("expr", sorted(set(annotation_queries())))
def test_annotation_uses_exported_metrics_and_labels(expr: str) -> None:
    assert query_errors(expr) == []


@pytest.mark.parametrize(
    "query", [one for one in QUERIES if "{{" in one.target.get("legendFormat", "")], ids=str
)
def test_legend_uses_labels_that_the_query_keeps(query: Query) -> None:
    used = set(re.findall(r"{{(\w+)}}", query.target["legendFormat"]))
    kept = {
        name.strip()
        for group in re.findall(r"by \(([^)]*)\)", query.expr)
        for name in group.split(",")
    }
    assert used <= kept


@pytest.mark.parametrize(
    ("expr", "error"),
    [
        ("celery_queue_size", "unknown metric celery_queue_size"),
        ('celery_queue_length{task="x"}', "celery_queue_length has no task"),
        ("sum by (worker) (celery_queue_length)", "by worker"),
        ("sum (celery_task_sent_total)", "celery_task_sent_total inside nothing"),
        ("rate(celery_queue_length[5m])", "celery_queue_length inside rate"),
    ],
)
def test_query_errors_reports_a_wrong_query(expr: str, error: str) -> None:
    assert query_errors(expr) == [error]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query_excludes_series_of_other_exporters(query: Query) -> None:
    for node in walk(promql.parse(interpolate(query.expr))):
        if isinstance(node, promql.VectorSelector) and node.name in SHARED_NAMES:
            own = SHARED_NAMES[node.name]
            found = [one.value for one in node.matchers.matchers if one.name == own]
            assert found, f"{node.name} without {own}"


def test_provisioning_files_use_the_documented_paths() -> None:
    folder = FOLDER.parent / "provisioning"
    [provider] = yaml.safe_load((folder / "dashboards" / "celery-vitals.yaml").read_text())[
        "providers"
    ]
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards/celery-vitals"
    assert (source["type"], source["url"]) == ("prometheus", "${PROMETHEUS_URL}")
