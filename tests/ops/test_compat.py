"""The compatibility rules, which record the metric names of danihodovic/celery-exporter."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.ops.rules import COMPAT, ROOT, rules
from tests.support.servers import promtool

LABELS = {
    "celery_worker_up": "hostname",
    "celery_worker_tasks_active": "hostname",
    "celery_queue_length": "queue_name",
    "celery_active_consumer_count": "queue_name",
    "celery_active_worker_count": "queue_name",
    "celery_active_process_count": "queue_name",
}
TASKS = [
    f"celery_task_{one}_total"
    for one in ("sent", "received", "started", "succeeded", "rejected", "retried")
]
HISTOGRAMS = {
    "celery_task_runtime": "celery_task_runtime_seconds",
    "celery_task_queue_wait_time": "celery_task_queue_wait_seconds",
}
OURS = {
    "celery_worker_tasks_active": "celery_worker_active_tasks",
    "celery_active_consumer_count": "celery_queue_consumers",
    "celery_active_worker_count": "celery_queue_workers",
    "celery_active_process_count": "celery_queue_slots",
}
OLD, NEW = 'name="t",queue_name="q"', 'task="t",queue="q"'


def cases() -> dict[str, str]:
    """Return each selector with the old name and labels, and the series it must match."""
    found = {}
    for name, label in LABELS.items():
        ours = "worker" if label == "hostname" else "queue"
        found[f'{name}{{{label}="a@b"}}'] = f'{OURS.get(name, name)}{{{ours}="a@b"}}'
    found |= {f"{name}{{{OLD}}}": f"{name}{{{NEW}}}" for name in TASKS}
    found[f'celery_task_failed_total{{{OLD},exception="E"}}'] = (
        f'celery_task_failed_total{{{NEW},exception="E"}}'
    )
    found[f'celery_task_revoked_total{{{OLD},reason="x"}}'] = (
        f'celery_task_revoked_total{{{NEW},reason="x"}}'
    )
    for name, ours in HISTOGRAMS.items():
        found |= {f"{name}_{part}{{{OLD}}}": f"{ours}_{part}{{{NEW}}}" for part in ("sum", "count")}
        found[f'{name}_bucket{{{OLD},le="1"}}'] = f'{ours}_bucket{{{NEW},le="1"}}'
    return found


@pytest.mark.parametrize(("old", "ours"), cases().items(), ids=lambda text: text.partition("{")[0])
def test_old_name_has_the_value_once(old: str, ours: str, tmp_path: Path) -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": ours, "values": "7x20"}],
        "promql_expr_test": [
            {
                "expr": f"sum({old})",
                "eval_time": "10m",
                "exp_samples": [{"labels": "{}", "value": 7}],
            },
            {
                "expr": f"count({old})",
                "eval_time": "10m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            },
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(
        json.dumps({"rule_files": [str(COMPAT)], "evaluation_interval": "1m", "tests": [test]})
    )
    answer = subprocess.run(
        [str(promtool()), "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_rule_is_tested() -> None:
    assert {re.split("{", old)[0] for old in cases()} == {rule["record"] for rule in rules(COMPAT)}


def test_migration_page_lists_every_name() -> None:
    text = (ROOT / "docs" / "migration.md").read_text()
    for rule in rules(COMPAT):
        stem = (
            re.sub(r"_(bucket|sum|count)$", "", rule["record"])
            if "time" in rule["record"]
            else rule["record"]
        )
        name = re.sub(r"celery_task_(\w+)_total", r"\1", stem)
        assert name in text, rule["record"]
