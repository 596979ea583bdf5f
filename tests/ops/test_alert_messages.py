"""Inhibitions and title of the Alertmanager example, in a real Alertmanager."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ops.rules import ALERTS
from tests.support.ops.short_rules import quick_alertmanager
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
    """Run Alertmanager with the example's inhibitions and without receivers."""
    config = quick_alertmanager(f"http://{HOST}:1")
    files = {TEMPLATE: (ALERTS / TEMPLATE).read_text()}
    config |= {"route": {"receiver": "null"}, "receivers": [{"name": "null"}]}
    with AlertmanagerServer(config, files) as server:
        yield server


def inhibited(server: AlertmanagerServer, alerts: list[dict[str, str]]) -> list[dict[str, str]]:
    """Post the alerts; return those that are inhibited, as soon as there are any."""
    body = json.dumps([{"labels": labels} for labels in alerts]).encode()
    request(f"{server.url}/api/v2/alerts", method="POST", data=body)

    def found() -> list[dict[str, str]]:
        answer = json.loads(request(f"{server.url}/api/v2/alerts?active=false"))
        return [labels for labels in alerts if labels in [one["labels"] for one in answer]]

    return wait_for(found)


@pytest.mark.parametrize(
    ("alert", "consequence"),
    [
        ("CeleryExporterDown", "CeleryWorkerDown"),
        ("CeleryBrokerDown", "CeleryResultBackendDown"),
        ("CeleryResultBackendDown", "CeleryTaskFailureRatio"),
        ("CeleryNoWorkers", "CeleryQueueOldestMessage"),
        ("CeleryTasksFailing", "CeleryTaskAlwaysFails"),
        ("CeleryBrokerDown", "CeleryTasksLost"),
        ("CeleryNoWorkers", "CeleryTaskOrphaned"),
    ],
)
def test_alert_inhibits_its_consequence_in_the_same_cluster_only(
    alertmanager: AlertmanagerServer, alert: str, consequence: str
) -> None:
    here, *elsewhere = (
        {**where, "alertname": consequence, "cluster": alert} for where in (SHOP, *OTHERS)
    )
    source = {**SHOP, "alertname": alert, "cluster": alert}
    assert inhibited(alertmanager, [source, *elsewhere, here]) == [here]


def test_worker_that_consumes_nothing_inhibits_the_alerts_of_its_queues_only(
    alertmanager: AlertmanagerServer,
) -> None:
    here = {**SHOP, "cluster": "queues"}
    idle = {**here, "alertname": "CeleryWorkerNotConsuming", "worker": "a@shop", "queue": "mail"}
    own, other = (
        {**here, "alertname": "CeleryQueueUnserved", "severity": "critical", "queue": queue}
        for queue in ("mail", "payments")
    )
    frozen, other_frozen = (
        {**here, "alertname": "CeleryWorkerFrozen", "severity": "warning", "worker": worker}
        for worker in ("a@shop", "b@shop")
    )
    page, warning = {**idle, "severity": "critical"}, {**idle, "severity": "warning"}
    del warning["queue"]
    alerts = [page, warning, own, other, frozen, other_frozen]
    assert inhibited(alertmanager, alerts) == [warning, own, frozen]


def test_alerts_that_do_not_page_inhibit_no_page(alertmanager: AlertmanagerServer) -> None:
    here = {**SHOP, "cluster": "unpaged", "queue": "mail"}
    sources = [
        {**here, "alertname": "CeleryWorkerStalled", "severity": "warning", "worker": "a@shop"},
        {**here, "alertname": "CeleryQueueUnserved", "severity": "info"},
    ]
    late = {**here, "alertname": "CeleryQueueOldestMessage", "severity": "critical"}
    long = {**here, "alertname": "CeleryQueueGrowing", "severity": "warning"}
    assert inhibited(alertmanager, [*sources, late, long]) == [long]


