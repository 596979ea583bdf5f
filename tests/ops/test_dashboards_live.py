"""Every query of the dashboards against a real Prometheus that has scraped a busy cluster, through two replicas."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from tests.support.ops.dashboards_read import DASHBOARDS, Query, annotation_queries, filled, queries
from tests.support.ops.dashboards_shop import JOB, Shop, shop
from tests.support.servers import Broker, wait_for

QUERIES = list(queries())
NEEDED = "Not seen"
"""How a panel's text for no data begins when something is missing and not just calm."""
MORE = 1.5
"""Two replicas are scraped at different moments, so their rates differ a little; twice as much is too much."""


@pytest.fixture(scope="module")
def busy(module_broker: Broker) -> Iterator[Shop]:
    """A shop that has been open for a while; its exporter is scraped as two replicas."""
    with shop(module_broker, replicas=("127.0.0.1", "localhost")) as scene:
        prometheus = scene.prometheus
        wait_for(
            lambda: prometheus.query("sum (celery_task_succeeded_total) > 150"), 90, interval=0.5
        )
        wait_for(
            lambda: prometheus.query("count_over_time(celery_broker_up[1h]) > 25"), 90, interval=0.5
        )
        yield scene


@pytest.fixture(scope="module")
def still(busy: Shop) -> Shop:
    """The same when its last task has ended and every replica knows it: what stands still can be compared."""
    busy.traffic.pause()
    query = busy.prometheus.query
    wait_for(lambda: query("sum (changes(celery_task_succeeded_total[5s])) == 0"), 60, interval=0.5)
    wait_for(lambda: query("sum (celery_task_running) == 0"), 60, interval=0.5)
    return busy


def answer(scene: Shop, expr: str, **chosen: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The values of a query by their labels, without those that are not numbers."""
    rows = scene.prometheus.query(filled(expr, **chosen))
    return {tuple(sorted(labels.items())): value for labels, value in rows if not math.isnan(value)}


def test_every_panel_has_data(busy: Shop) -> None:
    empty = []
    for name, board in DASHBOARDS.items():
        for panel in board["panels"]:
            calm = (
                not panel.get("fieldConfig", {})
                .get("defaults", {})
                .get("noValue", "")
                .startswith(NEEDED)
            )
            if not calm and not any(answer(busy, one["expr"]) for one in panel["targets"]):
                empty.append(f"{name}: {panel['title']}")
    assert empty == []


def test_calm_panels_and_annotations_can_be_asked(busy: Shop) -> None:
    for expr in [*(query.expr for query in QUERIES), *annotation_queries()]:
        busy.prometheus.query(filled(expr))


def test_a_healthy_shop_has_no_problem(busy: Shop) -> None:
    [verdict] = [one for one in QUERIES if one.panel["title"] == "Is it all right?"]
    [problems] = [one for one in QUERIES if one.panel["title"] == "What is wrong now"]
    assert answer(busy, problems.expr) == {}
    assert answer(busy, verdict.expr) == {(): 0}


def test_any_other_job_is_left_out(busy: Shop) -> None:
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
        found = busy.prometheus.api(f"label/{label}/values", **{"match[]": filled(selector)})
        assert found, variable["name"]
        if label == "job":
            assert found == [JOB]


@pytest.mark.parametrize(
    "query", [one for one in QUERIES if one.board != "celery-vitals-exporter"], ids=str
)
def test_two_replicas_never_double_a_number(still: Shop, query: Query) -> None:
    both = answer(still, query.expr, rate_interval="60s")
    one = answer(still, query.expr, rate_interval="60s", instance="127.*")
    doubled = {
        labels: (one[labels], both[labels])
        for labels in one.keys() & both.keys()
        if both[labels] > 1 and one[labels] > 0 and both[labels] > MORE * one[labels]
    }
    assert not doubled
