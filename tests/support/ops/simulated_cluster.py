"""The series of a simulated cluster, minute by minute, on which promtool tests the rules.

The healthy cluster has every metric that the rules use.  A scenario changes some of them, so each
scenario also checks that no other alert fires.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.ops.rules import RULES, alerts, groups
from tests.support.servers import promtool

Value = Callable[[int], "float | None"]
"""The value of a series at each minute; None if absent."""
Series = dict[str, Value]

NO_ALERTS: tuple[str, ...] = ()
DAY = 24 * 60
FORGOTTEN = 58
"""Minutes until the exporter forgets a worker that is down, with its defaults."""
TIMEOUT = 2
"""Minutes without a reply or heartbeat after which a worker is down, with the defaults."""
ABSENT_WITHOUT_BROKER = (
    "celery_queue_",
    "celery_broker_oldest",
    "celery_broker_writable",
    "celery_broker_unwritable",
    "celery_broker_memory",
    "celery_broker_unroutable",
    "celery_broker_eviction",
    "celery_worker_replied",
)
WORKERS = ("a@shop", "b@shop")
QUEUES = ("orders", "mail")
STATES = ("up", "busy", "not_consuming", "stalled", "draining", "gone")
LEDGER_COUNTERS = (
    "found", "redelivered", "rejected", "requeued", "retried", "retries_exhausted",
)  # fmt: skip
TARGET = 'job="any name",instance="vitals:10818",namespace="shop"'


def constant(value: float | None) -> Value:
    """Return the same value at every minute."""
    return lambda minute: value


def now(minute: int) -> float:
    """Return the current time as a Unix timestamp."""
    return minute * 60.0


def between(
    start: int, end: int, inside: Value | float | None, outside: Value | float | None
) -> Value:
    """Return one value from minute `start` to `end` (exclusive), another before and after."""
    one = inside if callable(inside) else constant(inside)
    other = outside if callable(outside) else constant(outside)
    return lambda minute: one(minute) if start <= minute < end else other(minute)


def until(end: int, before: Value | float | None, after: Value | float | None) -> Value:
    """Return one value before minute `end`, another from then on."""
    return between(0, end, before, after)


def frozen_at(at: int) -> Value:
    """Return a timestamp that stops at a minute."""
    return lambda minute: min(minute, at) * 60.0


def counter(per_minute: Value | float) -> Value:
    """Return a counter with the given increase per minute."""
    rise = per_minute if callable(per_minute) else constant(per_minute)
    totals: list[float] = [1.0]

    def value(minute: int) -> float:
        while len(totals) <= minute:
            totals.append(totals[-1] + (rise(len(totals)) or 0))
        return totals[minute]

    return value


def worker(name: str) -> Series:
    """Return the series of a healthy worker."""
    labels = f'{{worker="{name}"}}'
    series = {
        f"celery_worker_up{labels}": constant(1),
        f"celery_worker_replied{labels}": constant(1),
        f"celery_worker_pool_slots{labels}": constant(4),
        f"celery_worker_active_tasks{labels}": constant(2),
        f"celery_worker_consumed_queues{labels}": constant(2),
        f"celery_worker_processed_total{labels}": counter(60),
        f"celery_worker_restarts_total{labels}": constant(0),
    }
    for event in ("start", "end"):
        missed = f'celery_exporter_events_missed_total{{worker="{name}",event="{event}"}}'
        series[missed] = constant(0)
    for of in QUEUES:
        series[f'celery_worker_queue_info{{worker="{name}",queue="{of}"}}'] = constant(1)
    for source in ("reply", "heartbeat"):
        series[
            f'celery_worker_last_seen_timestamp_seconds{{worker="{name}",source="{source}"}}'
        ] = now
    for state in STATES:
        series[f'celery_worker_state{{worker="{name}",state="{state}"}}'] = constant(state == "up")
    return series


def gone(name: str, died: int, shown_from: int, back: int | None = None) -> Series:
    """Return the changes of a worker that dies at a minute and is down from another.

    The exporter forgets it later, unless it is back before.
    """
    never = 10**9
    back = never if back is None else back
    changed: Series = {}
    for series, value in worker(name).items():
        metric = series.partition("{")[0]
        down: Value = constant(None)
        if metric == "celery_worker_up":
            down = until(shown_from, 1, 0)
        elif metric == "celery_worker_last_seen_timestamp_seconds":
            down = frozen_at(died)
        elif metric == "celery_worker_replied":
            down = constant(0)
        elif metric in ("celery_worker_processed_total", "celery_exporter_events_missed_total"):
            down = constant(value(died))
        elif metric == "celery_worker_restarts_total":
            down = constant(0)
        elif metric == "celery_worker_state":
            down = until(shown_from, value, float('state="gone"' in series))
        elif shown_from > died:
            down = until(shown_from, value, None)
        shown = until(min(shown_from + FORGOTTEN, back), down, until(back, None, value))
        changed[series] = until(died, value, shown)
    return changed


def killed(name: str, at: int, back: int | None = None) -> Series:
    """Return a worker that dies without an offline event: down after the timeout."""
    return gone(name, at, at + TIMEOUT, back)


def stopped(name: str, at: int, back: int | None = None) -> Series:
    """Return a worker that sends an offline event: down at once."""
    offline = f'celery_worker_last_seen_timestamp_seconds{{worker="{name}",source="farewell"}}'
    shown = at + FORGOTTEN if back is None else min(back, at + FORGOTTEN)
    return {**gone(name, at, at, back), offline: between(at, shown, frozen_at(at), None)}


def queue(
    name: str,
    length: Value | float = 0,
    workers: Value | float = 2,
    unacked: Value | float = 4,
    evidence: str = "worker",
) -> Series:
    """Return the series of a queue; without `evidence`, it was only found in the broker."""
    labels = f'{{queue="{name}"}}'

    def value(given: Value | float) -> Value:
        return given if callable(given) else constant(given)

    return {
        f"celery_queue_length{labels}": value(length),
        f"celery_queue_workers{labels}": value(workers),
        f"celery_queue_unacked_messages{labels}": value(unacked),
        f"celery_queue_slots{labels}": lambda minute: 4 * (value(workers)(minute) or 0),
        f'celery_queue_evidence_info{{queue="{name}",evidence="{evidence}"}}': constant(
            1 if evidence else None
        ),
    }


def task(name: str, of: str, succeeded: Value | float = 30, failed: Value | float = 0) -> Series:
    """Return the series of a task with its successes and failures per minute."""
    labels = f'task="{name}",queue="{of}"'
    started = counter(
        lambda m: sum((rise(m) or 0) if callable(rise) else rise for rise in (succeeded, failed))
    )
    series = {
        f"celery_task_sent_total{{{labels}}}": started,
        f"celery_task_started_total{{{labels}}}": started,
        f"celery_task_succeeded_total{{{labels}}}": counter(succeeded),
        f'celery_task_failed_total{{{labels},exception="ValueError"}}': counter(failed),
        f'celery_task_last_succeeded_timestamp_seconds{{task="{name}"}}': now,
        f'celery_task_oldest_running_start_timestamp_seconds{{task="{name}"}}': now,
    }
    series |= histogram("celery_task_runtime_seconds", labels, succeeded, constant(0.5))
    series |= histogram("celery_task_queue_wait_seconds", labels, succeeded, constant(0.5))
    return series | ledger(labels)


def ledger(labels: str) -> Series:
    """Return the series of the books of a task without losses: all 0, and the balance, too.

    Counters start at 1, so that one execution more has ended than was sent.
    """
    zero = (
        *(f'in_flight{{{labels},state="{state}"}}' for state in ("waiting", "held", "running")),
        *(
            f'lost_total{{{labels},reason="{reason}"}}'
            for reason in ("worker_gone", "child_killed")
        ),
        *(f"{name}_total{{{labels}}}" for name in LEDGER_COUNTERS),
        f'overlapping_total{{{labels},cause="visibility_timeout"}}',
        f'repeated_total{{{labels},cause="visibility_timeout"}}',
        f'revoked_total{{{labels},reason="expired"}}',
        f'end_unknown_total{{{labels},reason="silent"}}',
        f"orphaned{{{labels}}}",
        f"poison{{{labels}}}",
    )
    series = {f"celery_task_{name}": constant(0) for name in zero}
    return series | {f"celery_task_without_sent_event{{{labels}}}": constant(1)}


def histogram(name: str, labels: str, per_minute: Value | float, seconds: Value) -> Series:
    """Return a histogram with the exporter's default buckets for queue wait times."""
    rise = per_minute if callable(per_minute) else constant(per_minute)
    series: Series = {
        f"{name}_count{{{labels}}}": counter(rise),
        f"{name}_sum{{{labels}}}": counter(
            lambda minute: (rise(minute) or 0) * (seconds(minute) or 0)
        ),
    }
    for bound in (0.1, 1, 10, 60, 300, 1800, 7200, float("inf")):
        text = "+Inf" if bound == float("inf") else f"{bound:g}"
        series[f'{name}_bucket{{{labels},le="{text}"}}'] = counter(_up_to(bound, rise, seconds))
    return series


