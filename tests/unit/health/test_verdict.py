"""The verdict: totals, unknown areas, order, limits, and since when a finding lasts."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.schedules import crontab, schedule

from celery_vitals.errors import ConfigError
from celery_vitals.events.cases import Case, CaseKind, CaseList
from celery_vitals.health.codes import Area, Code, Severity, Status
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.monitor import HealthMonitor
from celery_vitals.settings import Secret, Settings
from tests.support.health import NAMES, NOW, codes, failed, healthy, queue, run, verdict_on, worker

UNSERVED = healthy(queues=(queue(length=2, workers=0, consumers=0),))


@pytest.mark.parametrize("disabled", ["broker", "workers", "queues"])
def test_cluster_with_a_required_collector_disabled_is_unknown(disabled: str) -> None:
    runs = tuple(run(name) for name in NAMES if name != disabled)
    known = disabled != "workers"
    verdict = verdict_on(healthy(collectors=runs, workers_known=known))
    assert verdict.status is verdict.areas[Area(disabled)] is Status.UNKNOWN
    assert f"--collector.{disabled}" in [spot.setting for spot in verdict.unknown]


@pytest.mark.parametrize(
    "enabled", [names for size in range(5) for names in itertools.combinations(NAMES, size)]
)
def test_no_combination_of_missing_results_is_healthy(enabled: tuple[str, ...]) -> None:
    absent = tuple(map(run, enabled))
    pending = tuple(run(name, None if name not in enabled else True) for name in NAMES)
    for runs in (absent, pending):
        parts: dict[str, Any] = {}
        if "workers" not in enabled:
            parts |= {"workers": (), "workers_known": False}
        if "queues" not in enabled:
            parts["queues"] = ()
        verdict = verdict_on(healthy(collectors=runs, **parts))
        complete = {"broker", "workers", "queues"} <= set(enabled)
        complete &= runs is absent or "backend" in enabled
        assert (verdict.status is Status.HEALTHY) == complete, (enabled, verdict)


@pytest.mark.parametrize("name", ["workers", "queues"])
def test_failed_probe_is_unknown(name: str) -> None:
    verdict = verdict_on(failed(name))
    assert verdict.status is verdict.areas[Area(name)] is Status.UNKNOWN
    assert verdict.unknown[0].subject == name


def test_old_results_prove_no_health() -> None:
    runs = tuple(run(name, at=NOW - 121) for name in NAMES)
    verdict = verdict_on(healthy(collectors=runs))
    assert (verdict.status, verdict.age) == (Status.UNKNOWN, 121)
    assert verdict_on(healthy(collectors=runs), stale_after=300.0).status is Status.HEALTHY


def test_degraded_cluster_with_an_unknown_area_is_degraded() -> None:
    assert verdict_on(failed("queues", "backend")).status is Status.DEGRADED


def test_weight_of_a_code_is_configurable() -> None:
    status = failed("backend")
    for severity, expected in (
        (Severity.UNHEALTHY, Status.UNHEALTHY),
        (Severity.INFO, Status.HEALTHY),
    ):
        verdict = verdict_on(status, severities={Code.BACKEND_DOWN: severity})
        assert (verdict.status, len(verdict.findings)) == (expected, 1)


def test_worst_finding_is_first() -> None:
    status = failed(
        "backend",
        queues=(queue("b", length=2, workers=0, consumers=0), queue("a", length=5000)),
    )
    assert codes(status) == ["queue_unserved", "backend_down", "queue_over_limit"]


def test_every_code_has_a_runbook_url() -> None:
    for code in Code:
        assert code.runbook_url.endswith(f"/docs/runbooks/{code.runbook}.md")


def test_schema_and_documentation_name_every_code() -> None:
    docs = Path(__file__).parents[3] / "docs"
    page = (docs / "health.md").read_text()
    for name in ("health", "worker", "queue"):
        schema = json.loads((docs / "schemas" / f"{name}.json").read_text())
        codes_of = schema["$defs"]["finding"]["properties"]["code"]["enum"]
        assert codes_of == [code.value for code in Code]
    for code in Code:
        assert f"`{code.value}`" in page
        assert (docs / "runbooks" / f"{code.runbook}.md").exists()


# Limits


def test_unknown_code_names_the_codes() -> None:
    with pytest.raises(ConfigError, match=r"--health.severity: unknown code 'x' .*broker_down"):
        HealthLimits.of(Settings(health_severities={"x": "info"}))


def test_limits_of_settings_and_app() -> None:
    app = Celery("proj", broker="memory://")
    app.conf.beat_schedule = {
        "a": {"task": "t.a", "schedule": 30.0},
        "often": {"task": "t.a", "schedule": timedelta(seconds=20)},
        "b": {"task": "t.b", "schedule": schedule(60)},
        "c": {"task": "t.c", "schedule": crontab(minute=0)},
    }
    app.add_periodic_task(90.0, app.signature("t.d"))
    settings = Settings(
        broker_url=Secret("memory://"),
        health_task_intervals={"t.b": 5.0},
        health_severities={"worker_down": "info"},
    )
    limits = HealthLimits.of(settings, app)
    assert limits.app == "proj"
    assert limits.task_intervals == {"t.a": 20, "t.b": 5, "t.d": 90}
    assert limits.severity(Code.WORKER_DOWN) is Severity.INFO


# Since when a finding lasts


def test_finding_keeps_its_beginning_while_it_lasts() -> None:
    monitor = HealthMonitor(HealthLimits())
    assert monitor.verdict(UNSERVED, NOW).findings[0].since == NOW
    assert monitor.verdict(UNSERVED, NOW + 60).findings[0].since == NOW
    monitor.verdict(healthy(), NOW + 70)
    assert monitor.verdict(UNSERVED, NOW + 80).findings[0].since == NOW + 80


def test_finding_keeps_its_beginning_while_it_cannot_be_observed() -> None:
    monitor = HealthMonitor(HealthLimits())
    monitor.verdict(UNSERVED, NOW)
    assert monitor.verdict(failed("queues", queues=()), NOW + 10).findings == ()
    assert monitor.verdict(UNSERVED, NOW + 20).findings[0].since == NOW
    monitor.verdict(failed("broker", "queues", queues=()), NOW + 30)
    assert monitor.verdict(UNSERVED, NOW + 40).findings[0].since == NOW


def test_beginning_of_the_evidence_is_earlier_than_the_first_verdict() -> None:
    case = Case(CaseKind.LOST, "id", "t", "q", "w@h", NOW - 60, NOW - 50, "worker_gone", "Proved.")
    monitor = HealthMonitor(HealthLimits())
    (finding,) = monitor.verdict(healthy(cases=CaseList((case,))), NOW).findings
    assert finding.since == NOW - 50


def test_number_of_remembered_findings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_vitals.health.monitor._MAX_FINDINGS", 3)
    monitor = HealthMonitor(HealthLimits())
    queues = tuple(queue(f"q{place}", length=2000) for place in range(9))
    assert len(monitor.verdict(healthy(queues=queues), NOW).findings) == 9
    later = monitor.verdict(healthy(queues=queues), NOW + 5)
    assert sorted(one.since for one in later.findings) == [NOW] * 3 + [NOW + 5] * 6


def test_worker_names_are_quoted_in_commands() -> None:
    odd = worker("a b@h", up=False)
    (finding,) = verdict_on(healthy(workers=(worker(), odd)), app="proj").findings
    assert finding.recommendation == "celery -A proj worker -Q celery -n 'a b@h'"
