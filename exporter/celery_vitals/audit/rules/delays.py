"""Delays: ETAs, countdowns and retries against what the broker allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timezone

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, TaskFacts, names, seconds
from celery_vitals.audit.findings import Problem, rule

_REDIS_PAGE = (
    "https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html"
    "#visibility-timeout"
)
_TIMEOUT_PAGE = "https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout"
_QUORUM_PAGE = (
    "https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/rabbitmq.html"
    "#using-quorum-queues"
)
CONSUMER_TIMEOUT = 1800.0
"""Seconds: RabbitMQ's default since 3.8.17."""
_FIRST_WITH_TIMEOUT = (3, 8, 17)
_HOUR = 3600
_NEARLY = 0.8
_LONG = 86400.0
"""Seconds: above, a visibility timeout delays the repetition of lost tasks by more than a day."""


def _longer(value: float) -> int:
    """Return a visibility timeout with a reserve of a quarter, in whole hours."""
    return math.ceil(value * 1.25 / _HOUR) * _HOUR


def _option(facts: Facts, value: int) -> str:
    return facts.options_line("broker_transport_options", {"visibility_timeout": value})


def _timeout_evidence(facts: Facts, timeout: float) -> Evidence:
    conf, given = facts.conf, facts.broker.options if facts.broker else {}
    source = conf.source if conf and "visibility_timeout" in given else "kombu's default"
    return Evidence("visibility_timeout", f"{timeout:g}", source)


def _visibility(facts: Facts) -> float | None:
    return facts.broker.visibility_timeout if facts.broker else None


@rule(
    "visibility_timeout_below_eta",
    Severity.ERROR,
    Source.BROKER,
    Source.REDIS_ETA,
    risk="The message is delivered again before the ETA has come, so that the task runs twice.",
    link=_REDIS_PAGE,
)
def visibility_timeout_below_eta(facts: Facts) -> Iterator[Problem]:
    """Tasks wait for an ETA that is later than the visibility timeout."""
    timeout, now = _visibility(facts), datetime.now(timezone.utc)
    longest: dict[str, float] = {}
    for held in facts.server.held or ():
        try:
            eta = datetime.fromisoformat(held.eta.replace("Z", "+00:00"))
        except ValueError:
            continue
        ahead = (eta if eta.tzinfo else eta.replace(tzinfo=timezone.utc)) - now
        longest[held.task] = max(longest.get(held.task, 0.0), ahead.total_seconds())
    for task, ahead_seconds in longest.items():
        if timeout is not None and ahead_seconds > timeout:
            waits = f"{ahead_seconds / _HOUR:.1f} h"
            yield Problem(
                task,
                f"a message of {task} waits for an ETA in {waits},"
                f" the visibility timeout is {seconds(timeout)}",
                _option(facts, _longer(ahead_seconds)),
                (Evidence("eta", waits, "Redis"), _timeout_evidence(facts, timeout)),
            )


@rule(
    "visibility_timeout_below_retry_delay",
    Severity.ERROR,
    Source.BROKER,
    Source.TASKS,
    risk="A retry that waits for longer than the visibility timeout is delivered twice, and runs"
    " twice.",
    link=_REDIS_PAGE,
)
def visibility_timeout_below_retry_delay(facts: Facts) -> Iterator[Problem]:
    """The visibility timeout is shorter than the delay of a retry."""
    timeout = _visibility(facts)
    late = [one for one in facts.tasks.values() if timeout and one.longest_delay > timeout]
    if timeout is None or not late:
        return
    worst = max(late, key=lambda one: one.longest_delay)
    by_backoff = worst.longest_delay == worst.retry_backoff_max
    yield Problem(
        worst.name,
        f"{names(one.name for one in late)}: a retry waits up to {seconds(worst.longest_delay)},"
        f" the visibility timeout is {seconds(timeout)}",
        _option(facts, _longer(worst.longest_delay)),
        (
            *worst.evidence("retry_backoff_max" if by_backoff else "default_retry_delay"),
            _timeout_evidence(facts, timeout),
        ),
    )


