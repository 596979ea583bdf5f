"""Routing: queues that are named, declared and consumed."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, names
from celery_vitals.audit.findings import Problem, rule

_ROUTING_PAGE = "https://docs.celeryq.dev/en/stable/userguide/routing.html"


def _worker(facts: Facts, queue: str) -> str:
    return f"celery -A {facts.app} worker -Q {queue}"


@rule(
    "route_queue_unconsumed",
    Severity.WARNING,
    Source.SETTINGS,
    Source.WORKERS,
    risk="The tasks that are routed to it wait for ever.",
    link=_ROUTING_PAGE,
)
def route_queue_unconsumed(facts: Facts) -> Iterator[Problem]:
    """No worker consumes a queue that tasks are routed to."""
    consumed = facts.consumed
    for task, queue in sorted(facts.routes.items()):
        if consumed is not None and queue not in consumed:
            yield Problem(
                queue,
                f"{task} is routed to {queue}, which no worker consumes",
                _worker(facts, queue),
                (
                    Evidence("task_routes", f"{task} -> {queue}", _source(facts)),
                    Evidence("consumed", names(consumed), "replies to active_queues"),
                ),
            )


@rule(
    "default_queue_unconsumed",
    Severity.ERROR,
    Source.SETTINGS,
    Source.WORKERS,
    risk="Every task without a route of its own is sent there, and waits for ever.",
    link="task_default_queue",
)
def default_queue_unconsumed(facts: Facts) -> Iterator[Problem]:
    """No worker consumes the default queue."""
    for conf in facts.configurations:
        queue = str(conf.get("task_default_queue"))
        if facts.consumed is not None and queue not in facts.consumed and not _all_routed(facts):
            yield Problem(
                queue,
                f"no worker consumes the default queue {queue}",
                _worker(facts, queue),
                (
                    *conf.evidence("task_default_queue"),
                    Evidence("consumed", names(facts.consumed), "replies to active_queues"),
                ),
            )


def _all_routed(facts: Facts) -> bool:
    tasks = list(facts.tasks)
    return bool(tasks) and all(
        any(fnmatchcase(task, pattern) for pattern in facts.routes) for task in tasks
    )


@rule(
    "route_queue_undeclared",
    Severity.WARNING,
    Source.SETTINGS,
    risk="The queue is created when the first task is sent, with default arguments, and a worker"
    " consumes it only when -Q names it.",
    link="task_create_missing_queues",
)
def route_queue_undeclared(facts: Facts) -> Iterator[Problem]:
    """A route names a queue that is missing in task_queues."""
    conf = facts.conf
    if conf is None or not conf.get("task_queues"):
        return
    for task, queue in sorted(facts.routes.items()):
        served = facts.consumed is not None and queue in facts.consumed
        if queue not in facts.declared_queues and not served:
            yield Problem(
                queue,
                f"{task} is routed to {queue}, which task_queues does not declare",
                f"app.conf.task_queues = [*app.conf.task_queues, Queue({queue!r})]",
                (
                    Evidence("task_routes", f"{task} -> {queue}", conf.source),
                    Evidence("task_queues", names(facts.declared_queues), conf.source),
                ),
            )


@rule(
    "route_of_unknown_task",
    Severity.INFO,
    Source.SETTINGS,
    Source.ALL_TASKS,
    risk="A route with a misspelled name has no effect: the task goes to the default queue.",
    link="task_routes",
)
def route_of_unknown_task(facts: Facts) -> Iterator[Problem]:
    """A route names a task that is not registered."""
    known = {*facts.tasks, *(name for one in facts.workers for name in one.tasks or ())}
    unmatched = [
        pattern
        for pattern in facts.routes
        if not pattern.startswith("celery.")
        and not any(fnmatchcase(task, pattern) for task in known)
    ]
    if known and unmatched:
        yield Problem(
            "task_routes",
            f"no registered task matches {names(unmatched)}",
            f"celery -A {facts.app} inspect registered",
            tuple(
                Evidence("task_routes", f"{pattern} -> {facts.routes[pattern]}", _source(facts))
                for pattern in sorted(unmatched)
            ),
        )


@rule(
    "annotation_of_unknown_task",
    Severity.WARNING,
    Source.SETTINGS,
    Source.ALL_TASKS,
    risk="An annotation with a misspelled name has no effect: the task runs without its limits.",
    link="task_annotations",
)
def annotation_of_unknown_task(facts: Facts) -> Iterator[Problem]:
    """An annotation names a task that is not registered."""
    for conf in facts.configurations:
        for name in sorted(map(str, conf.mapping("task_annotations"))):
            known = name == "*" or name in facts.tasks or name.startswith("celery.")
            if facts.tasks and not known:
                yield Problem(
                    name,
                    f"no registered task is named {name}",
                    f"celery -A {facts.app} inspect registered",
                    (Evidence("task_annotations", name, conf.source),),
                )


def _source(facts: Facts) -> str:
    return facts.conf.source if facts.conf else ""
