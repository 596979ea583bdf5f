"""What the example for Alertmanager makes of alerts, by a real one: what is silenced by what, and what a title says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.artefacts.quick import quick_alertmanager
from tests.artefacts.rules import ALERTS
from tests.servers import HOST, AlertmanagerServer, wait_for
from tests.servers.finding import find_program
from tests.servers.http import request

TEMPLATE = "celery-vitals.tmpl"
SHOP = {"job": "vitals", "namespace": "jobs", "celery_cluster": "shop"}
OTHERS: dict[str, dict[str, str]] = {
    "of another cluster of the release": {**SHOP, "celery_cluster": "mail"},
    "of another namespace": {**SHOP, "namespace": "staging"},
    "of another release": {**SHOP, "job": "other"},
}


@pytest.fixture(scope="module")
def alertmanager() -> Iterator[AlertmanagerServer]:
    """One with the example's inhibitions, which tells nobody."""
    config = quick_alertmanager(f"http://{HOST}:1")
    files = {TEMPLATE: (ALERTS / TEMPLATE).read_text()}
    quiet = {**config, "route": {"receiver": "nobody"}}
    with AlertmanagerServer({**quiet, "receivers": [{"name": "nobody"}]}, files) as server:
        yield server


def silenced(server: AlertmanagerServer, source: Mapping[str, str], target: Mapping[str, str], case: str) -> bool:
    """Whether one alert that fires keeps another one silent; `case` keeps these apart from those of other tests."""
    alerts = [{**labels, "cluster": case} for labels in (source, target)]
    body = json.dumps([{"labels": labels} for labels in alerts]).encode()
    request(f"{server.url}/api/v2/alerts", method="POST", data=body)

    def state() -> str:
        for one in json.loads(request(f"{server.url}/api/v2/alerts?filter=cluster%3D%22{case}%22")):
            if one["labels"] == alerts[1]:
                return str(one["status"]["state"])
        return "unprocessed"

    return wait_for(lambda: (now := state()) != "unprocessed" and now) == "suppressed"


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
    source = {**SHOP, "alertname": alert}
    assert silenced(alertmanager, source, {**SHOP, "alertname": follows}, f"{alert}-same")
    for where, labels in OTHERS.items():
        target = {**labels, "alertname": follows}
        assert not silenced(alertmanager, source, target, f"{alert} {where}".replace(" ", "-")), where


def test_a_task_that_cannot_run_without_workers_is_no_second_message(alertmanager: AlertmanagerServer) -> None:
    source = {**SHOP, "alertname": "CeleryNoWorkers"}
    assert silenced(alertmanager, source, {"alertname": "CeleryTaskOverdue", "task": "shop.nightly"}, "overdue")


def test_a_title_says_which_cluster_it_is_about(tmp_path: Path) -> None:
    firing = [{"status": "firing"}]
    message = {"status": "firing", "groupLabels": {"alertname": "CeleryBrokerDown", **SHOP}, "alerts": firing}
    data = tmp_path / "message.json"
    data.write_text(json.dumps(message))
    command = [
        str(find_program("amtool")), "template", "render", f"--template.glob={ALERTS / TEMPLATE}",
        '--template.text={{ template "celery_vitals.title" . }}', f"--template.data={data}",
    ]  # fmt: skip
    title = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert title.startswith("[FIRING:1] CeleryBrokerDown (")
    assert all(value in title for value in SHOP.values())
