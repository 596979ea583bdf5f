"""Scenarios without alerts, and setups in which the rules work unchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

from tests.support.ops.rules import COMPAT, OVERRIDES, RULES
from tests.support.ops.simulated_cluster import (
    DAY,
    TARGET,
    WORKERS,
    Scenario,
    Series,
    always,
    between,
    counter,
    healthy,
    held,
    histogram,
    killed,
    queue,
    stopped,
    task,
    until,
    without_broker,
    worker,
)

NO_ALERT: tuple[str, ...] = ()
A, B = WORKERS
DOWN: Sequence[tuple[int, Sequence[str]]] = [
    (11, NO_ALERT),
    (20, ["CeleryBrokerDown"]),
    (86, NO_ALERT),
]
"""While the broker is away from minute 10 to 80."""


def throughout(last: int, every: int = 5) -> list[tuple[int, Sequence[str]]]:
    """No alert at any time up to this minute."""
    return [(minute, NO_ALERT) for minute in range(every, last + 1, every)]


def good_days() -> Iterator[Scenario]:
    """None of them may fire."""

    def traffic(minute: int) -> float:
        return round(30 + 29 * math.sin(2 * math.pi * minute / DAY))

    by_day = {
        **task("shop.order", "orders", succeeded=traffic, failed=lambda m: float(m % 7 == 0)),
        **task("shop.mail", "mail", succeeded=traffic),
        # The lunch rush: the queue is long for a while, and is worked off.
        'celery_queue_length{queue="orders"}': lambda m: (
            300.0 - 10 * abs(m % 720 - 30) if m % 720 <= 60 else 0
        ),
    }
    yield Scenario("a healthy day", by_day, throughout(DAY, 30), step=2)

    at_night = {
        name: counter(between(60, 540, 0, 30))
        if name.endswith("_total") or "_seconds_" in name
        else value
        for name, value in (task("shop.order", "orders") | task("shop.mail", "mail")).items()
        if "failed" not in name
    }
    at_night |= {
        f'celery_task_last_succeeded_timestamp_seconds{{task="shop.{one}"}}': held(60)
        for one in ("order", "mail")
    }
    at_night |= {f'celery_queue_length{{queue="{one}"}}': always(0) for one in ("orders", "mail")}
    at_night |= {f'celery_worker_active_tasks{{worker="{one}"}}': always(0) for one in WORKERS}
    yield Scenario("a night without traffic", at_night, throughout(540, 20))

    one_failure = {
        'celery_task_failed_total{task="shop.mail",queue="mail",exception="E"}': lambda m: float(
            m >= 10
        ),
        'celery_task_failed_total{task="shop.rare",queue="mail",exception="ValueError"}': between(
            10, 900, 1, None
        ),
    }
    yield Scenario(
        "one failure of one task, and of one that never ran before",
        one_failure,
        throughout(420, 15),
    )

    busy = {
        f'celery_worker_state{{worker="{A}",state="busy"}}': always(1),
        f'celery_worker_state{{worker="{A}",state="up"}}': always(0),
        f'celery_worker_last_seen_timestamp_seconds{{worker="{A}",source="reply"}}': held(10),
        f'celery_worker_active_tasks{{worker="{A}"}}': always(4),
    }
    yield Scenario("a solo worker in a long task", busy, throughout(60))
    blink = {
        name: between(10, 11, without_broker(10, 11)[name], value)
        for name, value in healthy().items()
    }
    yield Scenario("the broker is away for one scrape", blink, throughout(60))
    yield Scenario("purged tasks never start", _purged(0), throughout(180, 20))
    # RabbitMQ without its management plugin.
    yield Scenario(
        "purged tasks never start, without numbers of unacknowledged messages",
        _purged(None),
        throughout(180, 20),
    )


def changes_of_workers() -> Iterator[Scenario]:
    """Yield scenarios of planned worker changes."""
    # Pods have new names after a deploy; on machines the names stay.
    new = [
        {
            name: between(11 + i, 10**6, value, None)
            for name, value in worker(f"new{i}@shop").items()
        }
        for i in (0, 1)
    ]
    deploy = {**stopped(A, 10), **stopped(B, 11), **new[0], **new[1]}
    yield Scenario("a deploy with rolling restarts, new names", deploy, throughout(90))
    # A solo worker is silent while a task runs, then sends its offline event.
    long_task = {
        f'celery_worker_last_seen_timestamp_seconds{{worker="{A}",source="{source}"}}': held(7)
        for source in ("reply", "heartbeat")
    }
    yield Scenario(
        "a deploy in the middle of a task of a solo worker",
        {**stopped(A, 10), **long_task},
        throughout(60),
    )
    stream_down: Series = {
        name: always(None) for name in healthy() if name.startswith("celery_exporter_event")
    }
    yield Scenario(
        "a deploy while the event stream is down",
        {**killed(A, 10), **killed(B, 11), **stream_down},
        throughout(90),
    )
    restarts = {**stopped(A, 10, back=12), **stopped(B, 13, back=15)}
    restarts |= {
        f'celery_worker_restarts_total{{worker="{one}"}}': between(0, 14, 0, 1) for one in WORKERS
    }
    yield Scenario("a deploy with rolling restarts, same names", restarts, throughout(60))

    less = {
        **stopped(B, 10),
        **{name: value for one in ("orders", "mail") for name, value in queue(one, 0, 1).items()},
    }
    yield Scenario("a deliberate scale-down", less, throughout(120))
    none = {**stopped(A, 10), **stopped(B, 10)}
    none |= {
        name: value
        for one in ("orders", "mail")
        for name, value in queue(one, 0, between(0, 10, 2, 0), 0).items()
    }
    yield Scenario("a deliberate scale-down to nothing, while nothing waits", none, throughout(120))


def _purged(unacked: float | None) -> Series:
    oldest = 'celery_queue_oldest_message_timestamp_seconds{queue="mail"}'
    return {**queue("mail", length=0, unacked=always(unacked)), oldest: held(10)}


def other_setups() -> Iterator[Scenario]:
    """Without events, without a backend, without limits; two replicas; another pod."""
    for name, parts in {
        "events": (
            "celery_task_",
            "celery_exporter_event",
            "celery_queue_oldest",
            "celery_worker_active",
        ),
        "a result backend": ("celery_result_backend_",),
        "limits": ("celery_queue_length_limit",),
        "the collectors of workers and queues": ("celery_worker_", "celery_queue_"),
        "remote control": (
            "celery_worker_replied",
            "celery_worker_consumed",
            "celery_worker_pool",
            "celery_queue_workers",
        ),
        "worker states and restarts": ("celery_worker_state", "celery_worker_restarts"),
    }.items():
        left = {series: always(None) for series in healthy() if series.startswith(parts)}
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
        "two replicas, of which only one misses the broker: it alone is slow",
        {**without_broker(10, 80), **replica(healthy())},
        [(24, NO_ALERT), (30, ["CeleryExporterScrapeSlow"]), (81, NO_ALERT)],
    )
    one_away: Series = {
        'celery_exporter_build_info{version="1"}': between(10, 99, None, 1),
        "up": between(10, 99, 0, 1),
    }
    yield Scenario(
        "one of two replicas is away", {**one_away, **replica(healthy())}, throughout(60)
    )
    both_away = {**one_away, **replica(one_away)}
    yield Scenario(
        "both replicas are away",
        both_away,
        [(14, NO_ALERT), (16, ["CeleryExporterDown"]), (100, NO_ALERT)],
    )
    staging = {
        name.replace('"shop"', '"staging"'): value for name, value in replica(healthy()).items()
    }
    ends: Series = {name: until(10, value, None) for name, value in healthy().items()}
    yield Scenario(
        "the exporter of one of two clusters is taken away", {**ends, **staging}, throughout(60)
    )
    broken = {f"up{{{TARGET.replace('vitals', 'new')}}}": between(11, 40, 0, None)}
    yield Scenario(
        "the exporter of one of two clusters is replaced by one that never answers",
        {**ends, **staging, **broken},
        [(15, NO_ALERT), (17, ["CeleryExporterDown"]), (41, NO_ALERT)],
    )
    yield Scenario(
        "a queue without a consumer, and two replicas",
        {**(lost := queue("reports", 5, 0)), **replica({**healthy(), **lost})},
        [(4, NO_ALERT), (6, ["CeleryQueueUnserved"])],
    )
    moved = {
        name: between(10, 99, None, value) for name, value in {**healthy(), **killed(A, 5)}.items()
    }
    # The new exporter has never observed it.
    moved |= {key: between(11, 99, value, None) for key, value in replica(_rest()).items()}
    yield Scenario(
        "the exporter moves to another pod while a worker is down",
        moved,
        [(9, NO_ALERT), (16, NO_ALERT), (90, NO_ALERT)],
    )


def beside_others() -> Iterator[Scenario]:
    """Yield setups: another exporter with equal names, compatibility rules, own thresholds."""
    yield Scenario("the leader's exporter beside, with its own troubles", leader(), throughout(60))
    for name, changes in {
        "and all is well": {},
        "and the broker is down": without_broker(10, 80),
    }.items():
        expect = DOWN if changes else throughout(60)
        yield Scenario(
            f"the compatibility rules are loaded too {name}", changes, expect, (RULES, COMPAT)
        )

    waits = histogram(
        "celery_task_queue_wait_seconds", 'task="shop.mail",queue="mail"', 30, always(100)
    )
    yield Scenario("waits of 100 s, on the defaults", waits, throughout(40))
    yield Scenario(
        "waits of 100 s, over a threshold of one's own",
        waits,
        [(5, NO_ALERT), (30, ["CeleryQueueWaitHigh"])],
        (RULES, OVERRIDES),
    )
    yield Scenario(
        "a third fails, under a threshold of one's own",
        task("shop.mail", "mail", 20, 10),
        throughout(60),
        (RULES, OVERRIDES),
    )
    expected: Series = {
        'celery_vitals:expected_interval_seconds{task="shop.never",job=""}': always(3600)
    }
    late = [(85, NO_ALERT), (100, ["CeleryTaskOverdue"])]
    yield Scenario("an expected task never runs at all", expected, late)


def _rest() -> Series:
    return {name: value for name, value in healthy().items() if A not in name}


def replica(series: Series) -> Series:
    """The same as a second exporter shows it."""
    target = TARGET.replace("vitals:10818", "replica:10818")
    found: Series = {}
    for name, value in series.items():
        metric, brace, labels = name.partition("{")
        found[f"{metric}{{{target}{',' + labels if brace else '}'}"] = value
    return found


def leader() -> Series:
    """Series of another exporter that has some of the same names."""
    target = 'job="other",instance="other:9808"'
    labels = f'{target},hostname="h",queue_name="q"'
    return {
        f"up{{{target}}}": always(0),
        f'celery_worker_up{{{target},hostname="h"}}': always(0),
        f'celery_queue_length{{{target},queue_name="q"}}': lambda minute: 100.0 * minute,
        f'celery_task_failed_total{{{labels},name="t",exception="E"}}': counter(60),
        f'celery_task_succeeded_total{{{labels},name="t"}}': always(0),
    }


def no_alert_scenarios() -> list[Scenario]:
    """Every one of them."""
    return list(chain(good_days(), changes_of_workers(), other_setups(), beside_others()))