def _up_to(bound: float, rise: Value, seconds: Value) -> Value:
    return lambda minute: rise(minute) if (seconds(minute) or 0) <= bound else 0


def override(name: str, value: float, labels: str = "") -> Series:
    """Return a threshold of a user's rule file."""
    return {f'celery_vitals:override:{name}{{job=""{labels}}}': constant(value)}


def exporter() -> Series:
    """Return the series of the exporter, the broker and the result backend."""
    series: Series = {
        "up": constant(1),
        "scrape_duration_seconds": constant(0.1),
        'celery_exporter_build_info{version="1"}': constant(1),
        "celery_scrape_timeout_seconds": constant(9.5),
        "celery_broker_up": constant(1),
        "celery_broker_writable": constant(1),
        "celery_broker_memory_used_bytes": lambda minute: 3e8 + minute % 5 * 1e6,
        "celery_broker_memory_limit_bytes": constant(1e9),
        'celery_broker_eviction_policy_info{policy="noeviction"}': constant(1),
        "celery_result_backend_up": constant(1),
        "celery_exporter_event_stream_up": constant(1),
        'celery_exporter_events_received_total{type="task-started"}': counter(120),
        "celery_broker_visibility_timeout_seconds": constant(3600),
        "celery_broker_unroutable_messages_total": constant(0),
        "celery_broker_oldest_unacked_timestamp_seconds": lambda minute: max(
            0.0, (minute - 1) * 60.0
        ),
    }
    for reason in ("memory", "disk", "blocked", "read_only", "replicas", "persistence", "loading"):
        series[f'celery_broker_unwritable_reason{{reason="{reason}"}}'] = constant(0)
    for collector in ("broker", "backend", "workers", "queues", "tasks"):
        series[f'celery_scrape_collector_success{{collector="{collector}"}}'] = constant(1)
        series[f'celery_scrape_collector_duration_seconds{{collector="{collector}"}}'] = constant(
            0.01
        )
        series[f'celery_probe_last_success_timestamp_seconds{{collector="{collector}"}}'] = now
    return series