@rule(
    "visibility_timeout_below_time_limit",
    Severity.ERROR,
    Source.BROKER,
    Source.TASKS,
    risk="A task with acks_late that runs for longer than the visibility timeout is started a"
    " second time while the first execution still runs.",
    link=_REDIS_PAGE,
)
def visibility_timeout_below_time_limit(facts: Facts) -> Iterator[Problem]:
    """The visibility timeout is not above the time limit of a task with acks_late."""
    timeout = _visibility(facts)
    limits = {one.name: facts.time_limit(one) or 0.0 for one in facts.late_tasks}
    long = {name: limit for name, limit in limits.items() if timeout and limit >= timeout}
    if timeout is None or not long:
        return
    worst = max(long, key=lambda name: long[name])
    yield Problem(
        worst,
        f"{names(long)}: acks_late, and may run for {seconds(long[worst])},"
        f" the visibility timeout is {seconds(timeout)}",
        _option(facts, _longer(long[worst])),
        (
            Evidence("time_limit", f"{long[worst]:g}", facts.tasks[worst].source),
            *facts.tasks[worst].evidence("acks_late"),
            _timeout_evidence(facts, timeout),
        ),
    )


@rule(
    "visibility_timeout_below_runtime",
    Severity.ERROR,
    Source.RUNNING,
    risk="After the visibility timeout the message of a running task with acks_late is delivered to"
    " another worker, and the task runs twice.",
    link=_REDIS_PAGE,
)
def visibility_timeout_below_runtime(facts: Facts) -> Iterator[Problem]:
    """A task with acks_late has been running for nearly as long as the visibility timeout."""
    timeout = _visibility(facts)
    for task, running in sorted(facts.running.items()):
        if timeout is not None and running >= _NEARLY * timeout:
            yield Problem(
                task,
                f"{task} has been running for {running:.0f} s,"
                f" the visibility timeout is {seconds(timeout)}",
                _option(facts, _longer(max(running, timeout))),
                (
                    Evidence("running", f"{running:.0f}", "task events"),
                    Evidence("visibility_timeout", f"{timeout:g}", "the application"),
                ),
                None if running >= timeout else Severity.WARNING,
            )


@rule(
    "visibility_timeout_below_countdown",
    Severity.ERROR,
    Source.BROKER,
    Source.SETTINGS,
    risk="The message is delivered again before its countdown has ended, so that the task runs"
    " twice.",
    link=_REDIS_PAGE,
)
def visibility_timeout_below_countdown(facts: Facts) -> Iterator[Problem]:
    """An entry of the beat schedule has a countdown above the visibility timeout."""
    timeout = _visibility(facts)
    for entry in facts.schedule:
        if timeout is not None and entry.delay > timeout:
            yield Problem(
                entry.name,
                f"schedule entry {entry.name}: countdown {seconds(entry.delay)},"
                f" the visibility timeout is {seconds(timeout)}",
                _option(facts, _longer(entry.delay)),
                (
                    Evidence("countdown", f"{entry.delay:g}", f"beat_schedule[{entry.name!r}]"),
                    _timeout_evidence(facts, timeout),
                ),
            )


@rule(
    "visibility_timeouts_differ",
    Severity.ERROR,
    Source.WORKERS,
    risk="Every worker delivers messages of all others again by its own visibility timeout: the"
    " shortest one applies to all tasks.",
    link=_REDIS_PAGE,
)
def visibility_timeouts_differ(facts: Facts) -> Iterator[Problem]:
    """Workers have different visibility timeouts."""
    known = {
        one.name: one.visibility_timeout
        for one in facts.workers
        if one.visibility_timeout is not None
    }
    if len(set(known.values())) > 1:
        shortest, longest = min(known, key=lambda n: known[n]), max(known, key=lambda n: known[n])
        yield Problem(
            "workers",
            f"{shortest} redelivers after {seconds(known[shortest])}, {longest} after"
            f" {seconds(known[longest])}",
            _option(facts, int(known[longest])),
            tuple(
                Evidence("visibility_timeout", f"{known[name]:g}", f"worker {name}")
                for name in (shortest, longest)
            ),
        )


@rule(
    "visibility_timeout_long",
    Severity.INFO,
    Source.BROKER,
    risk="The tasks of a worker that is killed are delivered again only after the visibility"
    " timeout.",
    link=_REDIS_PAGE,
)
def visibility_timeout_long(facts: Facts) -> Iterator[Problem]:
    """The visibility timeout exceeds a day."""
    timeout = _visibility(facts)
    if timeout is not None and timeout > _LONG:
        limits = [facts.time_limit(one) for one in facts.late_tasks]
        delays = [one.longest_delay for one in facts.tasks.values()]
        needed = max([_HOUR, *(one for one in limits if one), *delays])
        yield Problem(
            "broker_transport_options",
            f"tasks of a lost worker are repeated after {seconds(timeout)}",
            _option(facts, _longer(needed)),
            (_timeout_evidence(facts, timeout),),
        )


def _times_out(facts: Facts) -> bool:
    found = version(facts.server.version)
    return found >= _FIRST_WITH_TIMEOUT