def test_no_workers_inhibits_overdue_tasks(alertmanager: AlertmanagerServer) -> None:
    late = {"alertname": "CeleryTaskOverdue", "task": "shop.nightly"}
    assert inhibited(alertmanager, [{**SHOP, "alertname": "CeleryNoWorkers"}, late]) == [late]


def test_backend_down_does_not_inhibit_a_queue_without_consumers(
    alertmanager: AlertmanagerServer,
) -> None:
    lost, slow, unserved = (
        {**SHOP, "alertname": alert, "cluster": "results", "queue": "mail"}
        for alert in ("CeleryResultBackendDown", "CeleryQueueWaitHigh", "CeleryQueueUnserved")
    )
    assert inhibited(alertmanager, [lost, unserved, slow]) == [slow]


@pytest.mark.parametrize("alert", ["CeleryTaskFailureRatio", "CeleryTaskPoison"])
def test_failing_task_inhibits_its_losses_of_child_processes_only(
    alertmanager: AlertmanagerServer, alert: str
) -> None:
    here = {**SHOP, "cluster": f"losses of {alert}"}
    lost = {**here, "alertname": "CeleryTasksLost", "queue": "mail"}
    killed, gone, other = (
        {**lost, "task": task, "reason": reason}
        for task, reason in (
            ("shop.mail", "child_killed"),
            ("shop.mail", "worker_gone"),
            ("shop.order", "child_killed"),
        )
    )
    failing = {**here, "alertname": alert, "task": "shop.mail"}
    assert inhibited(alertmanager, [failing, gone, other, killed]) == [killed]


def test_task_that_runs_twice_inhibits_the_prediction(alertmanager: AlertmanagerServer) -> None:
    near, other = (
        {**SHOP, "alertname": "CeleryUnackedNearVisibilityTimeout", "cluster": cluster}
        for cluster in ("twice", "once")
    )
    twice = {**near, "alertname": "CeleryTaskRunsTwice", "task": "shop.mail"}
    repeated = {**twice, "cluster": "once", "cause": "task_id"}
    timeout = {**twice, "cause": "visibility_timeout"}
    assert inhibited(alertmanager, [timeout, repeated, other, near]) == [near]


def test_dead_letters_inhibit_the_length_of_their_queue(alertmanager: AlertmanagerServer) -> None:
    here = {**SHOP, "cluster": "dead"}
    grows, own, other = (
        {**here, "alertname": alert, "queue": queue}
        for alert, queue in (
            ("CeleryDeadLettersGrow", "mail.dead"),
            ("CeleryQueueGrowing", "mail.dead"),
            ("CeleryQueueGrowing", "mail"),
        )
    )
    assert inhibited(alertmanager, [grows, other, own]) == [own]


@pytest.mark.parametrize("source", ["CeleryResultBackendDown", "CeleryNoWorkers"])
def test_discarded_messages_are_not_inhibited(
    alertmanager: AlertmanagerServer, source: str
) -> None:
    here = {**SHOP, "cluster": f"discarded with {source}"}
    gone = {**here, "alertname": "CeleryTasksDiscarded", "reason": "unroutable"}
    growing = {**here, "alertname": "CeleryQueueGrowing", "queue": "mail"}
    assert inhibited(alertmanager, [{**here, "alertname": source}, gone, growing]) == [growing]


def test_title_contains_the_cluster_labels(tmp_path: Path) -> None:
    firing = [{"status": "firing"}]
    labels = {"alertname": "CeleryBrokerDown", **SHOP}
    data = tmp_path / "notification.json"
    data.write_text(json.dumps({"status": "firing", "groupLabels": labels, "alerts": firing}))
    command = [
        str(find_program("amtool")), "template", "render", f"--template.glob={ALERTS / TEMPLATE}",
        '--template.text={{ template "celery_vitals.title" . }}', f"--template.data={data}",
    ]  # fmt: skip
    title = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert title.startswith("[FIRING:1] CeleryBrokerDown (")
    assert all(value in title for value in SHOP.values())
