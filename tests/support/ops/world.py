"""A cluster as Prometheus sees it, minute by minute: what promtool tests the rules on.

The healthy one has every metric that the rules read.  A scenario changes some of them, so that each also shows that no
other alert fires.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ops.rules import RULES, groups
from tests.support.servers import promtool

Value = Callable[[int], "float | None"]
"""A series: its value at each minute; None where it is absent."""
Series = dict[str, Value]

DAY = 24 * 60
FORGOTTEN = 58
"""Minutes for which a worker is shown as down, on the exporter's defaults."""
TIMEOUT = 2
"""Minutes without a sign of life after which it is down, likewise."""
WORKERS = ("a@shop", "b@shop")
STATES = ("up", "busy", "not_consuming", "stalled", "draining", "gone")
TARGET = 'job="any name",instance="vitals:10818",namespace="shop"'


def always(value: float | None) -> Value:
    """The same all the time."""
    return lambda minute: value


def now(minute: int) -> float:
    """The present, as a Unix time."""
    return minute * 60.0


def between(
    start: int, end: int, inside: Value | float | None, outside: Value | float | None
) -> Value:
    """One value from minute `start` to `end` (exclusive), another before and after."""
    one = inside if callable(inside) else always(inside)
    other = outside if callable(outside) else always(outside)
    return lambda minute: one(minute) if start <= minute < end else other(minute)


def until(end: int, before: Value | float | None, after: Value | float | None) -> Value:
    """One value before minute `end`, another from then on."""
    return between(0, end, before, after)


def held(at: int) -> Value:
    """A time that stood still at a minute."""
    return lambda minute: min(minute, at) * 60.0


def counter(per_minute: Value | float) -> Value:
    """A counter that rises by so much each minute."""
    rise = per_minute if callable(per_minute) else always(per_minute)
    totals: list[float] = [1.0]

    def value(minute: int) -> float:
        while len(totals) <= minute:
            totals.append(totals[-1] + (rise(len(totals)) or 0))
        return totals[minute]

    return value


def worker(name: str) -> Series:
    """A worker that is well."""
    labels = f'{{worker="{name}"}}'
    series = {
        f"celery_worker_up{labels}": always(1),
        f"celery_worker_replied{labels}": always(1),
        f"celery_worker_pool_slots{labels}": always(4),
        f"celery_worker_active_tasks{labels}": always(2),
        f"celery_worker_consumed_queues{labels}": always(2),
        f"celery_worker_processed_total{labels}": counter(60),
        f"celery_worker_restarts_total{labels}": always(0),
        f"celery_exporter_events_missed_total{labels}": always(0),
    }
    for source in ("reply", "heartbeat"):
        series[
            f'celery_worker_last_seen_timestamp_seconds{{worker="{name}",source="{source}"}}'
        ] = now
    for state in STATES:
        series[f'celery_worker_state{{worker="{name}",state="{state}"}}'] = always(state == "up")
    return series


def gone(name: str, died: int, shown_from: int, back: int | None = None) -> Series:
    """What changes for a worker that ended at a minute and is shown as down from another; forgotten, or back."""
    never = 10**9
    back = never if back is None else back
    changed: Series = {}
    for series, value in worker(name).items():
        metric = series.partition("{")[0]
        down: Value = always(None)
        if metric == "celery_worker_up":
            down = until(shown_from, 1, 0)
        elif metric == "celery_worker_last_seen_timestamp_seconds":
            down = held(died)
        elif metric == "celery_worker_replied":
            down = always(0)
        elif metric in ("celery_worker_processed_total", "celery_exporter_events_missed_total"):
            down = always(value(died))
        elif metric == "celery_worker_restarts_total":
            down = always(0)
        elif metric == "celery_worker_state":
            down = until(shown_from, value, float('state="gone"' in series))
        elif shown_from > died:
            down = until(shown_from, value, None)
        shown = until(min(shown_from + FORGOTTEN, back), down, until(back, None, value))
        changed[series] = until(died, value, shown)
    return changed


def killed(name: str, at: int, back: int | None = None) -> Series:
    """A worker that vanishes without a word: shown as down after the timeout."""
    return gone(name, at, at + TIMEOUT, back)


def stopped(name: str, at: int, back: int | None = None) -> Series:
    """A worker that says goodbye: shown as down at once."""
    said = f'celery_worker_last_seen_timestamp_seconds{{worker="{name}",source="farewell"}}'
    shown = at + FORGOTTEN if back is None else min(back, at + FORGOTTEN)
    return {**gone(name, at, at, back), said: between(at, shown, held(at), None)}


def queue(
    name: str, length: Value | float = 0, workers: Value | float = 2, unacked: Value | float = 4
) -> Series:
    """A queue."""
    labels = f'{{queue="{name}"}}'

    def value(given: Value | float) -> Value:
        return given if callable(given) else always(given)

    return {
        f"celery_queue_length{labels}": value(length),
        f"celery_queue_workers{labels}": value(workers),
        f"celery_queue_unacked_messages{labels}": value(unacked),
        f"celery_queue_slots{labels}": lambda minute: 4 * (value(workers)(minute) or 0),
    }


