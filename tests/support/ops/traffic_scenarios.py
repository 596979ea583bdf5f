"""Failures of the whole cluster, traffic that stops, retries, and thresholds by queue and task."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.ops.simulated_cluster import (
    DAY,
    NO_ALERTS,
    Scenario,
    Series,
    Value,
    between,
    constant,
    counter,
    exporter,
    fires,
    frozen_at,
    histogram,
    override,
    queue,
    task,
)

STARTED = 'celery_exporter_events_received_total{type="task-started"}'
THROUGHPUT = "Throughput|throughput|task_volume|event_stream_up:|task_started:|queue_length:max"
"""The rules of these alerts."""
DROP, QUEUE_DROP = "CeleryTaskThroughputDrop", "CeleryQueueThroughputDrop"


def traffic(of: str, per_minute: Value | float) -> Series:
    """Return a queue and one task of it, with the executions of each minute."""
    return {**queue(of), **task(f"shop.{of}", of, per_minute)}


def shop(orders: Value | float, mail: Value | float = 0) -> Series:
    """Return a cluster with two queues and few series, for scenarios of many days."""

    def both(minute: int) -> float:
        return sum((one(minute) or 0) if callable(one) else one for one in (orders, mail))

    return {
        **exporter(),
        **traffic("orders", orders),
        **traffic("mail", mail),
        STARTED: counter(both),
    }


def by_day(name: str, series: Series, expect: list[tuple[int, tuple[str, ...]]]) -> Scenario:
    """Return a scenario of some days, of these series only."""
    return Scenario(name, {}, expect, base=lambda: series, step=2, only=THROUGHPUT)


def throughout(first: int, last: int) -> list[tuple[int, tuple[str, ...]]]:
    """Expect no alert."""
    return [(minute, NO_ALERTS) for minute in range(first, last, 20)]


def idle() -> Series:
    """Return the two usual tasks without executions."""
    return {**task("shop.order", "orders", 0), **task("shop.mail", "mail", 0)}


def many_tasks(every: int, end: int) -> Series:
    """Return 20 tasks that run every `every` minutes; three of five executions fail until `end`."""
    found = idle()
    for number in range(20):
        succeeds, fails = _outcomes(number, every, end)
        found |= task(f"shop.rare{number}", "mail", succeeded=succeeds, failed=fails)
    return found


def _outcomes(number: int, every: int, end: int) -> tuple[Value, Value]:
    def due(minute: int) -> bool:
        return (minute + number) % every == 0

    def fails(minute: int) -> bool:
        return 10 <= minute < end and (minute // every * 2 + number // 5) % 5 < 3

    return (
        lambda minute: float(due(minute) and not fails(minute)),
        lambda minute: float(due(minute) and fails(minute)),
    )


def cluster_failures() -> Iterator[Scenario]:
    """Yield failures that no task has often enough for an alert of its own."""
    yield fires(
        "60 % of the executions of 20 tasks fail",
        "CeleryTasksFailing",
        many_tasks(5, 60),
        12, 40, 80,
    )  # fmt: skip
    yield fires(
        "60 % of the executions of 20 tasks fail, each of which runs twice an hour",
        "CeleryTasksFailing",
        many_tasks(30, 130),
        30, 100, 200,
    )  # fmt: skip


def retries() -> Iterator[Scenario]:
    """Yield a task that retries, and one for which this is normal."""
    labels = 'task="shop.mail",queue="mail"'
    storm: Series = {f"celery_task_retried_total{{{labels}}}": counter(between(10, 60, 20, 1))}
    yield fires("most executions of a task are retried", "CeleryTaskRetryStorm", storm, 12, 40, 80)


def throughput() -> Iterator[Scenario]:
    """Yield traffic that stops."""
    stopped = between(DAY + 60, DAY + 240, 0, 30)
    stops: list[tuple[int, tuple[str, ...]]] = [
        (DAY + 60, NO_ALERTS),
        (DAY + 84, NO_ALERTS),
        (DAY + 120, (DROP,)),
        (DAY + 200, (DROP,)),
        (DAY + 260, NO_ALERTS),
    ]
    yield by_day("all traffic stops", shop(stopped, stopped), stops)
    one_queue = [(minute, tuple(QUEUE_DROP for _ in names)) for minute, names in stops]
    yield by_day("the traffic of one queue stops", shop(30, stopped), one_queue)


def steady_traffic() -> Iterator[Scenario]:
    """Yield traffic that changes without a fault."""
    first, last = DAY, DAY + 480

    def batch(minute: int) -> float:
        start = 120 if minute < DAY else DAY + 200
        return 100.0 if start <= minute < start + 30 else 0.0

    yield by_day("a nightly batch is late", shop(batch, 0), throughout(first, last))
    new = between(DAY + 60, DAY + 240, 30, 0)
    yield by_day("a queue without a past stops", shop(30, new), throughout(first, last))
    restarted = {
        name: between(DAY + 60, DAY + 72, None, _restarted(value, DAY + 72))
        if "_total" in name or "_seconds_" in name
        else between(DAY + 60, DAY + 66, None, value)
        for name, value in shop(30, 30).items()
    }
    restarted |= {"up": constant(1), 'celery_exporter_build_info{version="1"}': constant(1)}
    yield by_day("the exporter restarts", restarted, throughout(first, last))
    stopped = between(DAY + 60, DAY + 240, 0, 30)
    silent = shop(stopped, stopped) | {
        "celery_exporter_event_stream_up": between(DAY + 62, DAY + 66, 0, 1)
    }
    yield by_day("events were lost", silent, [(DAY + 94, NO_ALERTS), (DAY + 140, (DROP,))])


def weekends() -> Iterator[Scenario]:
    """Yield two weeks with little traffic at weekends."""

    def week(minute: int) -> float:
        workday = minute // DAY % 7 not in (3, 4)
        return (30.0 if workday else 2.0) if 480 <= minute % DAY < 1080 else 1.0

    # From a Wednesday to the Saturday of the next week.
    minutes = [day * DAY + hour * 60 for day in range(11) for hour in range(0, 24, 2)][1:]
    kept = ("up", "celery_exporter_build_info", "celery_exporter_event_stream_up")
    series = {name: value for name, value in exporter().items() if name.startswith(kept)}
    series |= {STARTED: counter(week)}
    quiet = [(minute, NO_ALERTS) for minute in minutes]
    yield Scenario("weekends", {}, quiet, base=lambda: series, step=5, only=THROUGHPUT)


def scopes() -> Iterator[Scenario]:
    """Yield thresholds by queue and by task."""
    waits = histogram(
        "celery_task_queue_wait_seconds", 'task="shop.mail",queue="mail"', 30, constant(900)
    )
    wait_high: list[tuple[int, tuple[str, ...]]] = [(5, NO_ALERTS), (30, ("CeleryQueueWaitHigh",))]
    quiet = throughout(5, 60)
    raised = override("queue_wait_seconds", 7200, ',queue="mail"')
    of_another = {
        **override("queue_wait_seconds", 7200, ',queue="batch"'),
        **override("queue_wait_seconds", 7200, ',queue="mail",task="shop.mail"'),
        **override("queue_wait_seconds", 7200, ',task="shop.mail"'),
    }
    general = override("queue_wait_seconds", 7200)
    yield Scenario("waits below the threshold of their queue", {**waits, **raised}, quiet)
    yield Scenario("waits below the general threshold", {**waits, **general}, quiet)
    yield Scenario("waits, and thresholds of others", {**waits, **of_another}, wait_high)
    lowered = {**general, **override("queue_wait_seconds", 60, ',queue="mail"')}
    yield Scenario("the threshold of the queue wins", {**waits, **lowered}, wait_high)

    failing = task("shop.mail", "mail", 20, 10)
    tolerated = override("task_failure_ratio", 0.5, ',task="shop.mail"')
    intolerant = override("task_failure_ratio", 0.01, ',task="shop.order"')
    yield Scenario("failures below the threshold of their task", {**failing, **tolerated}, quiet)
    yield Scenario(
        "failures, and the threshold of another task",
        {**failing, **intolerant},
        [(5, NO_ALERTS), (30, ["CeleryTaskFailureRatio"])],
    )
    stuck: Series = {
        'celery_task_oldest_running_start_timestamp_seconds{task="shop.mail"}': frozen_at(10)
    }
    long = override("task_stuck_seconds", 1e6, ',task="shop.mail"')
    yield Scenario("a task that may run for days", {**stuck, **long}, throughout(5, 200))
    few = override("task_volume", 1, ',task="shop.vital"')
    yield Scenario(
        "a task of few executions, with a lower volume",
        {**task("shop.vital", "mail", 0.2, 0.2), **few},
        [(5, NO_ALERTS), (40, ["CeleryTaskFailureRatio"])],
    )
    retried: Series = {'celery_task_retried_total{task="shop.mail",queue="mail"}': counter(25)}
    polls = override("task_retry_ratio", 1, ',task="shop.mail"')
    yield Scenario("a task that polls by retries", {**retried, **polls}, quiet)


def _restarted(value: Value, at: int) -> Value:
    """Return a counter that starts again."""

    def again(minute: int) -> float | None:
        total = value(minute)
        start = value(at) if minute >= at else 0
        return None if total is None else total - (start or 0)

    return again


def traffic_faults() -> list[Scenario]:
    """Return the scenarios in which an alert fires."""
    return [*cluster_failures(), *retries(), *throughput()]


def traffic_without_alert() -> list[Scenario]:
    """Return situations in which no alert may fire, and thresholds by queue and by task."""
    return [*steady_traffic(), *weekends(), *scopes()]
