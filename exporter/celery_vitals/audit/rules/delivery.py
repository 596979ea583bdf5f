"""Delivery: acknowledgements, lost workers, and what happens to a message."""

from __future__ import annotations

import math
from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, names
from celery_vitals.audit.findings import Problem, rule

_TRANSIENT = (1, "1", "transient")


@rule(
    "acks_late_without_reject",
    Severity.WARNING,
    Source.TASKS,
    risk="When a pool process is killed (out of memory, deployment), the message is acknowledged"
    " all the same, and the task is lost despite acks_late.",
    link="task_reject_on_worker_lost",
)
def acks_late_without_reject(facts: Facts) -> Iterator[Problem]:
    """Tasks with acks_late do not reject their message when the worker is lost."""
    pools = {one.pool for one in facts.workers}
    if pools and "prefork" not in pools:
        return  # only a prefork pool survives the loss of a process
    found = [
        one
        for one in facts.late_tasks
        if one.reject_on_worker_lost is not None
        and not one.reject_on_worker_lost
        and not one.retry_on_worker_lost
    ]
    if found:
        first = min(found, key=lambda one: one.name)
        for_all = len(found) == len(facts.tasks)
        yield Problem(
            first.name,
            f"{names(one.name for one in found)}: acks_late without reject_on_worker_lost",
            facts.line("task_reject_on_worker_lost", True)
            if for_all
            else f"@app.task(name={first.name!r}, acks_late=True, reject_on_worker_lost=True)",
            first.evidence("acks_late", "reject_on_worker_lost"),
        )


def _limited_by_broker(facts: Facts) -> bool:
    """Return whether the broker limits deliveries: quorum queues do, since RabbitMQ 4."""
    queues = [one for one in (facts.server.queues or {}).values() if one.kind == "quorum"]
    four = facts.server.version.partition(".")[0] >= "4" and bool(facts.server.version)
    return bool(queues) and all(four or one.argument("delivery-limit") for one in queues)


@rule(
    "reject_on_worker_lost_unlimited",
    Severity.WARNING,
    Source.TASKS,
    Source.BROKER,
    risk="A task that kills its worker is delivered again without a limit, and kills one worker"
    " after the other.",
    link="task_reject_on_worker_lost",
)
def reject_on_worker_lost_unlimited(facts: Facts) -> Iterator[Problem]:
    """Tasks that are rejected when the worker is lost have no limit of deliveries."""
    if _limited_by_broker(facts):
        return
    found = [one for one in facts.late_tasks if one.reject_on_worker_lost]
    counted = [one for one in found if not one.retry_on_worker_lost]
    if not counted:
        return
    first = min(counted, key=lambda one: one.name)
    knows = any("task_retry_on_worker_lost" in one.values for one in facts.configurations)
    on_rabbitmq = facts.broker is not None and facts.broker.kind == "amqp"
    fix = "# Celery 5.7 and newer: task_retry_on_worker_lost = True counts such attempts"
    if knows:
        fix = facts.line("task_retry_on_worker_lost", True)
    elif on_rabbitmq:
        fix = (
            "rabbitmqctl set_policy celery-delivery-limit '.*' '{\"delivery-limit\": 5}'"
            " --apply-to queues  # quorum queues"
        )
    yield Problem(
        first.name,
        f"{names(one.name for one in counted)}: reject_on_worker_lost without a limit of"
        " deliveries",
        fix,
        first.evidence("reject_on_worker_lost", "retry_on_worker_lost"),
    )


@rule(
    "reject_without_acks_late",
    Severity.WARNING,
    Source.TASKS,
    risk="The setting has no effect: a message that is acknowledged before the execution cannot be"
    " rejected, and the task is lost with its worker.",
    link="task_reject_on_worker_lost",
)
def reject_without_acks_late(facts: Facts) -> Iterator[Problem]:
    """reject_on_worker_lost is set where messages are acknowledged early."""
    found = [
        one for one in facts.tasks.values() if one.reject_on_worker_lost and one.acks_late is False
    ]
    if found:
        first = min(found, key=lambda one: one.name)
        yield Problem(
            first.name,
            f"{names(one.name for one in found)}: reject_on_worker_lost without acks_late",
            facts.line("task_acks_late", True),
            first.evidence("reject_on_worker_lost", "acks_late"),
        )


@rule(
    "timeout_requeues",
    Severity.ERROR,
    Source.TASKS,
    risk="A task that exceeds its time limit is delivered again, exceeds it again, and never leaves"
    " the queue.",
    link="task_acks_on_failure_or_timeout",
)
def timeout_requeues(facts: Facts) -> Iterator[Problem]:
    """Tasks with a time limit are requeued when they exceed it."""
    found = [
        one for one in facts.late_tasks if one.acks_on_timeout is False and facts.time_limit(one)
    ]
    if found:
        first = min(found, key=lambda one: one.name)
        newer = any("task_acks_on_timeout" in one.values for one in facts.configurations)
        name = "task_acks_on_timeout" if newer else "task_acks_on_failure_or_timeout"
        yield Problem(
            first.name,
            f"{names(one.name for one in found)}: requeued after each time limit",
            facts.line(name, True),
            (
                *first.evidence("acks_late", "acks_on_timeout"),
                Evidence("time_limit", f"{facts.time_limit(first):g}", first.source),
            ),
        )


