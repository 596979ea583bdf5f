"""The rules of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from celery_vitals.events.cases import Case, CaseKind
from celery_vitals.health.codes import Code
from celery_vitals.health.commands import count, duration, listed
from celery_vitals.health.findings import Finding
from celery_vitals.health.limits import (
    LOST_WITHIN,
    OVERDUE_FACTOR,
    REPEATED_WITHIN,
)
from celery_vitals.health.rules.base import Situation

_REMEDIES = {
    "visibility_timeout": "Set visibility_timeout in broker_transport_options of all workers and"
    " producers above the longest time from delivery to end.",
    "connection_lost": "Set worker_cancel_long_running_tasks_on_connection_loss = True, or"
    " acks_late = False for {task}.",
    "task_id": "Send {task} without task_id.",
}
_IDEMPOTENT = "Set acks_late = False for {task}, or make it idempotent."


def overdue(situation: Situation) -> Iterator[Finding]:
    """Yield the periodic tasks that have not succeeded within their interval.

    A task that has never succeeded is overdue once events were received without interruption for
    that time.
    """
    tasks = situation.status.tasks
    if tasks is None or not tasks.stream_up:
        return
    for task, interval in situation.limits.task_intervals.items():
        last = tasks.last_succeeded.get(task)
        since = last if last is not None or tasks.names_aggregated else tasks.connected_since
        if since is None or situation.now - since <= interval * OVERDUE_FACTOR:
            continue
        yield situation.finding(
            Code.TASK_OVERDUE,
            task,
            f"{task} has not succeeded for {duration(situation.now - since)}, and is expected every"
            f" {duration(interval)}.",
            f"Check that beat runs and sends {task}, and that a worker consumes its queue.",
            {"interval_seconds": interval, "last_succeeded": last},
            since + interval * OVERDUE_FACTOR,
        )


def stuck(situation: Situation) -> Iterator[Finding]:
    """Yield the tasks of which an execution does not end."""
    for task, started in (
        situation.status.tasks.oldest_running.items() if situation.status.tasks else ()
    ):
        limit = situation.limits.task_age(task)
        if situation.now - started > limit:
            yield situation.finding(
                Code.TASK_STUCK,
                task,
                f"An execution of {task} has been running for {duration(situation.now - started)}.",
                f"Set time_limit for {task}, or raise --health.task-age '{task}=SECONDS'.",
                {"started": started, "limit_seconds": limit},
                started + limit,
            )


def lost(situation: Situation) -> Iterator[Finding]:
    """Yield the tasks of which executions were lost in the last hours, and not found again."""
    cases = (
        case
        for case in situation.status.cases.cases
        if case.kind is CaseKind.LOST and not case.found
    )
    for task, group in _by_task(cases, situation.now - LOST_WITHIN).items():
        yield situation.finding(
            Code.TASKS_LOST,
            task,
            f"{count(len(group), 'execution')} of {task} started and will never end, in the last"
            f" {duration(LOST_WITHIN)}.",
            f"Send {task} again for the ids at /lost?kind=lost; acks_late = True and"
            " reject_on_worker_lost = True keep its messages.",
            _evidence(group),
            min(case.decided_at for case in group),
        )


def run_twice(situation: Situation) -> Iterator[Finding]:
    """Yield the tasks of which executions ran twice in the last hour."""
    kinds = (CaseKind.OVERLAPPING, CaseKind.REPEATED)
    cases = (case for case in situation.status.cases.cases if case.kind in kinds)
    for task, group in _by_task(cases, situation.now - REPEATED_WITHIN).items():
        causes = Counter(case.reason for case in group)
        cause = max(causes, key=lambda one: (causes[one], one))
        yield situation.finding(
            Code.TASKS_RUN_TWICE,
            task,
            f"{count(len(group), 'execution')} of {task} ran although another one of the same id"
            f" was running or had ended, in the last {duration(REPEATED_WITHIN)}.",
            _REMEDIES.get(cause, _IDEMPOTENT).format(task=task),
            _evidence(group),
            min(case.decided_at for case in group),
        )


def poison(situation: Situation) -> Iterator[Finding]:
    """Yield the tasks of which a message starts again and again without an end."""
    found = situation.status.tasks.poison if situation.status.tasks is not None else ()
    for task in sorted({one.task for one in found}):
        group = [one for one in found if one.task == task]
        messages, starts = sum(one.messages for one in group), max(one.starts for one in group)
        yield situation.finding(
            Code.TASKS_POISON,
            task,
            f"{count(messages, 'message')} of {task} started up to {starts} times without an end:"
            " it probably kills its worker.",
            f"Set reject_on_worker_lost = False for {task}, and purge or repair the message; its id"
            " is at /lost?kind=poison.",
            {
                "messages": messages,
                "starts": starts,
                "queues": listed({one.queue for one in group if one.queue}),
            },
        )


def _by_task(cases: Iterable[Case], since: float) -> dict[str, list[Case]]:
    groups: dict[str, list[Case]] = {}
    for case in cases:
        if case.decided_at > since:
            groups.setdefault(case.task, []).append(case)
    return groups


def _evidence(group: list[Case]) -> dict[str, str | int | float | None]:
    return {
        "count": len(group),
        "reasons": listed({case.reason for case in group if case.reason}),
        "queues": listed({case.queue for case in group if case.queue}),
        "last": max(case.decided_at for case in group),
    }
