"""docs/autoscaling.md: Prometheus understands every query in it, and each gives what the page
says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from celery_vitals.metrics.definitions import DEFINITIONS
from tests.support.servers import promtool

PAGE = (Path(__file__).parents[2] / "docs" / "autoscaling.md").read_text()
MANIFESTS = {
    one.get("kind", "rules"): one
    for one in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.S))
}
WORK, RUNNING, INVENTED, BUSY, WAITED, UNSERVED = re.findall(r"```promql\n(.*?)\n```", PAGE, re.S)
[TRIGGER] = MANIFESTS["ScaledObject"]["spec"]["triggers"]
[RULE] = MANIFESTS["rules"]["groups"][0]["rules"]

LENGTH = 'celery_queue_length{queue="emails",instance="a"}'
UNACKED = 'celery_queue_unacked_messages{queue="emails",instance="a"}'
SLOTS = 'celery_queue_slots{queue="emails",instance="a"}'
WORKERS = 'celery_queue_workers{queue="emails",instance="a"}'
REPLICA = {name.replace('"a"', '"b"'): 5 for name in (LENGTH, UNACKED)}
ACTIVE = {
    f'celery_worker_active_tasks{{worker="emails@{n}",instance="{i}"}}': 2
    for n in "xy"
    for i in "ab"
}


def run(tmp_path: Path, *command: str, **files: Any) -> None:
    """promtool, with these files (JSON is YAML) in its folder."""
    for name, content in files.items():
        (tmp_path / f"{name}.yml").write_text(json.dumps(content))
    done = subprocess.run(
        [promtool(), *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_is_understood(tmp_path: Path) -> None:
    queries = [
        WORK,
        RUNNING,
        INVENTED,
        BUSY,
        WAITED,
        UNSERVED,
        TRIGGER["metadata"]["query"],
        RULE["expr"],
    ]
    queries += ["celery_broker_up == 0", 'absent(celery_queue_length{queue="emails"})']
    assert all(query in PAGE for query in queries)
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    run(
        tmp_path,
        "check",
        "rules",
        "rules.yml",
        rules={"groups": [{"name": "page", "rules": rules}]},
    )


def test_the_example_scales_by_the_same_query() -> None:
    example = yaml.safe_load(
        (Path(__file__).parents[2] / "examples" / "keda" / "scaledobject.yaml").read_text()
    )
    [trigger] = example["spec"]["triggers"]
    assert trigger["metadata"]["query"].replace("orders", "emails") == TRIGGER["metadata"]["query"]


def test_every_metric_is_one_of_ours() -> None:
    named = set(re.findall(r"\bcelery_[a-z_]+", PAGE))
    assert named <= {metric.name for metric in DEFINITIONS}


@pytest.mark.parametrize(
    ("query", "series", "expected"),
    [
        (WORK, {LENGTH: 3, UNACKED: 8}, 11),
        (WORK, {LENGTH: 0, UNACKED: 0}, 0),
        (WORK, {LENGTH: 3, UNACKED: 8, **REPLICA}, 11),
        (WORK, {LENGTH: 3}, None),
        (WORK, {UNACKED: 8}, None),
        (WORK, {LENGTH: 3, **REPLICA}, 10),
        (WORK, {}, None),
        (RUNNING, {LENGTH: 3, **ACTIVE}, 7),
        (RUNNING, {LENGTH: 3}, None),
        (INVENTED, {}, 0),
        (BUSY, {UNACKED: 6, SLOTS: 8}, 0.75),
        (BUSY, {UNACKED: 6, SLOTS: 0}, None),
        (WAITED, {'celery_queue_oldest_message_timestamp_seconds{queue="emails"}': 0}, 60),
        (WAITED, {}, None),
        (UNSERVED, {LENGTH: 3, WORKERS: 0}, 3),
        (UNSERVED, {LENGTH: 3, WORKERS: 1}, None),
        (UNSERVED, {LENGTH: 0, WORKERS: 0}, None),
        (UNSERVED, {LENGTH: 3}, None),
    ],
)
def test_what_a_query_gives(
    tmp_path: Path, query: str, series: dict[str, float], expected: float | None
) -> None:
    samples = [] if expected is None else [{"value": expected}]
    check = {
        "expr": f"max({query})",
        "eval_time": "1m",
        "exp_samples": [{"labels": "{}", **one} for one in samples],
    }
    values = [{"series": name, "values": f"{value}x5"} for name, value in series.items()]
    tests = [{"interval": "30s", "input_series": values, "promql_expr_test": [check]}]
    run(tmp_path, "test", "rules", "tests.yml", tests={"tests": tests})


def test_manifests_have_the_queries_of_the_page() -> None:
    assert TRIGGER["metadata"]["query"] == WORK
    assert TRIGGER["metadata"]["ignoreNullValues"] == "false"
    assert MANIFESTS["ScaledObject"]["spec"]["fallback"]["replicas"] > 0
    [metric] = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == RULE["record"]
    assert all(isinstance(value, str) for value in TRIGGER["metadata"].values())