def version(text: str) -> tuple[int, ...]:
    """Return `3.10.8` as numbers; empty where it is none."""
    parts = text.split("-")[0].split("+")[0].split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def _held(facts: Facts, task: TaskFacts) -> float:
    """Return how long a worker may hold the message of a task."""
    limit = facts.time_limit(task) or 0.0 if task.acks_late else 0.0
    return max(limit, task.longest_delay)


@rule(
    "rabbitmq_consumer_timeout",
    Severity.ERROR,
    Source.TASKS,
    Source.RABBITMQ,
    risk="RabbitMQ closes the channel of a worker that holds a message for longer than its consumer"
    " timeout, and delivers all its messages again.",
    link=_TIMEOUT_PAGE,
)
def rabbitmq_consumer_timeout(facts: Facts) -> Iterator[Problem]:
    """A message may be held for longer than RabbitMQ's consumer timeout."""
    if not _times_out(facts):
        return
    queues = (facts.server.queues or {}).values()
    given = [one.argument("consumer-timeout") for one in queues]
    limit = max((one / 1000 for one in given if isinstance(one, int)), default=CONSUMER_TIMEOUT)
    held = {one.name: _held(facts, one) for one in facts.tasks.values()}
    long = {name: value for name, value in held.items() if value >= limit}
    if long:
        worst = max(long, key=lambda name: long[name])
        milliseconds = int(_longer(long[worst]) * 1000)
        yield Problem(
            worst,
            f"{names(long)}: a message is held for up to {seconds(long[worst])} (late"
            f" acknowledgement or retry), the consumer timeout is {seconds(limit)}",
            "rabbitmqctl eval 'application:set_env(rabbit, consumer_timeout,"
            f" {milliseconds}).'  # and consumer_timeout = {milliseconds} in rabbitmq.conf",
            (
                *facts.tasks[worst].evidence("acks_late", "time_limit", "default_retry_delay"),
                Evidence("consumer_timeout", f"{limit:g}", f"RabbitMQ {facts.server.version}"),
            ),
        )


@rule(
    "eta_on_quorum_queue",
    Severity.WARNING,
    Source.BROKER,
    Source.SETTINGS,
    risk="Tasks with an ETA or countdown, retries included, fill the fixed prefetch limit of the"
    " worker, which then takes no other task until they are due.",
    link=_QUORUM_PAGE,
)
def eta_on_quorum_queue(facts: Facts) -> Iterator[Problem]:
    """A quorum queue has a direct exchange, so that delayed tasks wait inside the worker."""
    declared = {
        name
        for name, arguments in facts.declared_queues.items()
        if arguments.get("x-queue-type") == "quorum" and name in facts.direct_queues
    }
    consumed = {name for one in facts.workers for name in one.quorum_queues & one.direct_queues}
    if not facts.broker or facts.broker.kind != "amqp" or not declared | consumed:
        return
    queue = sorted(declared | consumed)[0]
    default = facts.conf.get("task_default_queue") if facts.conf else None
    fix = (
        facts.line("task_default_exchange_type", "topic")
        if queue == default and len(declared | consumed) == 1
        else f"Queue({queue!r}, Exchange({queue!r}, type='topic'), routing_key={queue!r},"
        " queue_arguments={'x-queue-type': 'quorum'})"
    )
    yield Problem(
        queue,
        f"{names(declared | consumed)}: quorum queue with a direct exchange; delayed delivery"
        " requires a topic exchange",
        fix,
        (
            Evidence("x-queue-type", "quorum", f"queue {queue}"),
            Evidence("exchange type", "direct", f"queue {queue}"),
        ),
    )


@rule(
    "quorum_detection_off",
    Severity.ERROR,
    Source.BROKER,
    Source.SETTINGS,
    risk="Quorum queues do not support the global prefetch limit: RabbitMQ closes the channel of"
    " the worker.",
    link="worker_detect_quorum_queues",
)
def quorum_detection_off(facts: Facts) -> Iterator[Problem]:
    """Quorum queues are used, and their detection is off."""
    quorum = sorted(
        name
        for name, arguments in facts.declared_queues.items()
        if arguments.get("x-queue-type") == "quorum"
    )
    for conf in facts.configurations:
        if quorum and conf.get("worker_detect_quorum_queues") is False:
            yield Problem(
                quorum[0],
                f"{names(quorum)}: quorum queue, and worker_detect_quorum_queues is off",
                conf.line("worker_detect_quorum_queues", True),
                conf.evidence("worker_detect_quorum_queues"),
            )