def healthy() -> Series:
    """Return a healthy cluster: two workers, two short queues, two tasks."""
    series = exporter()
    for name in WORKERS:
        series |= worker(name)
    for name in QUEUES:
        series |= queue(name, length=lambda minute: minute % 3)
        series[f'celery_queue_length_limit{{queue="{name}"}}'] = constant(1000)
        series[f'celery_queue_info{{queue="{name}",type="classic"}}'] = constant(1)
        series[f'celery_queue_oldest_message_timestamp_seconds{{queue="{name}"}}'] = now
    series |= queue("orders.dead", workers=0, unacked=0, evidence="")
    series['celery_queue_dead_letter_info{queue="orders",dead_letter_queue="orders.dead"}'] = (
        constant(1)
    )
    series['celery_task_unregistered_total{task="shop.gone",producer="web@shop"}'] = constant(0)
    return series | task("shop.order", "orders") | task("shop.mail", "mail")


def without_broker(start: int, end: int) -> Series:
    """Return the changes while the broker is down: series that depend on it are absent."""
    changed: Series = {}
    for series, value in healthy().items():
        metric, collector = series.partition("{")[0], series.partition('collector="')[2][:-2]
        down: Value | float | None = value
        if metric in ("celery_broker_up", "celery_exporter_event_stream_up"):
            down = 0
        elif metric == "celery_scrape_collector_success":
            down = 0 if collector != "backend" else value
        elif metric == "scrape_duration_seconds":
            down = 9.4
        elif metric == "celery_scrape_collector_duration_seconds":
            down = 5.0
        elif metric.startswith(ABSENT_WITHOUT_BROKER):
            down = None
        elif "_last_" in metric:
            down = frozen_at(start)
        elif metric.endswith(("_total", "_count", "_sum", "_bucket")):
            down = value(start)
        changed[series] = between(start, end, down, value)
    return changed