@rule(
    "failure_drops_message",
    Severity.WARNING,
    Source.TASKS,
    risk="A failed task is rejected: RabbitMQ sends it to the dead letter exchange of its queue,"
    " every other broker drops it, as RabbitMQ does without such an exchange.",
    link="task_acks_on_failure_or_timeout",
)
def failure_drops_message(facts: Facts) -> Iterator[Problem]:
    """Failed tasks are rejected, and no dead letter exchange keeps them."""
    found = [one for one in facts.late_tasks if one.acks_on_failure is False]
    if not found or any(
        "x-dead-letter-exchange" in arguments for arguments in facts.declared_queues.values()
    ):
        return
    if any(one.argument("dead-letter-exchange") for one in (facts.server.queues or {}).values()):
        return
    first = min(found, key=lambda one: one.name)
    yield Problem(
        first.name,
        f"{names(one.name for one in found)}: rejected after a failure, and no queue has a dead"
        " letter exchange",
        facts.line("task_acks_on_failure_or_timeout", True),
        first.evidence("acks_late", "acks_on_failure"),
    )


@rule(
    "late_tasks_continue_after_disconnect",
    Severity.INFO,
    Source.TASKS,
    Source.SETTINGS,
    Source.BROKER,
    risk="When the connection is lost, RabbitMQ delivers the messages of running tasks again while"
    " these still run.",
    link="worker_cancel_long_running_tasks_on_connection_loss",
)
def late_tasks_continue_after_disconnect(facts: Facts) -> Iterator[Problem]:
    """Tasks with acks_late continue after the connection is lost."""
    name = "worker_cancel_long_running_tasks_on_connection_loss"
    if facts.broker is None or facts.broker.kind != "amqp" or not facts.late_tasks:
        return
    for conf in facts.configurations:
        if conf.get(name) is False:
            yield Problem(
                name,
                f"{names(one.name for one in facts.late_tasks)}: may run twice after a lost"
                " connection",
                conf.line(name, True),
                conf.evidence(name),
            )


@rule(
    "retries_forever",
    Severity.WARNING,
    Source.TASKS,
    risk="A task that cannot succeed is retried for ever, and such tasks accumulate.",
    link="https://docs.celeryq.dev/en/stable/userguide/tasks.html#Task.max_retries",
)
def retries_forever(facts: Facts) -> Iterator[Problem]:
    """Automatic retries have no limit."""
    for task in facts.tasks.values():
        if task.retries_automatically and task.max_retries == math.inf:
            yield Problem(
                task.name,
                f"{task.name} is retried without a limit",
                f"@app.task(name={task.name!r}, max_retries=10)",
                (Evidence(f"{task.name}.max_retries", "None", task.source),),
            )


@rule(
    "retries_without_delay",
    Severity.WARNING,
    Source.TASKS,
    risk="When what the task depends on fails, all its retries come within a moment: they add load"
    " to the failure, and are used up before it is over.",
    link="https://docs.celeryq.dev/en/stable/userguide/tasks.html#Task.retry_backoff",
)
def retries_without_delay(facts: Facts) -> Iterator[Problem]:
    """Automatic retries have no delay between them."""
    for task in facts.tasks.values():
        if (
            task.retries_automatically
            and not task.retry_backoff_max
            and task.default_retry_delay == 0
            and task.max_retries != 0
        ):
            yield Problem(
                task.name,
                f"{task.name} is retried without a delay",
                f"@app.task(name={task.name!r}, retry_backoff=True, retry_backoff_max=600)",
                task.evidence("default_retry_delay"),
            )


@rule(
    "publish_retry_off",
    Severity.WARNING,
    Source.SETTINGS,
    risk="A task that is sent in the moment of a reconnection is lost with an exception instead of"
    " being sent again.",
    link="task_publish_retry",
)
def publish_retry_off(facts: Facts) -> Iterator[Problem]:
    """Tasks are sent without retries."""
    for conf in facts.configurations:
        if conf.get("task_publish_retry") is False:
            yield Problem(
                "task_publish_retry",
                "sending a task is not retried",
                conf.line("task_publish_retry", True),
                conf.evidence("task_publish_retry"),
            )


@rule(
    "messages_not_persistent",
    Severity.WARNING,
    Source.SETTINGS,
    Source.BROKER,
    risk="RabbitMQ keeps the messages in memory only: a restart loses all waiting tasks.",
    link="task_default_delivery_mode",
)
def messages_not_persistent(facts: Facts) -> Iterator[Problem]:
    """Messages are sent as transient ones."""
    for conf in facts.configurations:
        transient = conf.get("task_default_delivery_mode") in _TRANSIENT
        if transient and facts.broker is not None and facts.broker.kind == "amqp":
            yield Problem(
                "task_default_delivery_mode",
                "messages are not written to disk",
                conf.line("task_default_delivery_mode", 2),
                conf.evidence("task_default_delivery_mode"),
            )


@rule(
    "publishes_not_confirmed",
    Severity.INFO,
    Source.SETTINGS,
    Source.BROKER,
    risk="A task that is sent while the connection breaks or RabbitMQ is frozen is lost without an"
    " exception: the send ends in a socket buffer.",
    link="broker_transport_options",
)
def publishes_not_confirmed(facts: Facts) -> Iterator[Problem]:
    """RabbitMQ does not confirm the messages that it receives."""
    if facts.broker is None or facts.broker.kind != "amqp":
        return
    for conf in facts.configurations:
        if not conf.mapping("broker_transport_options").get("confirm_publish"):
            yield Problem(
                "broker_transport_options",
                "confirm_publish is off",
                conf.options_line("broker_transport_options", {"confirm_publish": True}),
                (Evidence("confirm_publish", "False", conf.source),),
            )