def task(name: str, of: str, succeeded: Value | float = 30, failed: Value | float = 0) -> Series:
    """A task: what succeeds and what fails each minute."""
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
    series |= histogram("celery_task_runtime_seconds", labels, succeeded, always(0.5))
    series |= histogram("celery_task_queue_wait_seconds", labels, succeeded, always(0.5))
    return series


def histogram(name: str, labels: str, per_minute: Value | float, seconds: Value) -> Series:
    """So many observations of so many seconds each minute, in the exporter's default buckets for waiting times."""
    rise = per_minute if callable(per_minute) else always(per_minute)
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


def exporter() -> Series:
    """The exporter itself, the broker and the result backend."""
    series: Series = {
        "up": always(1),
        "scrape_duration_seconds": always(0.1),
        'celery_exporter_build_info{version="1"}': always(1),
        "celery_scrape_timeout_seconds": always(9.5),
        "celery_broker_up": always(1),
        "celery_result_backend_up": always(1),
        "celery_exporter_event_stream_up": always(1),
        'celery_exporter_events_received_total{type="task-started"}': counter(120),
        "celery_broker_visibility_timeout_seconds": always(3600),
        "celery_broker_oldest_unacked_timestamp_seconds": lambda minute: max(
            0.0, (minute - 1) * 60.0
        ),
    }
    for collector in ("broker", "backend", "workers", "queues", "tasks"):
        series[f'celery_scrape_collector_success{{collector="{collector}"}}'] = always(1)
        series[f'celery_scrape_collector_duration_seconds{{collector="{collector}"}}'] = always(
            0.01
        )
        series[f'celery_probe_last_success_timestamp_seconds{{collector="{collector}"}}'] = now
    return series


def healthy() -> Series:
    """A cluster that is well: two workers, two queues with a little work, two tasks."""
    series = exporter()
    for name in WORKERS:
        series |= worker(name)
    for name in ("orders", "mail"):
        series |= queue(name, length=lambda minute: minute % 3)
        series[f'celery_queue_length_limit{{queue="{name}"}}'] = always(1000)
        series[f'celery_queue_info{{queue="{name}",type="classic"}}'] = always(1)
        series[f'celery_queue_oldest_message_timestamp_seconds{{queue="{name}"}}'] = now
    return series | task("shop.order", "orders") | task("shop.mail", "mail")


def without_broker(start: int, end: int) -> Series:
    """What changes while the broker does not answer: what only it can tell is absent."""
    changed: Series = {}
    for series, value in healthy().items():
        metric, collector = series.partition("{")[0], series.partition('collector="')[2][:-2]
        away: Value | float | None = value
        if metric in ("celery_broker_up", "celery_exporter_event_stream_up"):
            away = 0
        elif metric == "celery_scrape_collector_success":
            away = 0 if collector != "backend" else value
        elif metric == "scrape_duration_seconds":
            away = 9.4
        elif metric == "celery_scrape_collector_duration_seconds":
            away = 5.0
        elif metric.startswith(("celery_queue_", "celery_broker_oldest", "celery_worker_replied")):
            away = None
        elif "_last_" in metric:
            away = held(start)
        elif metric.endswith(("_total", "_count", "_sum", "_bucket")):
            away = value(start)
        changed[series] = between(start, end, away, value)
    return changed


@dataclass(frozen=True)
class Scenario:
    """What happens, and which alerts, and no others, fire at which minute."""

    name: str
    changes: Mapping[str, Value]
    expect: Sequence[tuple[int, Iterable[str]]]
    rule_files: Sequence[Path] = (RULES,)
    base: Callable[[], Series] = healthy
    step: int = 1
    """Minutes from one scrape to the next: 2 for those that last for a day."""


def run(scenario: Scenario, folder: Path) -> str:
    """Run it through promtool; empty when all is as expected, else what promtool says."""
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
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)
                ],
            }
            for minute, names in scenario.expect
        ],
    }
    files = {
        "rule_files": [str(path) for path in scenario.rule_files],
        "evaluation_interval": f"{scenario.step}m",
        # Without an order promtool takes one by chance, and what hangs on another group is a minute late, or is not.
        "group_eval_order": [
            group["name"] for path in scenario.rule_files for group in groups(path)
        ],
        "tests": [test],
    }
    path = folder / "test.yml"
    path.write_text(json.dumps(files))  # JSON is YAML
    answer = subprocess.run(
        [str(promtool()), "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    return "" if answer.returncode == 0 else answer.stdout + answer.stderr


def _target(series: str) -> str:
    """The series with the labels of its scrape; one that has a job is somebody else's."""
    name, brace, labels = series.partition("{")
    if "job=" in labels:
        return series
    return f"{name}{{{TARGET}{',' + labels if brace else '}'}"


def _values(value: Value, last: int, step: int) -> str:
    values = [value(minute) for minute in range(0, last + 1, step)]
    words = ["_" if one is None else f"{one:.10g}" for one in values]
    for at in range(1, len(words)):
        if words[at] == "_" and words[at - 1] not in ("_", "stale"):
            words[at] = "stale"  # as Prometheus marks a series that a scrape no longer has
    return " ".join(words)
