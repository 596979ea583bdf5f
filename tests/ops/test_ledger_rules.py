"""The balance of the books of executions, and the advice in the alerts about them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.ops.rules import RULES, alerts, groups
from tests.support.servers import promtool

MAIL = 'task="mail",queue="post"'
BALANCE = "celery_vitals:task_balance"
EVENTS: Mapping[str, str] = {
    "celery_exporter_event_stream_up{}": "1",
    'celery_worker_task_events{worker="a@shop"}': "1",
    'celery_worker_task_events{worker="b@shop"}': "1",
}
STARTED = f"celery_task_started_total{{{MAIL}}}"
ENTERED: Mapping[str, str] = {
    f"celery_task_sent_total{{{MAIL}}}": "100",
    f"celery_task_without_sent_event{{{MAIL}}}": "20",
}
LEFT: Mapping[str, str] = {
    f"celery_task_succeeded_total{{{MAIL}}}": "50",
    f'celery_task_failed_total{{{MAIL},exception="KeyError"}}': "4",
    # Counted as lost, too.
    f'celery_task_failed_total{{{MAIL},exception="WorkerLostError"}}': "3",
    f'celery_task_revoked_total{{{MAIL},reason="expired"}}': "2",
    f'celery_task_revoked_total{{{MAIL},reason="terminated"}}': "2",
    f"celery_task_rejected_total{{{MAIL}}}": "9",
    f"celery_task_requeued_total{{{MAIL}}}": "5",
    f"celery_task_retried_total{{{MAIL}}}": "10",
    f'celery_task_lost_total{{{MAIL},reason="child_killed"}}': "3",
    f'celery_task_lost_total{{{MAIL},reason="worker_gone"}}': "6",
    f'celery_task_lost_total{{{MAIL},reason="worker_restarted"}}': "1",
    f"celery_task_found_total{{{MAIL}}}": "2",
    f"celery_task_redelivered_total{{{MAIL}}}": "7",
    f'celery_task_end_unknown_total{{{MAIL},reason="silent"}}': "3",
    f'celery_task_end_unknown_total{{{MAIL},reason="missed"}}': "8",
}
INSIDE: Mapping[str, str] = {
    f'celery_task_in_flight{{{MAIL},state="waiting"}}': "8",
    f'celery_task_in_flight{{{MAIL},state="held"}}': "5",
    f'celery_task_in_flight{{{MAIL},state="running"}}': "6",
    f"celery_task_orphaned{{{MAIL}}}": "1",
}
LEFT_COUNT, INSIDE_COUNT = 90, 20


def scraped(series: Mapping[str, str], instance: str = "a", job: str = "vitals") -> dict[str, str]:
    """Return the series with the labels of a target; the values are constant."""
    target = f'job="{job}",instance="{instance}"'
    return {
        f"{name.removesuffix('}')}{'' if name.endswith('{}') else ','}{target}}}": f"{value}x10"
        for name, value in series.items()
    }


def promtool_errors(
    folder: Path, series: Mapping[str, str], **checks: Sequence[Mapping[str, Any]]
) -> str:
    """Return the differences that promtool finds; empty if there are none."""
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "group_eval_order": [group["name"] for group in groups()],
        "tests": [{"interval": "1m", "input_series": inputs, **checks}],
    }
    path = folder / "test.yml"
    path.write_text(json.dumps(test))
    command = [str(promtool()), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def balance_errors(folder: Path, series: Mapping[str, str], **expected: float) -> str:
    """Compare the balance of the task `mail` in each job with the expected one."""
    samples = [
        {"labels": f'{BALANCE}{{{MAIL},job="{job}"}}', "value": value}
        for job, value in expected.items()
    ]
    check = {"expr": BALANCE, "eval_time": "5m", "exp_samples": samples}
    return promtool_errors(folder, series, promql_expr_test=[check])


ALL = {**EVENTS, **ENTERED, **LEFT, **INSIDE, STARTED: "60"}


def test_every_column_is_in_the_balance(tmp_path: Path) -> None:
    missing = 120 - LEFT_COUNT - INSIDE_COUNT
    assert balance_errors(tmp_path, scraped(ALL), vitals=missing) == ""


@pytest.mark.parametrize("column", [*ENTERED, *LEFT, *INSIDE])
def test_an_absent_column_counts_as_zero(column: str, tmp_path: Path) -> None:
    signs = {"sent_total": 1, "without_sent": 1, "requeued": 1, "found": 1}
    sign = next((one for part, one in signs.items() if part in column), -1)
    counted = "child_killed" not in column and "missed" not in column
    value = sign * float(ALL[column]) if counted else 0
    left = {name: one for name, one in ALL.items() if name != column}
    missing = 120 - LEFT_COUNT - INSIDE_COUNT
    assert balance_errors(tmp_path, scraped(left), vitals=missing - value) == ""


def test_a_task_that_only_succeeds_is_balanced(tmp_path: Path) -> None:
    series = {
        f"celery_task_without_sent_event{{{MAIL}}}": "7",
        f"celery_task_succeeded_total{{{MAIL}}}": "7",
        STARTED: "7",
    }
    assert balance_errors(tmp_path, scraped({**EVENTS, **series}), vitals=0) == ""


def test_replicas_do_not_add_up(tmp_path: Path) -> None:
    """One started later and has smaller books; another missed the end of an execution."""
    later = {
        f"celery_task_sent_total{{{MAIL}}}": "5",
        f"celery_task_succeeded_total{{{MAIL}}}": "4",
        f'celery_task_in_flight{{{MAIL},state="running"}}': "1",
    }
    series = scraped(ALL) | scraped({**EVENTS, **later}, instance="b")
    other = scraped({**ALL, f"celery_task_succeeded_total{{{MAIL}}}": "48"}, job="other")
    assert balance_errors(tmp_path, series | other, vitals=0, other=12) == ""


@pytest.mark.parametrize(
    "off",
    [
        {"celery_exporter_event_stream_up{}": "0"},
        {name: "0" for name in EVENTS if "task_events" in name},
    ],
    ids=["stream", "workers"],
)
def test_without_events_the_balance_is_absent(off: Mapping[str, str], tmp_path: Path) -> None:
    assert balance_errors(tmp_path, scraped({**ALL, **off})) == ""


def test_a_worker_without_events_leaves_the_balance(tmp_path: Path) -> None:
    one_off = {**ALL, 'celery_worker_task_events{worker="b@shop"}': "0"}
    assert balance_errors(tmp_path, scraped(one_off), vitals=10) == ""


def test_with_a_label_of_their_own_tasks_have_no_balance(tmp_path: Path) -> None:
    """The option --task-label adds it to the counters, and not to the gauges."""
    own = {
        name.replace(MAIL, f'{MAIL},customer="x"') if "_total" in name else name: value
        for name, value in ALL.items()
    }
    assert balance_errors(tmp_path, scraped(own)) == ""


def test_workers_as_labels_are_added_up(tmp_path: Path) -> None:
    """The option --task-labels worker adds it to the counters of workers."""
    by_worker = {
        f'{name.removesuffix("}")},worker="{worker}"}}': value
        for name, value in ALL.items()
        if "_total" in name and "sent_total" not in name
        for worker in ("a@shop", "b@shop")
    }
    rest = {
        name: value
        for name, value in ALL.items()
        if f'{name[:-1]},worker="a@shop"}}' not in by_worker
    }
    assert balance_errors(tmp_path, scraped({**rest, **by_worker}), vitals=10 - LEFT_COUNT) == ""


def test_other_exporters_have_no_balance(tmp_path: Path) -> None:
    theirs = {'celery_task_sent_total{name="t",queue_name="q"}': "5"}
    assert balance_errors(tmp_path, scraped({**EVENTS, **theirs})) == ""


def twice(cause: str) -> dict[str, str]:
    """Return a repetition of this cause."""
    name = f'celery_task_repeated_total{{{MAIL},cause="{cause}",job="vitals",instance="a"}}'
    return {name: "0 0 2x20"}


REQUIRED = 'celery_task_required_visibility_timeout_seconds{task="TASK",job="vitals",instance="a"}'
TIMEOUT = 'celery_broker_visibility_timeout_seconds{job="vitals",instance="a"}'
LEAD = (
    "Executions of mail in the queue post started within the last hour although another one of the"
    " same id was running or had ended. "
)
IDS = " The path /lost of the exporter lists the ids."


def timeout(seconds: int) -> str:
    """Return the advice to set the visibility timeout."""
    return (
        "The visibility timeout of Redis is shorter than the time from delivery to end. Set"
        f' broker_transport_options = {{"visibility_timeout": {seconds}}} in all workers and'
        " producers."
    )


@pytest.mark.parametrize(
    ("cause", "more", "advice"),
    [
        ("visibility_timeout", {REQUIRED.replace("TASK", "mail"): "12x20"}, timeout(60)),
        (
            "visibility_timeout",  # one setting for all tasks
            {
                REQUIRED.replace("TASK", "mail"): "1000x20",
                REQUIRED.replace("TASK", "report"): "5401x20",
            },
            timeout(8160),
        ),
        ("visibility_timeout", {TIMEOUT: "1800x20"}, timeout(3600)),
        ("visibility_timeout", {}, timeout(7200)),
        (
            "connection_lost",
            {},
            "2 times, because workers lost their broker connection. Set"
            " worker_cancel_long_running_tasks_on_connection_loss = True, or acks_late = False for"
            " this task.",
        ),
        (
            "task_id",
            {},
            "2 times, because it was sent with a task_id that was used before. Send it without"
            " task_id.",
        ),
        (
            "unknown",
            {},
            "2 times, for an unknown cause. Set acks_late = False for this task, or make it"
            " idempotent.",
        ),
    ],
)
def test_the_alert_names_the_setting_to_change(
    cause: str, more: Mapping[str, str], advice: str, tmp_path: Path
) -> None:
    labels = {"task": "mail", "queue": "post", "cause": cause, "job": "vitals"}
    check = described("CeleryTaskRunsTwice", labels, f"{LEAD}{advice}{IDS}")
    assert promtool_errors(tmp_path, {**twice(cause), **more}, alert_rule_test=[check]) == ""


@pytest.mark.parametrize(
    ("series", "labels", "text"),
    [
        (
            'celery_task_unregistered_total{task="gone",producer="web@shop",JOB}',
            {"task": "gone", "producer": "web@shop", "reason": "unregistered"},
            "2 messages of gone sent by web@shop were given up in the last hour."
            " Reason - unregistered.",
        ),
        (
            'celery_task_unregistered_total{task="gone",producer="",JOB}',
            {"task": "gone", "reason": "unregistered"},
            "2 messages of gone were given up in the last hour. Reason - unregistered.",
        ),
        (
            f"celery_task_rejected_total{{{MAIL},JOB}}",
            {"task": "mail", "queue": "post", "reason": "rejected"},
            "2 messages of mail in the queue post were given up in the last hour."
            " Reason - rejected.",
        ),
        (
            "celery_broker_unroutable_messages_total{JOB}",
            {"reason": "unroutable"},
            "30 messages were given up in the last hour. Reason - unroutable.",
        ),
    ],
)
def test_the_alert_names_what_was_discarded(
    series: str, labels: Mapping[str, str], text: str, tmp_path: Path
) -> None:
    target = 'job="vitals",instance="a"'
    values = {
        series.replace("JOB", target): "0 0 30x20" if "unroutable" in series else "0 0 2x20",
        f'celery_worker_up{{worker="a@shop",{target}}}': "1x20",
        f"celery_exporter_event_stream_up{{{target}}}": "1x20",
    }
    check = described("CeleryTasksDiscarded", {**labels, "job": "vitals"}, text)
    assert promtool_errors(tmp_path, values, alert_rule_test=[check]) == ""


def described(name: str, labels: Mapping[str, str], text: str) -> dict[str, Any]:
    """Expect the alert at minute 15, with these labels and this description."""
    alert = next(one for one in alerts() if one.name == name)
    url = f"https://github.com/celery-vitals/celery-vitals/blob/main/docs/runbooks/{name}.md"
    expected = {
        "exp_labels": {**labels, "severity": alert.severity},
        "exp_annotations": {**alert.annotations, "description": text, "runbook_url": url},
    }
    return {"eval_time": "15m", "alertname": name, "exp_alerts": [expected]}
