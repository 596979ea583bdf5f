"""The beat schedule."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, names, seconds
from celery_vitals.audit.findings import Problem, rule

_BEAT_PAGE = "https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html#entries"
_SHORT = 60.0
"""Seconds: above, few messages accumulate while no worker consumes."""


@rule(
    "beat_task_unregistered",
    Severity.ERROR,
    Source.SETTINGS,
    Source.ALL_TASKS,
    risk="Every message of the entry is discarded by the worker with a NotRegistered error.",
    link=_BEAT_PAGE,
)
def beat_task_unregistered(facts: Facts) -> Iterator[Problem]:
    """An entry of the beat schedule names a task that is not registered."""
    known = {*facts.tasks, *(name for one in facts.workers for name in one.tasks or ())}
    for entry in facts.schedule:
        if known and entry.task not in known and not entry.task.startswith("celery."):
            yield Problem(
                entry.name,
                f"schedule entry {entry.name}: no task is registered as {entry.task}",
                f"celery -A {facts.app} inspect registered  # or: app.conf.imports ="
                f" [{entry.task.rpartition('.')[0]!r}]",
                (
                    Evidence("task", entry.task, f"beat_schedule[{entry.name!r}]"),
                    Evidence("registered", names(facts.tasks), "app and workers"),
                ),
            )


@rule(
    "beat_queue_unconsumed",
    Severity.ERROR,
    Source.SETTINGS,
    Source.WORKERS,
    risk="The messages of the entry accumulate in the queue, and its task never runs.",
    link=_BEAT_PAGE,
)
def beat_queue_unconsumed(facts: Facts) -> Iterator[Problem]:
    """No worker consumes the queue of an entry of the beat schedule."""
    consumed = facts.consumed
    for entry in facts.schedule:
        if consumed is not None and entry.queue and entry.queue not in consumed:
            yield Problem(
                entry.name,
                f"schedule entry {entry.name} sends to {entry.queue}, which no worker consumes",
                f"celery -A {facts.app} worker -Q {entry.queue}",
                (
                    Evidence("queue", entry.queue, f"beat_schedule[{entry.name!r}]"),
                    Evidence("consumed", names(consumed), "replies to active_queues"),
                ),
            )


@rule(
    "beat_interval_below_time_limit",
    Severity.INFO,
    Source.SETTINGS,
    Source.TASKS,
    risk="Executions of the entry overlap when the task takes longer than its interval.",
    link="https://docs.celeryq.dev/en/stable/tutorials/task-cookbook.html"
    "#ensuring-a-task-is-only-executed-one-at-a-time",
)
def beat_interval_below_time_limit(facts: Facts) -> Iterator[Problem]:
    """An entry of the beat schedule runs more often than its task may take."""
    for entry in facts.schedule:
        task = facts.tasks.get(entry.task)
        limit = task.time_limit if task is not None else None
        if task is not None and limit and entry.interval and entry.interval < limit:
            yield Problem(
                entry.name,
                f"schedule entry {entry.name} runs every {seconds(entry.interval)},"
                f" {entry.task} may take {seconds(limit)}",
                f"@app.task(name={entry.task!r}, time_limit={int(entry.interval)})",
                (
                    Evidence("schedule", f"{entry.interval:g}", f"beat_schedule[{entry.name!r}]"),
                    *task.evidence("time_limit"),
                ),
            )


@rule(
    "beat_entry_without_expiry",
    Severity.INFO,
    Source.SETTINGS,
    risk="While no worker runs, its messages accumulate, and all of them are executed one after the"
    " other afterwards.",
    link=_BEAT_PAGE,
)
def beat_entry_without_expiry(facts: Facts) -> Iterator[Problem]:
    """An entry of the beat schedule runs often, and its messages do not expire."""
    found = [
        one for one in facts.schedule if one.interval and one.interval <= _SHORT and not one.expires
    ]
    if found:
        first = min(found, key=lambda one: one.interval or 0.0)
        yield Problem(
            first.name,
            f"{names(one.name for one in found)}: every {seconds(first.interval or 0)}, without"
            " expires",
            f"'options': {{'expires': {first.interval or 0:g}}}",
            (Evidence("schedule", f"{first.interval:g}", f"beat_schedule[{first.name!r}]"),),
        )
