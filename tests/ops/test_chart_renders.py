"""The objects that the chart renders for each value file of its `ci` folder.

`make generate` rewrites `chart_renders`; read the difference before you commit it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import helm_python as helm
import kubernetes_validate.utils
import pytest
import yaml
from cloudcoil.models.prometheus_operator import v1
from pydantic import BaseModel

from celery_vitals._version import __version__
from tools.base import ROOT, Files
from tools.chart import values as chart_values
from tools.chart.files import PLAIN, plain_manifests, render
from tools.chart.helm import CASES, CHART, NAMESPACE, RELEASE, objects, of_kind, values_of

RULES = ROOT / "alerts" / "celery-vitals.rules.yml"
DASHBOARDS = ROOT / "grafana" / "dashboards"
OPERATOR: dict[str, type[BaseModel]] = {
    "ServiceMonitor": v1.ServiceMonitor,
    "PodMonitor": v1.PodMonitor,
    "PrometheusRule": v1.PrometheusRule,
}

each_case = pytest.mark.parametrize("case", CASES)


def assert_current(files: Files) -> None:
    for path, text in files.items():
        assert path.read_text() == text, f"{path} is stale: run `make generate`"


@each_case
def test_render_equals_committed_file(case: str) -> None:
    assert_current(render(case))


def test_schema_and_readme_follow_from_the_values() -> None:
    assert_current(
        {
            CHART / "values.schema.json": chart_values.schema(),
            CHART / "README.md": chart_values.readme(),
        }
    )


def test_plain_manifests_follow_from_the_chart() -> None:
    assert_current({PLAIN: plain_manifests()})


def test_every_value_is_described() -> None:
    documented = {path.partition(".")[0] for path, _ in chart_values.entries()}
    assert documented == set(chart_values.defaults())


@each_case
def test_linter_finds_nothing(case: str) -> None:
    report = helm.lint(CHART, values_of(case), strict=True)
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []


@cache
def contents(filename: str, version: str) -> object:
    """The schemas of Kubernetes, each read once."""
    return READ(filename, version)


READ = kubernetes_validate.utils.schema_contents


@each_case
def test_every_version_of_kubernetes_takes_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", contents)
    versions = [
        one
        for one in kubernetes_validate.utils.all_versions()
        if tuple(map(int, one.split("."))) >= (1, 25)
    ]
    assert len(versions) >= 13
    for one in objects(values_of(case)):
        if one["kind"] not in OPERATOR:
            for version in versions:
                kubernetes_validate.utils.validate(one, version, strict=True)


@each_case
def test_the_prometheus_operator_takes_it(case: str) -> None:
    for one in objects(values_of(case)):
        if one["kind"] in OPERATOR:
            read = OPERATOR[one["kind"]].model_validate(one)
            # What its definition does not know is dropped without a word.
            assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)) == one


@each_case
def test_everything_has_a_name_of_its_own_and_the_namespace(case: str) -> None:
    found = objects(values_of(case))
    names = [(one["kind"], one["metadata"]["name"], one["metadata"]["namespace"]) for one in found]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name, _ in names)
    assert {namespace for _, _, namespace in names} <= {NAMESPACE, "monitoring"}


@each_case
def test_services_monitors_and_budgets_select_their_pods_only(case: str) -> None:
    values = values_of(case)
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind("Deployment", values)]
    services = [one["metadata"]["labels"] for one in of_kind("Service", values)]
    chosen = {
        "Service": pods,
        "ServiceMonitor": services,
        "PodMonitor": pods,
        "PodDisruptionBudget": pods,
    }
    for kind, among in chosen.items():
        for one in of_kind(kind, values):
            selector = one["spec"]["selector"].get("matchLabels", one["spec"]["selector"])
            assert sum(selector.items() <= labels.items() for labels in among) == 1, one[
                "metadata"
            ]["name"]
    for one in of_kind("Pod", values):
        labels = one["metadata"]["labels"]
        assert not any(
            svc["spec"]["selector"].items() <= labels.items() for svc in of_kind("Service", values)
        )


@each_case
def test_a_secret_is_in_a_secret_only(case: str) -> None:
    for one in objects(values_of(case)):
        if one["kind"] != "Secret":
            assert "s3cret" not in json.dumps(one), one["kind"]


def test_the_rules_are_those_of_the_project() -> None:
    [rule] = of_kind("PrometheusRule", values_of("minimal") | {"prometheusRule": {"enabled": True}})
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


def test_rules_can_be_changed_by_name() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    first, second = [rule for group in groups for rule in group["rules"] if "alert" in rule][:2]
    changed = {
        "enabled": True,
        "alertLabels": {"team": "jobs"},
        "disabled": [second["alert"]],
        "overrides": {first["alert"]: {"for": "42m", "labels": {"severity": "info"}}},
        "runbookUrl": "https://runbooks/{alert}",
    }
    [rule] = of_kind("PrometheusRule", values_of("minimal") | {"prometheusRule": changed})
    alerts = {
        one["alert"]: one
        for group in rule["spec"]["groups"]
        for one in group["rules"]
        if "alert" in one
    }
    assert second["alert"] not in alerts
    assert alerts[first["alert"]] == {
        **first,
        "for": "42m",
        "labels": {**first["labels"], "severity": "info", "team": "jobs"},
        "annotations": {
            **first["annotations"],
            "runbook_url": f"https://runbooks/{first['alert']}",
        },
    }


def test_a_threshold_becomes_the_series_that_overrides_it() -> None:
    thresholds = {"task_failure_ratio": 0.1, "queue_oldest_seconds": 7200000}
    given = {"enabled": True, "thresholds": thresholds}
    [rule] = of_kind("PrometheusRule", values_of("minimal") | {"prometheusRule": given})
    own = [
        one
        for group in rule["spec"]["groups"]
        for one in group["rules"]
        if "override" in one.get("record", "")
    ]
    assert {one["record"]: one["expr"] for one in own} == {
        "celery_vitals:override:task_failure_ratio": "vector(0.1)",
        "celery_vitals:override:queue_oldest_seconds": "vector(7200000)",
    }


def test_the_dashboards_are_those_of_the_project() -> None:
    found = of_kind("ConfigMap", values_of("minimal") | {"dashboards": {"enabled": True}})
    maps = [one for one in found if one["metadata"]["labels"].get("grafana_dashboard") == "1"]
    texts = {name: text for one in maps for name, text in one["data"].items()}
    files = {path.name: path for path in DASHBOARDS.glob("*.json")}
    missing = sorted(set(files) - set(texts))
    assert not missing, (
        "ln -s ../../../../grafana/dashboards/NAME helm/celery-vitals/files/dashboards/"
        f" for {missing}"
    )
    for name, path in files.items():
        assert len(json.dumps(texts)) < 1_000_000  # a ConfigMap holds no more
        assert json.loads(texts[name]) == json.loads(path.read_text())


def test_a_package_holds_the_files_behind_the_links(tmp_path: Path) -> None:
    archive = helm.package(CHART, destination=tmp_path)
    values = values_of("everything")
    with helm.Chart.load(archive) as packed:
        files = {one["name"]: one["data"] for one in packed.files}
        rendered = packed.render(values, name=RELEASE, namespace=NAMESPACE)
    assert files["files/celery-vitals.rules.yml"] == RULES.read_text()
    assert not [name for name in files if name.startswith("ci/")]
    kinds = [
        one["kind"]
        for text in rendered.values()
        if "kind:" in text
        for one in yaml.safe_load_all(text)
        if one
    ]
    assert sorted(kinds) == sorted(one["kind"] for one in objects(values))


def test_chart_and_program_have_the_same_version() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["appVersion"] == __version__
