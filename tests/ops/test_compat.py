"""The scrape job of examples/prometheus/compat.yml, which has the metric names of another exporter.

The other exporter runs beside it, on the same cluster.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial

import pytest
import yaml

from tests.support.ops.dashboard_files import Query, interpolate, queries
from tests.support.ops.other_exporter import (
    ALERT_JOBS,
    ALERTS,
    BACKLOG,
    COMPAT,
    EXAMPLE,
    FIRST,
    NATIVE,
    OTHER,
    PANELS,
    SENT,
    TOTAL,
    WORKERS,
    Both,
    both,
    reached,
)
from tests.support.ops.rules import ROOT
from tests.support.servers import Broker, wait_for

QUERIES = list(queries())
FAILED = FIRST["fail"] + SENT["fail"]
SENT_BY_PANEL = {
    "received": TOTAL,
    "sent": TOTAL,
    "failures by task": FAILED,
    "exceptions": FAILED,
}
"""The greatest true value of the panels that show an increase of tasks."""


@pytest.fixture(scope="module")
def cluster(module_broker: Broker) -> Iterator[Both]:
    with both(module_broker) as found:
        yield found


@pytest.mark.parametrize("panel", PANELS)
def test_panels_show_what_they_show_of_the_other_exporter(cluster: Both, panel: str) -> None:
    expected = cluster.ask(PANELS[panel], OTHER)
    assert expected
    # The jobs are scraped at different times, so that increases differ by up to one interval.
    found = cluster.ask(PANELS[panel], COMPAT)
    if panel not in SENT_BY_PANEL:
        assert found == pytest.approx(expected, rel=0.25)
        return
    # The increase of the other exporter lacks what its series were born with: it may be less.
    assert found.keys() == expected.keys()
    for labels, value in found.items():
        assert 0.75 * expected[labels] <= value <= 1.25 * SENT_BY_PANEL[panel]


def test_panels_show_the_truth(cluster: Both) -> None:
    lengths = {(("queue_name", name),): 0.0 for name in WORKERS.values()}
    lengths[("queue_name", "reports"),] = BACKLOG
    for job in (COMPAT, OTHER):
        assert cluster.ask(PANELS["workers"], job) == {(): len(WORKERS)}
        assert cluster.ask(PANELS["queue lengths"], job) == lengths
        assert cluster.ask("sum(celery_task_received_total{job=~JOB})", job) == {(): TOTAL}
        failed = cluster.ask(PANELS["exceptions"], job)
        assert failed == {(("exception", "ValueError"),): pytest.approx(SENT["fail"], rel=0.25)}


@pytest.mark.parametrize("alert", ["task fails", "queue is long"])
def test_alerts_fire_once(cluster: Both, alert: str) -> None:
    assert len(cluster.ask(ALERTS[alert], COMPAT)) == 1
    rows = cluster.prometheus.query(ALERTS[alert].replace("JOB", ALERT_JOBS))
    assert sorted(labels["job"] for labels, _ in rows) == [COMPAT, OTHER]


def test_compatible_series_have_the_labels_of_the_other_exporter(cluster: Both) -> None:
    found: dict[str, dict[str, set[str]]] = {}
    for job in (COMPAT, OTHER):
        for labels, _ in cluster.prometheus.query(f'{{job="{job}",__name__=~"celery_.+"}}'):
            names = found.setdefault(labels["__name__"], {})
            names.setdefault(job, set()).update(labels)
    allowed = {"celery_task_revoked_total": {"reason"}}
    for name, jobs in found.items():
        if set(jobs) == {COMPAT, OTHER}:
            # Ours have no `hostname` of a task without --task-labels=worker.
            lost = {"hostname"} if "_task_" in name else set()
            assert jobs[OTHER] - jobs[COMPAT] == lost & jobs[OTHER], name
            assert jobs[COMPAT] - jobs[OTHER] <= allowed.get(name, set()), name
    absent = [name for name, jobs in found.items() if COMPAT not in jobs]
    # The other exporter has a 0 for what has never happened.
    counted = [name for name in absent if any(cluster.ask(f"{name}{{job=~JOB}}", OTHER).values())]
    assert [name for name in counted if not name.endswith("_created")] == []


def test_rules_count_neither_of_the_other_jobs(cluster: Both) -> None:
    recorded = cluster.prometheus.query('{__name__=~".+:.+",job!=""}')
    assert {labels["job"] for labels, _ in recorded} == {NATIVE}
    alerts = cluster.prometheus.query(f'ALERTS{{job=~"{COMPAT}|{OTHER}"}}')
    assert alerts == []


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_dashboards_count_neither_of_the_other_jobs(cluster: Both, query: Query) -> None:
    now = str(time.time())
    every, ours = (
        {
            tuple(sorted(labels.items())): value
            for labels, value in cluster.prometheus.query(
                interpolate(query.expr, "60s", job=job), time=now
            )
        }
        for job in (".+", NATIVE)
    )
    assert every == pytest.approx(ours, nan_ok=True)


def test_worker_that_stops_is_down_once(cluster: Both) -> None:
    cluster.workers["b@two"].stop()
    for job in (COMPAT, OTHER):
        wait_for(partial(reached, cluster, PANELS["workers"], job, 2), 30, interval=1.0)
        assert len(cluster.ask(ALERTS["worker is down"], job)) == 1


def test_migration_page_lists_every_name_of_the_job() -> None:
    text = (ROOT / "docs" / "migration.md").read_text()
    _, compat = yaml.safe_load(EXAMPLE.read_text())["scrape_configs"]
    names = [one.get("replacement", "") for one in compat["metric_relabel_configs"]]
    renamed = [re.sub(r"_\$1$", "", name) for name in names if name.startswith("celery_")]
    assert len(renamed) == 6
    assert all(f"`{name}`" in text for name in [*renamed, "hostname", "queue_name", "name"])
