"""Priorities that have no effect."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, names
from celery_vitals.audit.findings import Problem, rule

_PAGE = "https://docs.celeryq.dev/en/stable/userguide/routing.html#rabbitmq-message-priorities"
_REDIS_PAGE = "https://docs.celeryq.dev/en/stable/userguide/routing.html#redis-message-priorities"


def _kind(facts: Facts) -> str:
    return facts.broker.kind if facts.broker else ""


def _uses(facts: Facts) -> Evidence | None:
    """Return where the project sets a priority."""
    for conf in facts.configurations:
        if conf.get("task_default_priority") is not None:
            return conf.evidence("task_default_priority")[0]
    for task in facts.tasks.values():
        if task.priority is not None:
            return task.evidence("priority")[0]
    return None


@rule(
    "priority_without_queue_support",
    Severity.WARNING,
    Source.BROKER,
    Source.SETTINGS,
    risk="RabbitMQ ignores the priority of a message in a queue without x-max-priority: urgent"
    " tasks wait behind all others.",
    link=_PAGE,
)
def priority_without_queue_support(facts: Facts) -> Iterator[Problem]:
    """Tasks have priorities, and queues on RabbitMQ do not support them."""
    used, conf = _uses(facts), facts.conf
    if used is None or conf is None or _kind(facts) != "amqp":
        return
    plain = [
        name
        for name, arguments in facts.declared_queues.items()
        if "x-max-priority" not in arguments and arguments.get("x-queue-type") != "quorum"
    ]
    if plain and not conf.get("task_queue_max_priority"):
        yield Problem(
            names(plain),
            f"{used.name} = {used.value}, and {names(plain)} has no x-max-priority",
            f"{conf.line('task_queue_max_priority', 10)}  # existing queues must be deleted first",
            (used, *conf.evidence("task_queue_max_priority")),
        )


@rule(
    "queue_max_priority_without_effect",
    Severity.WARNING,
    Source.BROKER,
    Source.SETTINGS,
    risk="Only RabbitMQ reads it; on Redis, priorities are steps of the transport, and 0 is the"
    " highest one.",
    link=_REDIS_PAGE,
)
def queue_max_priority_without_effect(facts: Facts) -> Iterator[Problem]:
    """task_queue_max_priority is set on a broker other than RabbitMQ."""
    for conf in facts.configurations:
        if conf.get("task_queue_max_priority") is not None and _kind(facts) not in ("", "amqp"):
            yield Problem(
                "task_queue_max_priority",
                f"task_queue_max_priority has no effect on {_kind(facts)}",
                conf.options_line(
                    "broker_transport_options",
                    {"priority_steps": [0, 3, 6, 9], "queue_order_strategy": "priority"},
                ),
                conf.evidence("task_queue_max_priority"),
            )


@rule(
    "redis_priority_order",
    Severity.WARNING,
    Source.BROKER,
    Source.SETTINGS,
    risk="By default a worker takes from its queues in turn: priorities count within one queue, and"
    " not between queues.",
    link=_REDIS_PAGE,
)
def redis_priority_order(facts: Facts) -> Iterator[Problem]:
    """Tasks have priorities on Redis, and workers consume several queues in turn."""
    used, conf = _uses(facts), facts.conf
    if used is None or conf is None or _kind(facts) not in ("redis", "sentinel"):
        return
    several = [one for one in facts.workers if len(one.queues or ()) > 1]
    options = conf.mapping("broker_transport_options")
    if several and options.get("queue_order_strategy", "round_robin") == "round_robin":
        worker = several[0]
        yield Problem(
            "broker_transport_options",
            f"{worker.name} takes from {names(worker.queues or ())} in turn",
            conf.options_line("broker_transport_options", {"queue_order_strategy": "priority"}),
            (
                used,
                Evidence("queue_order_strategy", "round_robin", conf.source),
            ),
        )


@rule(
    "quorum_queue_with_max_priority",
    Severity.ERROR,
    Source.SETTINGS,
    risk="RabbitMQ refuses to declare a quorum queue with x-max-priority, and the worker does not"
    " start.",
    link="https://www.rabbitmq.com/docs/quorum-queues#priorities",
)
def quorum_queue_with_max_priority(facts: Facts) -> Iterator[Problem]:
    """A quorum queue is declared with x-max-priority."""
    highest = facts.conf.get("task_queue_max_priority") if facts.conf else None
    for name, arguments in sorted(facts.declared_queues.items()):
        given = arguments.get("x-max-priority", highest)
        if arguments.get("x-queue-type") == "quorum" and given is not None:
            yield Problem(
                name,
                f"{name} is a quorum queue with x-max-priority",
                facts.line("task_queue_max_priority", None),
                (
                    Evidence("x-queue-type", "quorum", f"queue {name}"),
                    Evidence("x-max-priority", str(given), f"queue {name}"),
                ),
            )
