"""Workers that consume nothing, and queues without consumers: which of them page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.support.ops.simulated_cluster import (
    NO_ALERTS,
    QUEUES,
    WORKERS,
    Scenario,
    Series,
    Value,
    between,
    constant,
    fires,
    healthy,
    override,
    queue,
    stopped,
    until,
)

A, B = WORKERS
NOT_CONSUMING, STALLED = "CeleryWorkerNotConsuming", "CeleryWorkerStalled"
UNSERVED = "CeleryQueueUnserved"


def state(worker: str, name: str, start: int, end: int) -> Series:
    """Put a worker in a state instead of `up`."""
    return {
        f'celery_worker_state{{worker="{worker}",state="{name}"}}': between(start, end, 1, 0),
        f'celery_worker_state{{worker="{worker}",state="up"}}': between(start, end, 0, 1),
    }


def cancelled(worker: str, start: int, end: int) -> Series:
    """Cancel all consumers of a worker."""
    none: Series = {
        f'celery_worker_consumed_queues{{worker="{worker}"}}': between(start, end, 0, 2)
    }
    for name in QUEUES:
        series = f'celery_worker_queue_info{{worker="{worker}",queue="{name}"}}'
        none[series] = between(start, end, None, 1)
    return none


def waiting(name: str, start: int, end: int) -> Series:
    """Let messages wait in a queue."""
    return {f'celery_queue_length{{queue="{name}"}}': between(start, end, 7, 0)}


def empty() -> Series:
    """Return the two queues without messages."""
    return {f'celery_queue_length{{queue="{name}"}}': constant(0) for name in QUEUES}


def _in_turn(name: str, alert: str, changes: Mapping[str, Value]) -> Scenario:
    """Expect a warning while no message waits, and both alerts from minute 40 to 60."""
    expect = [
        (24, NO_ALERTS),
        (30, [f"{alert}:warning"]),
        (50, [alert, f"{alert}:warning"]),
        (70, [f"{alert}:warning"]),
        (86, NO_ALERTS),
    ]
    return Scenario(name, {**empty(), **changes, **waiting("mail", 40, 60)}, expect)


def consumer_faults() -> Iterator[Scenario]:
    """Yield workers that consume nothing, and queues without consumers."""
    yield fires(
        "a worker consumes no queue",
        NOT_CONSUMING,
        {**cancelled(A, 10, 24), **waiting("mail", 11, 24)},
        13, 15, 30,
    )  # fmt: skip
    yield fires(
        "a worker reports its queues but receives no messages, as after a reconnect",
        NOT_CONSUMING,
        {**state(A, "not_consuming", 10, 24), **waiting("mail", 10, 24)},
        12, 14, 30,
    )  # fmt: skip
    yield fires(
        "a worker holds tasks and starts none",
        STALLED,
        {**state(A, "stalled", 10, 24), **waiting("mail", 10, 24)},
        14, 16, 30,
    )  # fmt: skip
    yield _in_turn(
        "a worker consumes no queue, and messages wait later",
        NOT_CONSUMING,
        cancelled(A, 10, 80),
    )
    yield _in_turn("a worker stalls, and messages wait later", STALLED, state(A, "stalled", 10, 80))
    yield from _unserved_queues()


def _unserved_queues() -> Iterator[Scenario]:
    """Yield queues with messages and without consumers."""
    growing = between(10, 30, lambda m: m, 0)
    yield fires(
        "a queue with messages has no consumers",
        UNSERVED,
        queue("reports", growing, workers=between(10, 25, 0, 1)),
        14, 16, 31,
    )  # fmt: skip
    for evidence in ("setting", "event", "binding"):
        yield fires(
            f"a queue with messages has never had consumers, and is known by {evidence}",
            UNSERVED,
            queue("reports", growing, workers=0, evidence=evidence),
            14, 16, 31,
        )  # fmt: skip
    restarted = queue("reports", between(10, 40, 5, 0), workers=until(10, 1, 0))
    evidence_info = 'celery_queue_evidence_info{queue="reports",evidence="worker"}'
    yield fires(
        "a queue had consumers before the exporter restarted",
        UNSERVED,
        {**restarted, evidence_info: until(12, 1, None)},
        14, 30, 41,
    )  # fmt: skip
    yield Scenario(
        "a queue of another program has messages and no consumers",
        queue("mail.dead", between(10, 40, 5, 0), workers=0, evidence=""),
        [(20, NO_ALERTS), (30, [f"{UNSERVED}:info"]), (41, NO_ALERTS)],
    )
    yield Scenario(
        "no worker is up; another program consumes its queues in the same broker",
        {
            **stopped(A, 10),
            **stopped(B, 10),
            **empty(),
            **waiting("mail", 10, 40),
            'celery_queue_workers{queue="mail"}': until(10, 2, 0),
            **queue("invoices", 5, workers=0, evidence=""),
            'celery_queue_consumers{queue="invoices"}': constant(3),
        },
        [(14, NO_ALERTS), (16, ["CeleryNoWorkers"]), (46, NO_ALERTS)],
    )


def consumers_without_alert() -> Iterator[Scenario]:
    """Yield situations in which no alert may fire."""
    none_up = {**stopped(A, 10), **stopped(B, 10), **empty()}
    none_up |= {f'celery_queue_workers{{queue="{name}"}}': until(10, 2, 0) for name in QUEUES}
    yield Scenario(
        "workers are scaled to zero while a dead-letter queue has messages",
        {**none_up, **queue("mail.dead", 9, workers=0, evidence="")},
        [(minute, NO_ALERTS) for minute in range(5, 120, 5)],
    )
    for name, labels, value in (
        ("a paused queue has an override", ',queue="reports"', float("inf")),
        ("some messages may wait in every queue", "", 50.0),
    ):
        yield Scenario(
            name,
            {**queue("reports", 9, workers=0), **override("queue_waiting_length", value, labels)},
            [(minute, NO_ALERTS) for minute in range(5, 60, 5)],
        )
    yield Scenario(
        "the override of another queue changes nothing",
        {
            **queue("reports", 9, workers=0),
            **override("queue_waiting_length", 99.0, ',queue="mail"'),
            **override("queue_waiting_length", 99.0, ',queue="absent"'),
            **override("queue_waiting_length", 99.0, ',queue="reports",task="shop.mail"'),
        },
        [(4, NO_ALERTS), (6, [UNSERVED])],
    )
    yield Scenario(
        "two clusters with a worker of the same name, of which one consumes no queue",
        {**cancelled(A, 10, 13), **waiting("mail", 10, 12), **_staging()},
        [(minute, NO_ALERTS) for minute in range(5, 60, 5)],
    )


def _staging() -> Series:
    target = 'job="any name",instance="staging:10818",namespace="staging"'
    found: Series = {}
    for name, value in {**healthy(), **waiting("mail", 0, 60)}.items():
        metric, brace, labels = name.partition("{")
        found[f"{metric}{{{target}{',' + labels if brace else '}'}"] = value
    return found
