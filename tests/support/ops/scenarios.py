"""Scenarios of each alert: pending before `for`, then the only firing alert, then resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.support.ops.simulated_cluster import (
    DAY,
    WORKERS,
    Scenario,
    Value,
    always,
    between,
    counter,
    held,
    histogram,
    killed,
    now,
    queue,
    task,
    until,
    without_broker,
)

NO_ALERT: tuple[str, ...] = ()


def fires(
    name: str, alert: str, changes: Mapping[str, Value], moments: tuple[int, int, int]
) -> Scenario:
    """Return a scenario of one alert; `moments`: minutes before, while and after it fires."""
    before, firing, after = moments
    return Scenario(name, changes, [(before, NO_ALERT), (firing, [alert]), (after, NO_ALERT)])


def state(worker: str, name: str, start: int, end: int) -> dict[str, Value]:
    """The worker is in this state and no longer `up`."""
    return {
        f'celery_worker_state{{worker="{worker}",state="{name}"}}': between(start, end, 1, 0),
        f'celery_worker_state{{worker="{worker}",state="up"}}': between(start, end, 0, 1),
    }


def of_the_exporter() -> Iterator[Scenario]:
    """The exporter watches itself."""
    yield fires(
        "the exporter is absent: its target is gone",
        "CeleryExporterDown",
        {
            "up": between(10, 30, None, 1),
            'celery_exporter_build_info{version="1"}': between(10, 30, None, 1),
        },
        (14, 16, 31),
    )
    yield fires(
        "the exporter fails: its target does not answer",
        "CeleryExporterDown",
        {
            "up": between(10, 30, 0, 1),
            'celery_exporter_build_info{version="1"}': between(10, 30, None, 1),
        },
        (14, 16, 31),
    )
    yield fires(
        "a collector fails though the broker answers",
        "CeleryExporterCollectorFailing",
        {'celery_scrape_collector_success{collector="queues"}': between(10, 40, 0, 1)},
        (24, 26, 41),
    )
    yield fires(
        "scrapes take nearly as long as they may",
        "CeleryExporterScrapeSlow",
        {"scrape_duration_seconds": between(10, 40, 9, 0.1)},
        (24, 26, 41),
    )
    yield fires(
        "the event stream is down",
        "CeleryEventStreamDeaf",
        {
            "celery_exporter_event_stream_up": between(10, 30, 0, 1),
            'celery_scrape_collector_success{collector="tasks"}': between(10, 30, 0, 1),
        },
        (14, 16, 31),
    )
    yield fires(
        "events get lost",
        "CeleryEventsMissed",
        {'celery_exporter_events_missed_total{worker="a@shop"}': counter(between(10, 60, 6, 0))},
        (20, 50, 80),
    )
    yield fires(
        "a label has too many values",
        "CelerySeriesFolded",
        {
            'celery_exporter_series_folded_total{metric="celery_task_failed_total"}': counter(
                between(10, 60, 5, 0)
            )
        },
        (20, 40, 130),
    )


def of_the_broker() -> Iterator[Scenario]:
    """What everything stands on."""
    yield fires("the broker is down", "CeleryBrokerDown", without_broker(10, 80), (11, 13, 86))
    yield Scenario(
        "the broker is down for two hours: one alert all the time",
        without_broker(10, 130),
        [(minute, ["CeleryBrokerDown"]) for minute in range(13, 130, 9)],
    )
    yield fires(
        "the result backend is down",
        "CeleryResultBackendDown",
        {
            "celery_result_backend_up": between(10, 30, 0, 1),
            'celery_scrape_collector_success{collector="backend"}': between(10, 30, 0, 1),
            'celery_scrape_collector_duration_seconds{collector="backend"}': between(
                10, 30, 5, 0.01
            ),
        },
        (12, 14, 31),
    )
    yield fires(
        "both are down, as where one Redis is both",
        "CeleryBrokerDown",
        {**without_broker(10, 80), "celery_result_backend_up": between(10, 80, 0, 1)},
        (11, 40, 86),
    )
    yield fires(
        "round trips are slow",
        "CeleryProbeSlow",
        {'celery_scrape_collector_duration_seconds{collector="broker"}': between(10, 60, 2, 0.01)},
        (20, 40, 80),
    )


def of_workers() -> Iterator[Scenario]:
    """Down, not consuming, stalled, restarting, frozen, all gone."""
    a, b = WORKERS
    yield fires(
        "a worker is killed, and comes back",
        "CeleryWorkerDown",
        killed(a, 10, back=40),
        (18, 20, 41),
    )
    # With the exporter's defaults, the series outlives the alert's `for`, and the alert ends with
    # it.
    yield fires(
        "a worker is killed, and forgotten after an hour",
        "CeleryWorkerDown",
        killed(a, 10),
        (18, 65, 76),
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
        "all workers are killed while work waits: not over when they are forgotten",
        {**dead, **ended},
        # The second one comes after the first, which inhibits it (alertmanager.example.yml).
        [
            (17, NO_ALERT),
            (18, ["CeleryNoWorkers"]),
            (21, ["CeleryNoWorkers", "CeleryWorkerDown"]),
            (100, ["CeleryNoWorkers"]),
            (156, NO_ALERT),
        ],
    )
    yield fires(
        "a worker consumes no queue",
        "CeleryWorkerNotConsuming",
        {f'celery_worker_consumed_queues{{worker="{a}"}}': between(10, 30, 0, 2)},
        (12, 14, 36),
    )
    yield fires(
        "a worker names its queues but takes nothing, as after a reconnect",
        "CeleryWorkerNotConsuming",
        state(a, "not_consuming", 10, 30),
        (12, 14, 36),
    )
    yield fires(
        "a worker holds tasks and runs none",
        "CeleryWorkerStalled",
        state(a, "stalled", 10, 30),
        (14, 16, 31),
    )
    yield fires(
        "a worker restarts every three minutes",
        "CeleryWorkerRestarting",
        {
            f'celery_worker_restarts_total{{worker="{a}"}}': counter(
                lambda minute: float(10 <= minute < 40 and minute % 3 == 0)
            )
        },
        (20, 30, 71),
    )
    yield fires(
        "a worker sends heartbeats and answers nothing",
        "CeleryWorkerFrozen",
        {
            f'celery_worker_last_seen_timestamp_seconds{{worker="{a}",source="reply"}}': between(
                10, 40, held(10), now
            ),
            f'celery_worker_replied{{worker="{a}"}}': between(10, 40, 0, 1),
        },
        (19, 22, 41),
    )


def of_queues() -> Iterator[Scenario]:
    """What waits."""
    yield fires(
        "a queue with messages has no consumers",
        "CeleryQueueUnserved",
        queue("reports", between(10, 30, lambda m: m, 0), workers=between(10, 25, 0, 1)),
        (14, 16, 31),
    )
    yield fires(
        "a queue is over its own limit",
        "CeleryQueueOverLimit",
        {
            'celery_queue_length{queue="mail"}': between(10, 40, 60, 0),
            'celery_queue_length_limit{queue="mail"}': always(50),
        },
        (19, 21, 41),
    )
    yield fires(
        "a queue grows without end",
        "CeleryQueueGrowing",
        {
            'celery_queue_length{queue="mail"}': lambda minute: (
                max(0.0, min(minute, 120) - 10) * 10
            ),
            'celery_queue_length_limit{queue="mail"}': always(None),
        },
        (45, 90, 160),
    )


def of_waiting() -> Iterator[Scenario]:
    """How long it waits."""
    labels = 'task="shop.mail",queue="mail"'
    yield fires(
        "tasks wait long",
        "CeleryQueueWaitHigh",
        histogram("celery_task_queue_wait_seconds", labels, 30, between(10, 60, 900, 0.5)),
        (15, 40, 80),
    )
    oldest = 'celery_queue_oldest_message_timestamp_seconds{queue="mail"}'
    yield fires(
        "one task has waited for more than an hour in a queue that is served",
        "CeleryQueueOldestMessage",
        {oldest: until(120, held(10), now)},
        (75, 85, 121),
    )
    yield fires(
        "a message is held nearly as long as Redis lets it",
        "CeleryUnackedNearVisibilityTimeout",
        {"celery_broker_oldest_unacked_timestamp_seconds": until(70, held(10), now)},
        (60, 66, 71),
    )
    held_up = {
        'celery_queue_info{queue="mail",type="classic"}': always(None),
        'celery_queue_info{queue="mail",type="quorum"}': always(1),
        'celery_queue_length{queue="mail"}': between(10, 60, 8, 0),
        'celery_queue_unacked_messages{queue="mail"}': between(10, 60, 16, 2),
        f"celery_task_started_total{{{labels}}}": counter(between(10, 60, 0, 30)),
    }
    yield fires(
        "delayed tasks block a quorum queue", "CeleryQueueBlockedByDelayed", held_up, (30, 50, 62)
    )


def of_tasks() -> Iterator[Scenario]:
    """What fails."""
    bad = between(10, 50, 10, 0)
    yield fires(
        "a third of the executions of a task fail",
        "CeleryTaskFailureRatio",
        task("shop.mail", "mail", succeeded=between(10, 50, 20, 30), failed=bad),
        (15, 35, 70),
    )
    yield fires(
        "all executions of a busy task fail, and it has never succeeded",
        "CeleryTaskFailureRatio",
        {
            name: value if "failed_total" in name or "started" in name else always(None)
            for name, value in task("shop.new", "mail", succeeded=0, failed=bad).items()
        },
        (15, 35, 470),
    )
    hourly = counter(lambda minute: float(minute % 60 == 20 and minute < 400))
    yield fires(
        "an hourly task always fails, until it is repaired",
        "CeleryTaskAlwaysFails",
        {
            'celery_task_failed_total{task="shop.hourly",queue="mail",exception="E"}': hourly,
            'celery_task_succeeded_total{task="shop.hourly",queue="mail"}': counter(
                lambda m: float(m == 440)
            ),
        },
        (100, 250, 445),
    )


def of_times() -> Iterator[Scenario]:
    """What is slow, late or stuck."""
    labels = 'task="shop.mail",queue="mail"'
    slow = histogram(
        "celery_task_runtime_seconds", labels, 30, between(DAY + 60, DAY + 160, 2, 0.5)
    )
    expect = [(DAY + 60, NO_ALERT), (DAY + 120, ["CeleryTaskSlow"]), (DAY + 200, NO_ALERT)]
    yield Scenario("a task takes four times as long as yesterday", slow, expect, step=2)
    yield fires(
        "a task that is expected every hour has not run, and the exporter has forgotten it",
        "CeleryTaskOverdue",
        {
            'celery_vitals:expected_interval_seconds{task="shop.mail",job=""}': always(3600),
            'celery_task_last_succeeded_timestamp_seconds{task="shop.mail"}': between(
                20, 180, None, now
            ),
        },
        (105, 120, 181),
    )
    yield fires(
        "an execution does not end",
        "CeleryTaskStuck",
        {
            'celery_task_oldest_running_start_timestamp_seconds{task="shop.mail"}': until(
                180, held(10), now
            )
        },
        (130, 140, 181),
    )


def all_scenarios() -> list[Scenario]:
    """Every one that is about an alert."""
    return [
        *of_the_exporter(),
        *of_the_broker(),
        *of_workers(),
        *of_queues(),
        *of_waiting(),
        *of_tasks(),
        *of_times(),
    ]
