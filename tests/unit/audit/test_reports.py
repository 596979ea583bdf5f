"""The reports: text, JSON and SARIF, their schemas, and what they must not contain."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from celery_vitals.audit.document import document
from celery_vitals.audit.engine import check_codes, run
from celery_vitals.audit.evidence import Severity
from celery_vitals.audit.findings import RULES, Report
from celery_vitals.audit.sarif import sarif
from celery_vitals.audit.text import text
from celery_vitals.errors import ConfigError
from tests.support.auditing import REDIS, facts_of
from tests.unit.audit.cases import CASES

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "docs" / "schemas" / "audit.json").read_text())
# The official schema, from the package @microsoft/jest-sarif (MIT).
SARIF = json.loads((Path(__file__).parent / "sarif-2.1.0-rtm.5.json").read_text())


def reports() -> list[Report]:
    """Return a report with each finding."""
    return [run(problem(), subject="shop.app on redis") for problem, _ in CASES.values()]


def test_every_finding_is_valid_json_and_sarif() -> None:
    json_schema = jsonschema.Draft202012Validator(SCHEMA)
    sarif_schema = jsonschema.Draft4Validator(SARIF)
    for report in reports():
        json_schema.validate(json.loads(json.dumps(document(report))))
    for report in reports()[::20]:  # the schema is large
        sarif_schema.validate(json.loads(json.dumps(sarif(report))))


def test_sarif_names_each_rule_and_finding() -> None:
    report = run(facts_of({"task_always_eager": True}), subject="shop.app on redis")
    (result,) = sarif(report)["runs"]
    rules = [one["id"] for one in result["tool"]["driver"]["rules"]]
    assert rules == list(RULES)
    (eager,) = (one for one in result["results"] if one["ruleId"] == "always_eager")
    assert rules[eager["ruleIndex"]] == "always_eager"
    assert eager["level"] == "error"
    assert "app.conf.task_always_eager = False" in eager["message"]["text"]


def test_text_has_the_worst_finding_first_and_the_counts_last() -> None:
    report = run(facts_of({"task_always_eager": True, "task_publish_retry": False}), subject="it")
    lines = re.sub(r"\x1b\[\d*m", "", text(report)).splitlines()
    assert lines[0] == "error    always_eager: task_always_eager is on"
    words = [line.split()[0] for line in lines if re.match(r"(error|warning|info) ", line)]
    assert words == sorted(words, key=[one.value for one in Severity].index)
    assert re.fullmatch(r"it: 1 error, \d+ warnings?, \d+ infos? \(\d+ rules checked\)", lines[-1])


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({"task_always_eager": True}, 2),
        ({"task_publish_retry": False}, 1),
        ({}, 0),
    ],
)
def test_exit_code_is_that_of_the_worst_finding(conf: dict[str, Any], expected: int) -> None:
    assert run(facts_of(conf)).exit_code == expected


def test_ignored_rules_are_left_out_and_listed() -> None:
    report = run(facts_of({"task_always_eager": True}), ["always_eager"])
    assert report.exit_code == 0
    assert report.ignored == ("always_eager",)
    assert "always_eager" not in report.checked


def test_unknown_code_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--ignore: unknown code 'eager'"):
        check_codes(["eager"])


def test_arguments_of_tasks_and_secrets_are_in_no_report() -> None:
    secret = "s3cret-value"
    conf = {
        "beat_schedule": {
            "n": {"task": "x", "schedule": 5, "args": (secret,), "kwargs": {"k": secret}}
        },
        "broker_transport_options": {"password": secret, "health_check_intervall": secret},
        "worker_prefetch_multiplierr": secret,
        "redis_password": secret,
        "task_routes": {"shop.pay": {"queue": "q", "kwargs": {"token": secret}}},
    }
    facts = facts_of(conf, {"shop.pay": {}}, broker=f"redis://:{secret}@h/0", backend=REDIS)
    report = run(facts)
    for output in (text(report), json.dumps(document(report)), json.dumps(sarif(report))):
        assert secret not in output
    assert secret not in repr(facts)
