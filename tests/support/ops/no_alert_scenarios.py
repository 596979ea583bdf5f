"""Situations in which no alert may fire, and setups in which the rules must keep working."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain

from tests.support.ops.consumer_scenarios import consumers_without_alert
from tests.support.ops.ledger_scenarios import ledger_without_alert
from tests.support.ops.rules import OVERRIDES, RULES
from tests.support.ops.simulated_cluster import (
    DAY,
    NO_ALERTS,
    TARGET,
    WORKERS,
    Scenario,
    Series,
    between,
    constant,
    counter,
    frozen_at,
    healthy,
    histogram,
    killed,
    queue,
    stopped,
    task,
    until,
    without_broker,
    worker,
)
from tests.support.ops.traffic_scenarios import traffic_without_alert

A, B = WORKERS
DOWN: Sequence[tuple[int, Sequence[str]]] = [
    (11, NO_ALERTS),
    (20, ["CeleryBrokerDown"]),
    (86, NO_ALERTS),
]
"""The alerts while the broker is down from minute 10 to 80."""


def throughout(last: int, every: int = 5) -> list[tuple[int, Sequence[str]]]:
    """Expect no alert at any time up to this minute."""
    return [(minute, NO_ALERTS) for minute in range(every, last + 1, every)]


def normal_operation() -> Iterator[Scenario]:
    """Yield normal operation and harmless events."""

    def traffic(minute: int) -> float:
        return round(30 + 29 * math.sin(2 * math.pi * minute / DAY))

    by_day = {
        **task("shop.order", "orders", succeeded=traffic, failed=lambda m: float(m % 7 == 0)),
        **task("shop.mail", "mail", succeeded=traffic),
        # A daily peak: the queue is long for an hour, and drains.
        'celery_queue_length{queue="orders"}': lambda m: (
            300.0 - 10 * abs(m % 720 - 30) if m % 720 <= 60 else 0
        ),
    }
    yield Scenario("a healthy day", by_day, throughout(DAY, 30), step=2)

    executions = re.compile("celery_task_(sent|started|succeeded|runtime|queue_wait)_")
    at_night = {
        name: counter(between(60, 540, 0, 30)) if executions.match(name) else value
        for name, value in (task("shop.order", "orders") | task("shop.mail", "mail")).items()
        if "failed" not in name
    }
    at_night |= {
        f'celery_task_last_succeeded_timestamp_seconds{{task="shop.{one}"}}': frozen_at(60)
        for one in ("order", "mail")
    }
    at_night |= {f'celery_queue_length{{queue="{one}"}}': constant(0) for one in ("orders", "mail")}
    at_night |= {f'celery_worker_active_tasks{{worker="{one}"}}': constant(0) for one in WORKERS}
    yield Scenario("a night without traffic", at_night, throughout(540, 20))

    labels = 'queue="mail",exception="ValueError"'
    one_failure: Series = {
        f'celery_task_failed_total{{task="shop.mail",{labels}}}': lambda m: float(m >= 10),
        f'celery_task_failed_total{{task="shop.rare",{labels}}}': between(10, 900, 1, None),
    }
    yield Scenario(
        "one failure of a known task, and of one that has never run before",
        one_failure,
        throughout(420, 15),
    )

    busy = {
        f'celery_worker_state{{worker="{A}",state="busy"}}': constant(1),
        f'celery_worker_state{{worker="{A}",state="up"}}': constant(0),
        f'celery_worker_last_seen_timestamp_seconds{{worker="{A}",source="reply"}}': frozen_at(10),
        f'celery_worker_active_tasks{{worker="{A}"}}': constant(4),
    }
    yield Scenario("a solo worker in a long task", busy, throughout(60))
    blink = {
        name: between(10, 11, without_broker(10, 11)[name], value)
        for name, value in healthy().items()
    }
    yield Scenario("the broker is down for one scrape", blink, throughout(60))
    yield Scenario("purged tasks never start", _purged(0), throughout(180, 20))
    # RabbitMQ without its management plugin.
    yield Scenario(
        "purged tasks never start, without the number of unacknowledged messages",
        _purged(None),
        throughout(180, 20),
    )


def planned_changes() -> Iterator[Scenario]:
    """Yield planned changes of workers: deployments and scale-downs."""
    # Pods have new names after a deployment; hosts keep theirs.
    new = [
        {
            name: between(11 + i, 10**6, value, None)
            for name, value in worker(f"new{i}@shop").items()
        }
        for i in (0, 1)
    ]
    deploy = {**stopped(A, 10), **stopped(B, 11), **new[0], **new[1]}
    yield Scenario("a deployment with rolling restarts, new names", deploy, throughout(90))
    # A solo worker sends nothing while a task runs, and its offline event afterwards.
    long_task = {
        f'celery_worker_last_seen_timestamp_seconds{{worker="{A}",source="{source}"}}': frozen_at(7)
        for source in ("reply", "heartbeat")
    }
    yield Scenario(
        "a deployment during a task of a solo worker",
        {**stopped(A, 10), **long_task},
        throughout(60),
    )
    no_events: Series = {
        name: constant(None) for name in healthy() if name.startswith("celery_exporter_event")
    }
    yield Scenario(
        "a deployment without task events",
        {**killed(A, 10), **killed(B, 11), **no_events},
        throughout(90),
    )
    restarts = {**stopped(A, 10, back=12), **stopped(B, 13, back=15)}
    restarts |= {
        f'celery_worker_restarts_total{{worker="{one}"}}': between(0, 14, 0, 1) for one in WORKERS
    }
    yield Scenario("a deployment with rolling restarts, same names", restarts, throughout(60))

    less = {
        **stopped(B, 10),
        **{name: value for one in ("orders", "mail") for name, value in queue(one, 0, 1).items()},
    }
    yield Scenario("a planned scale-down", less, throughout(120))
    none = {**stopped(A, 10), **stopped(B, 10)}
    none |= {
        name: value
        for one in ("orders", "mail")
        for name, value in queue(one, 0, between(0, 10, 2, 0), 0).items()
    }
    yield Scenario("a planned scale-down to zero, with empty queues", none, throughout(120))


def _purged(unacked: float | None) -> Series:
    oldest = 'celery_queue_oldest_message_timestamp_seconds{queue="mail"}'
    return {**queue("mail", length=0, unacked=constant(unacked)), oldest: frozen_at(10)}


def other_setups() -> Iterator[Scenario]:
    """Yield clusters without some metrics, with two replicas, and with a moved exporter."""
    for name, prefixes in {
        "events": (
            "celery_task_",
            "celery_exporter_event",
            "celery_queue_oldest",
            "celery_worker_active",
        ),
        "a result backend": ("celery_result_backend_",),
        "limits": ("celery_queue_length_limit",),
        "the collectors workers and queues": ("celery_worker_", "celery_queue_"),
        "remote control": (
            "celery_worker_replied",
            "celery_worker_consumed",
            "celery_worker_pool",
            "celery_queue_workers",
        ),
        "worker states and restarts": ("celery_worker_state", "celery_worker_restarts"),
    }.items():
        left = {series: constant(None) for series in healthy() if series.startswith(prefixes)}
        yield Scenario(f"an exporter without {name}", left, throughout(60))
        yield Scenario(
            f"an exporter without {name}, when the broker is down",
            {**without_broker(10, 80), **left},
            DOWN,
        )

    yield Scenario(
        "two replicas, when the broker is down",
        {**without_broker(10, 80), **replica(without_broker(10, 80))},
        DOWN,
    )
    yield Scenario(
        "two replicas, one of which cannot reach the broker: only that one is slow",
        {**without_broker(10, 80), **replica(healthy())},
        [(24, NO_ALERTS), (30, ["CeleryExporterScrapeSlow"]), (81, NO_ALERTS)],
    )
    one_down: Series = {
        'celery_exporter_build_info{version="1"}': between(10, 99, None, 1),
        "up": between(10, 99, 0, 1),
    }
    yield Scenario(
        "one of two replicas is down", {**one_down, **replica(healthy())}, throughout(60)
    )
    both_down = {**one_down, **replica(one_down)}
    yield Scenario(
        "both replicas are down",
        both_down,
        [(14, NO_ALERTS), (16, ["CeleryExporterDown"]), (100, NO_ALERTS)],
    )
    staging = {
        name.replace('"shop"', '"staging"'): value for name, value in replica(healthy()).items()
    }
    ends: Series = {name: until(10, value, None) for name, value in healthy().items()}
    yield Scenario(
        "the exporter of one of two clusters is removed", {**ends, **staging}, throughout(60)
    )
    broken = {f"up{{{TARGET.replace('vitals', 'new')}}}": between(11, 40, 0, None)}
    yield Scenario(
        "the exporter of one of two clusters is replaced by one that is down",
        {**ends, **staging, **broken},
        [(15, NO_ALERTS), (17, ["CeleryExporterDown"]), (41, NO_ALERTS)],
    )
    yield Scenario(
        "a queue without consumers, and two replicas",
        {**(lost := queue("reports", 5, 0)), **replica({**healthy(), **lost})},
        [(4, NO_ALERTS), (6, ["CeleryQueueUnserved"])],
    )
    moved = {
        name: between(10, 99, None, value) for name, value in {**healthy(), **killed(A, 5)}.items()
    }
    # The new exporter has never seen the worker.
    moved |= {key: between(11, 99, value, None) for key, value in replica(_rest()).items()}
    yield Scenario(
        "the exporter moves to another pod while a worker is down",
        moved,
        [(9, NO_ALERTS), (16, NO_ALERTS), (90, NO_ALERTS)],
    )


def coexistence() -> Iterator[Scenario]:
    """Yield another exporter with the same metric names, the compatibility job, and overrides."""
    yield Scenario(
        "another exporter with the same metric names and its own faults",
        other_exporter(),
        throughout(60),
    )
    for name, changes in {
        "in a healthy cluster": {},
        "while the broker is down": without_broker(10, 80),
    }.items():
        expect = DOWN if changes else throughout(60)
        series = {**changes, **compatibility_job({**healthy(), **changes})}
        yield Scenario(f"with the compatibility job, {name}", series, expect)

    waits = histogram(
        "celery_task_queue_wait_seconds", 'task="shop.mail",queue="mail"', 30, constant(100)
    )
    yield Scenario("wait times of 100 s, with the default threshold", waits, throughout(40))
    yield Scenario(
        "wait times of 100 s, above an overridden threshold",
        waits,
        [(5, NO_ALERTS), (30, ["CeleryQueueWaitHigh"])],
        (RULES, OVERRIDES),
    )
    yield Scenario(
        "a third of the executions fail, below an overridden threshold",
        task("shop.mail", "mail", 20, 10),
        throughout(60),
        (RULES, OVERRIDES),
    )
    expected: Series = {
        'celery_vitals:expected_interval_seconds{task="shop.never",job=""}': constant(3600)
    }
    late = [(85, NO_ALERTS), (100, ["CeleryTaskOverdue"])]
    yield Scenario("a task with an expected interval never runs", expected, late)


def _rest() -> Series:
    return {name: value for name, value in healthy().items() if A not in name}


def replica(series: Series) -> Series:
    """Return the same series with the target labels of a second exporter."""
    target = TARGET.replace("vitals:10818", "replica:10818")
    found: Series = {}
    for name, value in series.items():
        metric, brace, labels = name.partition("{")
        found[f"{metric}{{{target}{',' + labels if brace else '}'}"] = value
    return found


def other_exporter() -> Series:
    """Return series of another exporter with some of the same metric names."""
    target = 'job="other",instance="other:9808"'
    labels = f'{target},hostname="h",queue_name="q"'
    return {
        f"up{{{target}}}": constant(0),
        f'celery_worker_up{{{target},hostname="h"}}': constant(0),
        f'celery_queue_length{{{target},queue_name="q"}}': lambda minute: 100.0 * minute,
        f'celery_task_failed_total{{{labels},name="t",exception="E"}}': counter(60),
        f'celery_task_succeeded_total{{{labels},name="t"}}': constant(0),
    }


def compatibility_job(series: Series) -> Series:
    """Return the series of the second job of examples/prometheus/compat.yml.

    Without those that it renames: no rule uses such a name.
    """
    found: Series = {}
    for name, value in series.items():
        if re.match(r"celery_(worker_up|queue_length|task_[a-z]+_total)\b", name):
            for ours, theirs in (("task", "name"), ("queue", "queue_name"), ("worker", "hostname")):
                name = re.sub(rf'\b{ours}="', f'{theirs}="', name)
            found[name.replace("{", '{job="celery-exporter",')] = value
    return found


def all_quiet() -> list[Scenario]:
    """Return all scenarios of this module."""
    return list(
        chain(
            normal_operation(),
            consumers_without_alert(),
            planned_changes(),
            other_setups(),
            coexistence(),
            traffic_without_alert(),
            ledger_without_alert(),
        )
    )
