"""Every query of the dashboards, against a real Prometheus that scrapes a busy cluster."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from tests.support.ops.dashboard_files import (
    DASHBOARDS,
    Query,
    annotation_queries,
    interpolate,
    queries,
)
from tests.support.ops.example_cluster import JOB, Shop, shop
from tests.support.servers import Broker, wait_for

QUERIES = list(queries())
MISSING = "No data:"
"""Prefix of the text of a panel that has data in every healthy cluster."""
TOLERANCE = 1.5
"""Replicas are scraped at different times, so their rates differ a little, but not by 2."""


@pytest.fixture(scope="module")
def busy(module_broker: Broker) -> Iterator[Shop]:
    """Run a cluster with traffic; its exporter is scraped as two replicas."""
    with shop(module_broker, replicas=("127.0.0.1", "localhost")) as cluster:
        prometheus = cluster.prometheus
        wait_for(
            lambda: prometheus.query("sum (celery_task_succeeded_total) > 150"), 90, interval=0.5
        )
        wait_for(
            lambda: prometheus.query("count_over_time(celery_broker_up[1h]) > 25"), 90, interval=0.5
        )
        yield cluster


@pytest.fixture(scope="module")
def idle(busy: Shop) -> Shop:
    """Wait until no task runs, so that the values of two replicas can be compared."""
    busy.traffic.pause()
    query = busy.prometheus.query
    wait_for(lambda: query("sum (changes(celery_task_succeeded_total[5s])) == 0"), 60, interval=0.5)
    wait_for(lambda: query("sum (celery_task_running) == 0"), 60, interval=0.5)
    return busy


def answer(cluster: Shop, expr: str, **values: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return the values of a query by labels, without NaN."""
    rows = cluster.prometheus.query(interpolate(expr, **values))
    return {tuple(sorted(labels.items())): value for labels, value in rows if not math.isnan(value)}


def test_every_panel_has_data(busy: Shop) -> None:
    empty = []
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            may_be_empty = (
                not panel.get("fieldConfig", {})
                .get("defaults", {})
                .get("noValue", "")
                .startswith(MISSING)
            )
            if not may_be_empty and not any(answer(busy, one["expr"]) for one in panel["targets"]):
                empty.append(f"{name}: {panel['title']}")
    assert empty == []


def test_every_query_and_annotation_evaluates(busy: Shop) -> None:
    for expr in [*(query.expr for query in QUERIES), *annotation_queries()]:
        busy.prometheus.query(interpolate(expr))


def test_healthy_cluster_has_no_active_problem(busy: Shop) -> None:
    [health] = [one for one in QUERIES if one.panel["title"] == "Health"]
    [problems] = [one for one in QUERIES if one.panel["title"] == "Active problems"]
    assert answer(busy, problems.expr) == {}
    assert answer(busy, health.expr) == {(): 0}


def test_queries_ignore_other_jobs(busy: Shop) -> None:
    for query in QUERIES:
        if "ALERTS" not in query.expr:
            assert answer(busy, query.expr, job="another-job") == {}, str(query)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_has_values(busy: Shop, name: str) -> None:
    for variable in DASHBOARDS[name]["templating"]["list"]:
        if variable["type"] != "query":
            continue
        inner = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
        selector, _, label = inner.rpartition(", ")
        found = busy.prometheus.api(f"label/{label}/values", **{"match[]": interpolate(selector)})
        assert found, variable["name"]
        if label == "job":
            assert found == [JOB]


@pytest.mark.parametrize(
    "query", [one for one in QUERIES if one.dashboard != "celery-vitals-exporter"], ids=str
)
def test_two_replicas_do_not_double_a_value(idle: Shop, query: Query) -> None:
    both = answer(idle, query.expr, rate_interval="60s")
    one = answer(idle, query.expr, rate_interval="60s", instance="127.*")
    doubled = {
        labels: (one[labels], both[labels])
        for labels in one.keys() & both.keys()
        if both[labels] > 1 and one[labels] > 0 and both[labels] > TOLERANCE * one[labels]
    }
    assert not doubled
