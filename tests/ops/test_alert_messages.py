"""What the example for Alertmanager makes of alerts, by a real one: what is silenced by what, and what a title says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ops.quick import quick_alertmanager
from tests.support.ops.rules import ALERTS
from tests.support.servers import HOST, AlertmanagerServer, wait_for
from tests.support.servers.finding import find_program
from tests.support.servers.http import request

TEMPLATE = "celery-vitals.tmpl"
SHOP = {"job": "vitals", "namespace": "jobs", "celery_cluster": "shop"}
OTHERS = (
    {**SHOP, "celery_cluster": "mail"},
    {**SHOP, "namespace": "staging"},
    {**SHOP, "job": "other"},
)
"""Another cluster of the release, another namespace, another release."""


@pytest.fixture(scope="module")
def alertmanager() -> Iterator[AlertmanagerServer]:
    """One with the example's inhibitions, which tells nobody."""
    config = quick_alertmanager(f"http://{HOST}:1")
    files = {TEMPLATE: (ALERTS / TEMPLATE).read_text()}
    quiet = {**config, "route": {"receiver": "nobody"}}
    with AlertmanagerServer({**quiet, "receivers": [{"name": "nobody"}]}, files) as server:
        yield server


def silenced(server: AlertmanagerServer, alerts: list[dict[str, str]]) -> list[dict[str, str]]:
    """Which of the alerts are kept silent, once some are."""
    body = json.dumps([{"labels": labels} for labels in alerts]).encode()
    request(f"{server.url}/api/v2/alerts", method="POST", data=body)

    def found() -> list[dict[str, str]]:
        answer = json.loads(request(f"{server.url}/api/v2/alerts?active=false"))
        return [labels for labels in alerts if labels in [one["labels"] for one in answer]]

    return wait_for(found)


@pytest.mark.parametrize(
    ("alert", "follows"),
    [
        ("CeleryExporterDown", "CeleryWorkerDown"),
        ("CeleryBrokerDown", "CeleryResultBackendDown"),
        ("CeleryResultBackendDown", "CeleryTaskFailureRatio"),
        ("CeleryNoWorkers", "CeleryQueueOldestMessage"),
        ("CeleryWorkerNotConsuming", "CeleryQueueUnserved"),
    ],
)
def test_what_follows_is_silent_where_it_follows_and_nowhere_else(
    alertmanager: AlertmanagerServer, alert: str, follows: str
) -> None:
    here, *elsewhere = (
        {**where, "alertname": follows, "cluster": alert} for where in (SHOP, *OTHERS)
    )
    source = {**SHOP, "alertname": alert, "cluster": alert}
    assert silenced(alertmanager, [source, *elsewhere, here]) == [here]


def test_a_task_that_cannot_run_without_workers_is_no_second_message(
    alertmanager: AlertmanagerServer,
) -> None:
    late = {"alertname": "CeleryTaskOverdue", "task": "shop.nightly"}
    assert silenced(alertmanager, [{**SHOP, "alertname": "CeleryNoWorkers"}, late]) == [late]


def test_a_queue_that_nobody_serves_is_told_though_results_are_lost(
    alertmanager: AlertmanagerServer,
) -> None:
    lost, slow, unserved = (
        {**SHOP, "alertname": alert, "cluster": "results", "queue": "mail"}
        for alert in ("CeleryResultBackendDown", "CeleryQueueWaitHigh", "CeleryQueueUnserved")
    )
    assert silenced(alertmanager, [lost, unserved, slow]) == [slow]


def test_a_title_says_which_cluster_it_is_about(tmp_path: Path) -> None:
    firing = [{"status": "firing"}]
    message = {
        "status": "firing",
        "groupLabels": {"alertname": "CeleryBrokerDown", **SHOP},
        "alerts": firing,
    }
    data = tmp_path / "message.json"
    data.write_text(json.dumps(message))
    command = [
        str(find_program("amtool")), "template", "render", f"--template.glob={ALERTS / TEMPLATE}",
        '--template.text={{ template "celery_vitals.title" . }}', f"--template.data={data}",
    ]  # fmt: skip
    title = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert title.startswith("[FIRING:1] CeleryBrokerDown (")
    assert all(value in title for value in SHOP.values())