@dataclass(frozen=True)
class Scenario:
    """Changes of the cluster, and the exact set of alerts that fire at given minutes.

    An alert is `NAME`, or `NAME:SEVERITY` for another severity than that of its first rule.
    """

    name: str
    changes: Mapping[str, Value]
    expect: Sequence[tuple[int, Iterable[str]]]
    rule_files: Sequence[Path] = (RULES,)
    base: Callable[[], Series] = healthy
    only: str = ""
    """A pattern of the names of rules: others are left out, for scenarios of many days."""
    step: int = 1
    """Scrape interval in minutes: 2 for scenarios of a whole day."""


def fires(
    name: str, alert: str, changes: Mapping[str, Value], pending: int, firing: int, resolved: int
) -> Scenario:
    """Expect one alert only: not yet at minute `pending`, at `firing`, no longer at `resolved`."""
    expect = [(pending, NO_ALERTS), (firing, [alert]), (resolved, NO_ALERTS)]
    return Scenario(name, changes, expect)


def run(scenario: Scenario, folder: Path) -> str:
    """Run a scenario with promtool; return its output on failure, else an empty string."""
    last = max(minute for minute, _ in scenario.expect)
    series = {**scenario.base(), **scenario.changes}
    test: dict[str, Any] = {
        "interval": f"{scenario.step}m",
        "input_series": [
            {"series": _target(name), "values": _values(value, last, scenario.step)}
            for name, value in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname, severity) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {"labels": _alert_labels(name), "value": 1} for name in sorted(names)
                ],
            }
            for minute, names in scenario.expect
        ],
    }
    rule_files = _only(scenario, folder) if scenario.only else scenario.rule_files
    files = {
        "rule_files": [str(path) for path in rule_files],
        "evaluation_interval": f"{scenario.step}m",
        # By default promtool evaluates the groups in random order, so that rules which depend on
        # another group may be one minute late.
        "group_eval_order": [group["name"] for path in rule_files for group in groups(path)],
        "tests": [test],
    }
    path = folder / "test.yml"
    path.write_text(json.dumps(files))  # JSON is YAML
    answer = subprocess.run(
        [str(promtool()), "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    return "" if answer.returncode == 0 else answer.stdout + answer.stderr


def _only(scenario: Scenario, folder: Path) -> Sequence[Path]:
    kept = [group for path in scenario.rule_files for group in groups(path)]
    for group in kept:
        group["rules"] = [
            rule
            for rule in group["rules"]
            if re.search(scenario.only, str(rule.get("record") or rule["alert"]))
        ]
    path = folder / "rules.yml"
    path.write_text(json.dumps({"groups": [group for group in kept if group["rules"]]}))
    return [path]


@cache
def _first_severities() -> dict[str, str]:
    return {alert.name: alert.severity for alert in reversed(alerts())}


def _alert_labels(expected: str) -> str:
    name, _, severity = expected.partition(":")
    severity = severity or _first_severities()[name]
    return f'{{alertname="{name}",severity="{severity}"}}'


def _target(series: str) -> str:
    """Add the target labels to a series, unless it has a job label of another exporter."""
    name, brace, labels = series.partition("{")
    if "job=" in labels:
        return series
    return f"{name}{{{TARGET}{',' + labels if brace else '}'}"


def _values(value: Value, last: int, step: int) -> str:
    values = [value(minute) for minute in range(0, last + 1, step)]
    samples = ["_" if one is None else f"{one:.10g}" for one in values]
    for at in range(1, len(samples)):
        if samples[at] == "_" and samples[at - 1] not in ("_", "stale"):
            # Prometheus marks series that are missing in a scrape as stale.
            samples[at] = "stale"
    return " ".join(samples)
