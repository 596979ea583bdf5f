"""One fault per alert: the alert fires after its `for`, alone, and resolves afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.ops.consumer_scenarios import consumer_faults
from tests.support.ops.ledger_scenarios import ledger_faults
from tests.support.ops.simulated_cluster import (
    DAY,
    NO_ALERTS,
    WORKERS,
    Scenario,
    Value,
    between,
    constant,
    counter,
    fires,
    frozen_at,
    histogram,
    killed,
    now,
    queue,
    task,
    until,
    without_broker,
)
from tests.support.ops.traffic_scenarios import traffic_faults

BUILD_INFO = 'celery_exporter_build_info{version="1"}'
AGGREGATED = 'celery_exporter_series_folded_total{metric="celery_task_failed_total"}'


def exporter_faults() -> Iterator[Scenario]:
    """Yield faults of the exporter."""
    yield fires(
        "the exporter target no longer exists",
        "CeleryExporterDown",
        {"up": between(10, 30, None, 1), BUILD_INFO: between(10, 30, None, 1)},
        14, 16, 31,
    )  # fmt: skip
    yield fires(
        "the exporter target is down",
        "CeleryExporterDown",
        {"up": between(10, 30, 0, 1), BUILD_INFO: between(10, 30, None, 1)},
        14, 16, 31,
    )  # fmt: skip
    yield fires(
        "a collector fails while the broker is up",
        "CeleryExporterCollectorFailing",
        {'celery_scrape_collector_success{collector="queues"}': between(10, 40, 0, 1)},
        24, 26, 41,
    )  # fmt: skip
    yield fires(
        "scrapes are close to the scrape timeout",
        "CeleryExporterScrapeSlow",
        {"scrape_duration_seconds": between(10, 40, 9, 0.1)},
        24, 26, 41,
    )  # fmt: skip
    yield fires(
        "the event stream is down",
        "CeleryEventStreamDeaf",
        {
            "celery_exporter_event_stream_up": between(10, 30, 0, 1),
            'celery_scrape_collector_success{collector="tasks"}': between(10, 30, 0, 1),
        },
        14, 16, 31,
    )  # fmt: skip
    yield fires(
        "task events are lost",
        "CeleryEventsMissed",
        {
            f'celery_exporter_events_missed_total{{worker="a@shop",event="{event}"}}': counter(
                between(10, 60, 6, 0)
            )
            for event in ("start", "end")
        },
        20, 50, 80,
    )  # fmt: skip
    yield fires(
        "a cardinality limit is reached",
        "CelerySeriesFolded",
        {AGGREGATED: counter(between(10, 60, 5, 0))},
        20, 40, 130,
    )  # fmt: skip


def broker_faults() -> Iterator[Scenario]:
    """Yield faults of the broker and the result backend."""
    duration = "celery_scrape_collector_duration_seconds"
    yield fires("the broker is down", "CeleryBrokerDown", without_broker(10, 80), 11, 13, 86)
    yield Scenario(
        "the broker is down for two hours: the alert keeps firing",
        without_broker(10, 130),
        [(minute, ["CeleryBrokerDown"]) for minute in range(13, 130, 9)],
    )
    yield fires(
        "the result backend is down",
        "CeleryResultBackendDown",
        {
            "celery_result_backend_up": between(10, 30, 0, 1),
            'celery_scrape_collector_success{collector="backend"}': between(10, 30, 0, 1),
            f'{duration}{{collector="backend"}}': between(10, 30, 5, 0.01),
        },
        12, 14, 31,
    )  # fmt: skip
    yield fires(
        "broker and result backend are down, as with a single Redis",
        "CeleryBrokerDown",
        {**without_broker(10, 80), "celery_result_backend_up": between(10, 80, 0, 1)},
        11, 40, 86,
    )  # fmt: skip
    yield fires(
        "round trips through the broker are slow",
        "CeleryProbeSlow",
        {f'{duration}{{collector="broker"}}': between(10, 60, 2, 0.01)},
        20, 40, 80,
    )  # fmt: skip


def writability_faults() -> Iterator[Scenario]:
    """Yield a broker that accepts no messages, or soon will not."""
    refused: dict[str, Value] = {
        "celery_broker_writable": between(10, 60, 0, 1),
        'celery_broker_unwritable_reason{reason="memory"}': between(10, 60, 1, 0),
    }
    yield fires("the broker refuses messages", "CeleryBrokerRefusesMessages", refused, 11, 13, 66)
    blocked = {
        **refused,
        "celery_exporter_event_stream_up": between(10, 60, 0, 1),
        'celery_scrape_collector_success{collector="workers"}': between(10, 60, 0, 1),
    }
    yield fires(
        "the broker blocks publishers, among them the exporter",
        "CeleryBrokerRefusesMessages",
        blocked,
        11, 40, 66,
    )  # fmt: skip
    loading: dict[str, Value] = {
        **without_broker(10, 80),
        "celery_broker_writable": between(10, 80, 0, 1),
        'celery_broker_unwritable_reason{reason="loading"}': between(10, 80, 1, 0),
    }
    yield fires("the broker loads its data", "CeleryBrokerDown", loading, 11, 40, 86)
    memory = "celery_broker_memory_used_bytes"
    growing: dict[str, Value] = {memory: lambda m: 3e8 + max(0, min(m, 50) - 10) * 1e7}
    yield fires("the broker's memory fills", "CeleryBrokerMemoryFilling", growing, 30, 45, 70)
    policy = "celery_broker_eviction_policy_info"
    evicting = {
        **growing,
        f'{policy}{{policy="noeviction"}}': constant(None),
        f'{policy}{{policy="volatile-lru"}}': constant(1),
    }
    yield Scenario(
        "a Redis that evicts fills", evicting, [(minute, NO_ALERTS) for minute in (40, 50, 70)]
    )


def worker_faults() -> Iterator[Scenario]:
    """Yield faults of workers: down, restarting, frozen, none up."""
    a, b = WORKERS
    yield fires(
        "a worker is killed and restarts", "CeleryWorkerDown", killed(a, 10, back=40), 18, 20, 41
    )
    # With the exporter's defaults, the alert fires before the exporter drops the series, and
    # resolves then.
    yield fires(
        "a worker is killed and forgotten after an hour",
        "CeleryWorkerDown",
        killed(a, 10),
        18,
        65,
        76,
    )
    waiting = {
        series: until(10, 3, value)
        for name in ("orders", "mail")
        for series, value in queue(
            name, length=lambda minute: 3 * (minute - 9), workers=until(10, 2, 0)
        ).items()
    }
    dead = {**killed(a, 10, back=150), **killed(b, 11, back=150), **waiting}
    ended = {
        name: until(150, value, 0 if "length" in name else 2)
        for name, value in dead.items()
        if "queue" in name
    }
    yield Scenario(
        "all workers are killed while messages wait: fires until they restart",
        {**dead, **ended},
        # CeleryWorkerDown fires later and is inhibited (alertmanager.example.yml).
        [
            (17, NO_ALERTS),
            (18, ["CeleryNoWorkers"]),
            (21, ["CeleryNoWorkers", "CeleryWorkerDown"]),
            (100, ["CeleryNoWorkers"]),
            (156, NO_ALERTS),
        ],
    )
    yield fires(
        "a worker restarts every three minutes",
        "CeleryWorkerRestarting",
        {
            f'celery_worker_restarts_total{{worker="{a}"}}': counter(
                lambda minute: float(10 <= minute < 40 and minute % 3 == 0)
            )
        },
        20, 30, 71,
    )  # fmt: skip
    last_reply = f'celery_worker_last_seen_timestamp_seconds{{worker="{a}",source="reply"}}'
    yield fires(
        "a worker sends heartbeats and does not reply",
        "CeleryWorkerFrozen",
        {
            last_reply: between(10, 40, frozen_at(10), now),
            f'celery_worker_replied{{worker="{a}"}}': between(10, 40, 0, 1),
        },
        19, 22, 41,
    )  # fmt: skip


def queue_faults() -> Iterator[Scenario]:
    """Yield faults of queues: over the limit, growing."""
    yield fires(
        "a queue exceeds its length limit",
        "CeleryQueueOverLimit",
        {
            'celery_queue_length{queue="mail"}': between(10, 40, 60, 0),
            'celery_queue_length_limit{queue="mail"}': constant(50),
        },
        19, 21, 41,
    )  # fmt: skip
    yield fires(
        "a queue grows steadily",
        "CeleryQueueGrowing",
        {
            'celery_queue_length{queue="mail"}': lambda m: max(0.0, min(m, 120) - 10) * 10,
            'celery_queue_length_limit{queue="mail"}': constant(None),
        },
        45, 90, 160,
    )  # fmt: skip


def wait_faults() -> Iterator[Scenario]:
    """Yield long wait times and unacknowledged messages."""
    labels = 'task="shop.mail",queue="mail"'
    yield fires(
        "the queue wait time is high",
        "CeleryQueueWaitHigh",
        histogram("celery_task_queue_wait_seconds", labels, 30, between(10, 60, 900, 0.5)),
        15, 40, 80,
    )  # fmt: skip
    oldest = 'celery_queue_oldest_message_timestamp_seconds{queue="mail"}'
    yield fires(
        "a task has waited for over an hour in a queue with consumers",
        "CeleryQueueOldestMessage",
        {oldest: until(120, frozen_at(10), now)},
        75, 85, 121,
    )  # fmt: skip
    yield fires(
        "an unacknowledged message is close to the visibility timeout",
        "CeleryUnackedNearVisibilityTimeout",
        {"celery_broker_oldest_unacked_timestamp_seconds": until(70, frozen_at(10), now)},
        60, 66, 71,
    )  # fmt: skip
    blocked = {
        'celery_queue_info{queue="mail",type="classic"}': constant(None),
        'celery_queue_info{queue="mail",type="quorum"}': constant(1),
        'celery_queue_length{queue="mail"}': between(10, 60, 8, 0),
        'celery_queue_unacked_messages{queue="mail"}': between(10, 60, 16, 2),
        f'celery_task_started_total{{{labels}}}': counter(between(10, 60, 0, 30)),
    }  # fmt: skip
    yield fires(
        "delayed tasks block a quorum queue", "CeleryQueueBlockedByDelayed", blocked, 30, 50, 62
    )


def task_failures() -> Iterator[Scenario]:
    """Yield failing tasks."""
    failures = between(10, 50, 10, 0)
    yield fires(
        "a third of the executions of a task fail",
        "CeleryTaskFailureRatio",
        task("shop.mail", "mail", succeeded=between(10, 50, 20, 30), failed=failures),
        15, 35, 70,
    )  # fmt: skip
    yield fires(
        "all executions of a frequent task fail, and it has never succeeded",
        "CeleryTaskFailureRatio",
        {
            name: value if "failed_total" in name or "started" in name else constant(None)
            for name, value in task("shop.new", "mail", succeeded=0, failed=failures).items()
        },
        15, 35, 470,
    )  # fmt: skip
    labels = 'task="shop.hourly",queue="mail"'
    hourly = counter(lambda minute: float(minute % 60 == 20 and minute < 400))
    yield fires(
        "an hourly task always fails, until it is fixed",
        "CeleryTaskAlwaysFails",
        {
            f'celery_task_failed_total{{{labels},exception="KeyError"}}': hourly,
            f"celery_task_succeeded_total{{{labels}}}": counter(lambda m: float(m == 440)),
        },
        100, 250, 445,
    )  # fmt: skip
    failed = f'celery_task_failed_total{{{labels},exception="KeyError"}}'
    yield fires(
        "the only three executions of a task fail between two scrapes",
        "CeleryTaskAlwaysFails",
        {
            failed: until(60, None, until(61, 0, 3)),
            f"celery_task_succeeded_total{{{labels}}}": until(60, None, 0),
        },
        60, 68, 425,
    )  # fmt: skip
    yield fires(
        "a task fails three times, and the exporter forgets it each time",
        "CeleryTaskAlwaysFails",
        {failed: until(300, lambda minute: None if minute % 100 < 40 else minute % 100 > 40, None)},
        235, 250, 410,
    )  # fmt: skip


def task_delays() -> Iterator[Scenario]:
    """Yield slow, overdue and stuck tasks."""
    mail = '{task="shop.mail"}'
    labels = 'task="shop.mail",queue="mail"'
    slow = histogram(
        "celery_task_runtime_seconds", labels, 30, between(DAY + 60, DAY + 160, 2, 0.5)
    )
    expect = [(DAY + 60, NO_ALERTS), (DAY + 120, ["CeleryTaskSlow"]), (DAY + 200, NO_ALERTS)]
    yield Scenario("a task is four times slower than yesterday", slow, expect, step=2)
    yield fires(
        "an hourly task has not run, and the exporter has forgotten it",
        "CeleryTaskOverdue",
        {
            'celery_vitals:expected_interval_seconds{task="shop.mail",job=""}': constant(3600),
            f"celery_task_last_succeeded_timestamp_seconds{mail}": between(20, 180, None, now),
        },
        105, 120, 181,
    )  # fmt: skip
    yield fires(
        "an execution does not finish",
        "CeleryTaskStuck",
        {
            f"celery_task_oldest_running_start_timestamp_seconds{mail}": until(
                180, frozen_at(10), now
            )
        },
        130, 140, 181,
    )  # fmt: skip


def all_scenarios() -> list[Scenario]:
    """Return all scenarios in which an alert fires."""
    return [
        *exporter_faults(),
        *broker_faults(),
        *writability_faults(),
        *worker_faults(),
        *consumer_faults(),
        *queue_faults(),
        *wait_faults(),
        *task_failures(),
        *task_delays(),
        *traffic_faults(),
        *ledger_faults(),
    ]
