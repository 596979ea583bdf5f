"""Lost, repeated, discarded and dead-lettered tasks, and the normal events that resemble them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.support.ops.simulated_cluster import (
    NO_ALERTS,
    WORKERS,
    Scenario,
    Series,
    Value,
    between,
    constant,
    counter,
    fires,
    frozen_at,
    override,
    queue,
    stopped,
    task,
    until,
)

A, B = WORKERS
MAIL = 'task="shop.mail",queue="mail"'
LOST, TWICE, DISCARDED = "CeleryTasksLost", "CeleryTaskRunsTwice", "CeleryTasksDiscarded"
DEAD = "CeleryDeadLettersGrow"
UNROUTABLE = "celery_broker_unroutable_messages_total"


def once(at: int, count: float = 1, before: float | None = 0) -> Value:
    """Return a counter that rises once; with `before` None, it exists from the minute before on."""
    return until(at - 1, before, until(at, 0, count))


def lost(value: Value, reason: str = "worker_gone") -> Series:
    """Return the counter of lost executions."""
    return {f'celery_task_lost_total{{{MAIL},reason="{reason}"}}': value}


def orphaned(start: int, end: int) -> Series:
    """Return an execution whose worker is gone and that is not decided from minute to minute."""
    oldest = f"celery_task_oldest_orphaned_timestamp_seconds{{{MAIL}}}"
    return {
        f"celery_task_orphaned{{{MAIL}}}": between(start, end, 1, 0),
        oldest: between(start, end, frozen_at(start), None),
    }


def redelivered(at: int) -> Series:
    """Return the books after the message of an orphan was delivered again, and its task ended."""
    return {
        f"celery_task_redelivered_total{{{MAIL}}}": once(at),
        f"celery_task_without_sent_event{{{MAIL}}}": until(at, 1, 2),
    }


def losses() -> Iterator[Scenario]:
    """Yield lost executions."""
    yield fires("a worker is killed, and its task is lost", LOST, lost(once(20)), 29, 31, 381)
    yield fires(
        "a child process is killed, the first event of its kind",
        LOST,
        lost(once(20, before=None), "child_killed"),
        29, 31, 381,
    )  # fmt: skip
    every_ten = counter(lambda minute: float(20 <= minute <= 100 and minute % 10 == 0))
    yield Scenario(
        "child processes are killed every ten minutes: their tasks also fail",
        lost(every_ten, "child_killed"),
        [(25, NO_ALERTS), (60, [LOST]), (100, [LOST]), (470, NO_ALERTS)],
    )
    yield Scenario(
        "workers are killed every ten minutes",
        lost(every_ten),
        [
            (25, NO_ALERTS),
            (40, [LOST]),
            (60, [LOST, f"{LOST}:critical"]),
            (100, [LOST, f"{LOST}:critical"]),
            (120, [LOST]),
            (470, NO_ALERTS),
        ],
    )
    yield fires(
        "the message of a dead worker is not delivered again",
        "CeleryTaskOrphaned",
        orphaned(10, 200),
        130, 136, 201,
    )  # fmt: skip


def repetitions() -> Iterator[Scenario]:
    """Yield tasks that run twice, and messages that kill their worker."""
    overlapping = f"celery_task_overlapping_total{{{MAIL},cause="
    required = 'celery_task_required_visibility_timeout_seconds{task="shop.mail"}'
    yield fires(
        "the visibility timeout is shorter than a task",
        TWICE,
        {f'{overlapping}"visibility_timeout"}}': once(20), required: until(25, None, 5400)},
        24, 26, 81,
    )  # fmt: skip
    repeated = f'celery_task_repeated_total{{{MAIL},cause="task_id"}}'
    yield fires("a task id is used again", TWICE, {repeated: once(20, before=None)}, 24, 26, 81)
    yield fires(
        "a message starts again and again",
        "CeleryTaskPoison",
        {
            f"celery_task_poison{{{MAIL}}}": between(20, 60, 1, 0),
            f"celery_task_poison_max_starts{{{MAIL}}}": between(20, 60, lambda m: m - 17, None),
        },
        24, 26, 61,
    )  # fmt: skip


def discarded() -> Iterator[Scenario]:
    """Yield tasks that are given up, and dead letters."""
    unregistered = 'celery_task_unregistered_total{task="shop.gone",producer="web@shop"}'
    yield fires("a worker does not know a task", DISCARDED, {unregistered: once(20)}, 24, 26, 81)
    rejected = f"celery_task_rejected_total{{{MAIL}}}"
    yield fires("a task is rejected", DISCARDED, {rejected: once(20)}, 24, 26, 81)
    for name, series in (
        ("many tasks expire", f'celery_task_revoked_total{{{MAIL},reason="expired"}}'),
        ("many tasks exhaust their retries", f"celery_task_retries_exhausted_total{{{MAIL}}}"),
        ("many messages have no queue", UNROUTABLE),
    ):
        yield fires(name, DISCARDED, {series: counter(between(20, 60, 1, 0))}, 40, 46, 121)
    # Nothing consumes the queue, so its messages are reported, with the severity info.  They were
    # rejected, but not discarded.
    yield Scenario(
        "messages are dead-lettered",
        {
            'celery_queue_length{queue="orders.dead"}': until(20, 0, until(60, 7, 0)),
            'celery_task_rejected_total{task="shop.order",queue="orders"}': once(20, 7),
        },
        [
            (24, NO_ALERTS),
            (26, [DEAD]),
            (40, [DEAD, "CeleryQueueUnserved:info"]),
            (81, NO_ALERTS),
        ],
    )


def ledger_faults() -> list[Scenario]:
    """Return the scenarios in which an alert fires."""
    return [*losses(), *repetitions(), *discarded()]


def throughout(last: int) -> list[tuple[int, Sequence[str]]]:
    """Expect no alert at any time up to this minute."""
    return [(minute, NO_ALERTS) for minute in range(5, last + 1, 5)]


def changes_of_workers() -> Iterator[Scenario]:
    """Yield the books during planned changes of workers."""
    running = f'celery_task_in_flight{{{MAIL},state="running"}}'
    drained: Series = {running: until(10, 4, until(14, 2, until(18, 0, 4)))}
    warm = {**stopped(A, 14, back=15), **stopped(B, 18, back=19), **drained}
    yield Scenario("a deployment with warm shutdown", warm, throughout(90))
    # The workers end before their tasks; the broker delivers the messages to the new ones.
    cold = {
        **stopped(A, 10, back=12),
        **stopped(B, 13, back=15),
        **orphaned(10, 16),
        **redelivered(16),
    }
    yield Scenario("a deployment with cold shutdown, late acknowledgement", cold, throughout(90))
    timeout = "celery_broker_visibility_timeout_seconds"
    yield Scenario(
        "a deployment with cold shutdown, late acknowledgement, on RabbitMQ",
        {**cold, **orphaned(10, 40), **redelivered(40), timeout: constant(None)},
        throughout(90),
    )
    yield Scenario(
        "an orphan, and a visibility timeout of 12 hours",
        {**orphaned(10, 400), timeout: constant(43200)},
        throughout(400)[::10],
    )
    yield Scenario(
        "a deployment with cold shutdown, late acknowledgement, on Redis: after an hour",
        {**stopped(A, 10, back=12), **orphaned(10, 72), **redelivered(72)},
        throughout(150),
    )
    yield Scenario(
        "a worker is scaled down while it runs tasks",
        {**stopped(B, 20), running: until(10, 4, until(20, 1, 0))},
        throughout(90),
    )
    slots = f'celery_worker_pool_slots{{worker="{A}"}}'
    yield Scenario(
        "child processes are replaced, and their number changes, by --autoscale",
        {slots: lambda minute: 2 + minute // 10 % 3 * 2},
        throughout(60),
    )
    seen = "celery_worker_last_seen_timestamp_seconds"
    silent = {f'{seen}{{worker="{name}",source="heartbeat"}}': constant(None) for name in WORKERS}
    yield Scenario("workers without heartbeats", {**silent, running: constant(8)}, throughout(90))


def life_of_tasks() -> Iterator[Scenario]:
    """Yield the books of tasks that take long, are terminated, wait, or end late."""
    running = f'celery_task_in_flight{{{MAIL},state="running"}}'
    started = 'celery_task_oldest_running_start_timestamp_seconds{task="shop.mail"}'
    yield Scenario(
        "a task of five hours",
        {
            running: between(10, 310, 1, 0),
            started: between(10, 310, frozen_at(10), None),
            **override("task_stuck_seconds", 6 * 3600, ',task="shop.mail"'),
        },
        throughout(340),
    )
    terminated = f'celery_task_revoked_total{{{MAIL},reason="terminated"}}'
    yield Scenario("tasks are terminated", {terminated: counter(1)}, throughout(90))
    held = f'celery_task_in_flight{{{MAIL},state="held"}}'
    yield Scenario("tasks wait for their ETA", {held: constant(5000)}, throughout(90))
    found = {**lost(once(20)), f"celery_task_found_total{{{MAIL}}}": once(24)}
    yield Scenario("a lost task ends after all", found, throughout(90))
    requeued = {
        f"celery_task_{name}_total{{{MAIL}}}": counter(2) for name in ("rejected", "requeued")
    }
    yield Scenario("tasks are requeued", requeued, throughout(90))
    few = {
        f'celery_task_revoked_total{{{MAIL},reason="expired"}}': counter(lambda m: m % 5 == 0),
        f"celery_task_retries_exhausted_total{{{MAIL}}}": once(20, 3),
    }
    yield Scenario("a few tasks expire, or exhaust their retries", few, throughout(120))
    idle = {
        **{
            name: value
            for of in ("orders", "mail")
            for name, value in queue(of, 0, between(10, 80, 0, 2), 0).items()
        },
        **stopped(A, 10, back=80),
        **stopped(B, 10, back=80),
        UNROUTABLE: counter(between(10, 80, 8, 0)),
    }
    yield Scenario("no worker is up to receive commands", idle, throughout(200))


def old_losses() -> Iterator[Scenario]:
    """Yield losses and dead letters of the past, and overrides."""
    yield Scenario(
        "the exporter restarts after losses",
        {
            **lost(until(30, 40, until(35, None, 0))),
            f'celery_task_repeated_total{{{MAIL},cause="unknown"}}': until(
                30, 9, until(35, None, 0)
            ),
        },
        throughout(90),
    )
    dead = queue("orders.dead", 500, workers=1, evidence="")
    length = 'celery_queue_length{queue="orders.dead"}'
    yield Scenario("old dead letters", dead, throughout(90))
    yield Scenario(
        "old dead letters, and the exporter restarts",
        {**dead, length: between(30, 35, None, 500)},
        throughout(90),
    )
    yield Scenario(
        "a task of which some executions may be lost",
        {**lost(once(20, 5)), **override("task_lost", 5, ',task="shop.mail"')},
        throughout(90),
    )
    yield Scenario(
        "a task of which none may be lost, where others may",
        {
            **lost(once(20, 5)),
            **override("task_lost", 0, ',task="shop.mail"'),
            **override("task_lost", 100),
        },
        [(20, NO_ALERTS), (40, [LOST])],
    )
    yield Scenario("a task with a fixed id", _fixed_id(), throughout(90))


def _fixed_id() -> Series:
    repeated = f'celery_task_repeated_total{{{MAIL},cause="task_id"}}'
    return {
        **task("shop.mail", "mail"),
        repeated: counter(1),
        **override("task_repeated", float("inf"), ',task="shop.mail"'),
    }


def ledger_without_alert() -> list[Scenario]:
    """Return situations in which no alert may fire."""
    return [*changes_of_workers(), *life_of_tasks(), *old_losses()]
