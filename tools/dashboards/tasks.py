"""Tasks: what fails, what is slow, what is overdue; all of it by task."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from tools.dashboards import look
from tools.dashboards.board import Board, Pick, Row
from tools.dashboards.panels import (
    CARRY,
    About,
    Ask,
    Column,
    heat_panel,
    series_panel,
    stat_panel,
    table_panel,
    uid,
)
from tools.dashboards.query import NOW, RANGE, age, buckets, gauge, most, quantile, rate, top, total
from tools.dashboards.words import Needs, Quiet, Words

TASK = 'task=~"$task"'
QUEUE = 'queue=~"$queue"'
ONE = f"/d/{uid('tasks')}?{CARRY}&var-task=${{__data.fields.Task}}"
COLOURS = {
    "succeeded": look.GOOD,
    "failed": look.BAD,
    "retried": look.WATCH,
    "rejected": "purple",
    "revoked": "yellow",
}
RUNTIME, WAIT = "celery_task_runtime_seconds", "celery_task_queue_wait_seconds"


def _rate(outcome: str, over: str = RANGE) -> str:
    return rate(f"celery_task_{outcome}_total", TASK, QUEUE, over=over)


def _ended(over: str, *by: str) -> str:
    return total(f"{_rate('failed', over)} or {_rate('succeeded', over)}", *by)


def _failing(over: str, *by: str) -> str:
    """The share of ended runs that failed; 0 for what has never failed."""
    return f"({total(_rate('failed', over), *by)} or 0 * {_ended(over, *by)}) / ({_ended(over, *by)} > 0)"


HEARD = stat_panel(
    About(
        "Task events",
        look.NONE,
        Words(
            "Whether the exporter hears what workers tell of their tasks; everything here comes from that.",
            "UP.",
            "DOWN: all other numbers here stand still and tell of the past.",
            "see the Exporter dashboard; start workers with -E, or the exporter with --enable-events",
        ),
        Needs.EVENTS,
        "exporter",
    ),
    Ask(f"min ({gauge('celery_exporter_event_stream_up')})"),
    steps=((None, look.OFF),),
    mappings=look.ANSWERS,
)
ENDED = stat_panel(
    About(
        "Ended",
        look.TASKS_PER_SECOND,
        Words(
            "Tasks that succeeded or failed, each second, over the last 5 minutes.",
            "as usual at this time.",
            "0 while messages wait.",
            "see whether workers are up and consume",
        ),
        Needs.EVENTS,
        "workers",
        2,
    ),
    Ask(_ended(NOW)),
)
FAILING = stat_panel(
    About(
        "Failing",
        look.SHARE,
        Words(
            "The share of ended tasks that failed, over the last 5 minutes; retries do not count.",
            "what is usual for your tasks.",
            "orange from 2 %, red from 10 %.",
            "find the task in the table, choose it, and read its exceptions",
        ),
        Needs.EVENTS,
        decimals=1,
    ),
    Ask(_failing(NOW)),
    steps=look.rising(0.02, 0.1),
)
RETRIED = stat_panel(
    About(
        "Retried",
        look.TASKS_PER_SECOND,
        Words(
            "Tasks that asked for another try, each second, over the last 5 minutes.",
            "near 0.",
            "many: something that the tasks need is not there.",
            "see below which task retries",
        ),
        Quiet("No task has been retried"),
        decimals=2,
    ),
    Ask(total(_rate("retried", NOW))),
)
RUNNING = stat_panel(
    About(
        "Running",
        look.TASKS,
        Words(
            "Tasks begun and not ended.",
            "fewer than the workers have slots.",
            "as many as slots, for long: no room for more.",
            "see which task takes the slots",
        ),
        Needs.EVENTS,
        "workers",
        0,
    ),
    Ask(total(gauge("celery_task_running", TASK))),
)
LONGEST = stat_panel(
    About(
        "Longest running",
        look.SECONDS,
        Words(
            "How long the oldest of the running tasks has run.",
            "less than your longest task takes.",
            "more: a task hangs and takes a slot for ever. Orange from 10 minutes, red from 1 hour.",
            "find it with `celery inspect active`; give tasks a time limit",
        ),
        Quiet("Nothing runs"),
        "workers",
    ),
    Ask(most(age("celery_task_oldest_running_start_timestamp_seconds", TASK, how="min"))),
    steps=look.rising(600, 3600),
)
WAITED = stat_panel(
    About(
        "95 % wait below",
        look.SECONDS,
        Words(
            "The waiting time that 95 % of the tasks stayed below in the last 5 minutes.",
            "seconds.",
            "orange from 30 seconds, red from 5 minutes.",
            "see the Queues dashboard: which queue is behind",
        ),
        Needs.SENT,
        "queues",
    ),
    Ask(quantile(0.95, WAIT, TASK, QUEUE, over=NOW)),
    steps=look.rising(30, 300),
)
RAN = stat_panel(
    About(
        "95 % run below",
        look.SECONDS,
        Words(
            "The runtime that 95 % of the successful runs stayed below in the last 5 minutes.",
            "as usual for these tasks.",
            "rising: see the heat map whether all became slower, or some.",
            "choose the slowest task in the table",
        ),
        Needs.EVENTS,
    ),
    Ask(quantile(0.95, RUNTIME, TASK, QUEUE, over=NOW)),
)

TABLE = table_panel(
    About(
        "Task by task",
        look.NONE,
        Words(
            "Each task in the last 5 minutes. A dash: it did not happen, or is not known.",
            "no colour.",
            "orange or red shares of failures.",
            "click a task to see it alone, with its exceptions",
        ),
        Needs.EVENTS,
    ),
    {"task": ("Task", Column(link=ONE))},
    Ask(_ended(NOW, "task"), "Ended", Column(look.TASKS_PER_SECOND, decimals=2)),
    Ask(_failing(NOW, "task"), "Failing", Column(look.SHARE, look.calm(0.02, 0.1), decimals=1)),
    Ask(total(_rate("retried", NOW), "task"), "Retried", Column(look.TASKS_PER_SECOND, decimals=2)),
    Ask(quantile(0.95, RUNTIME, TASK, QUEUE, by=("task",), over=NOW), "95 % run below", Column(look.SECONDS)),
    Ask(
        quantile(0.95, WAIT, TASK, QUEUE, by=("task",), over=NOW),
        "95 % wait below",
        Column(look.SECONDS, look.calm(30, 300)),
    ),
    Ask(total(gauge("celery_task_running", TASK), "task"), "Running", Column(look.TASKS, decimals=0)),
    Ask(
        most(age("celery_task_last_succeeded_timestamp_seconds", TASK, how="max"), "task"),
        "Last success",
        Column("dtdurations"),
    ),
    sort="Failing",
)

OUTCOMES = series_panel(
    About(
        "Outcomes",
        look.TASKS_PER_SECOND,
        Words(
            "What became of the tasks, each second.",
            "green.",
            "red: failed. Orange: retried. Purple and yellow: rejected or revoked, nobody will do them.",
            "see the exceptions below",
        ),
        Needs.EVENTS,
    ),
    *(Ask(total(_rate(outcome)), outcome) for outcome in COLOURS),
    stacked=True,
    fixed=COLOURS,
)
SHARES = series_panel(
    About(
        "Share that fails, by task",
        look.SHARE,
        Words(
            "The share of each task's ended runs that failed, of the ten worst.",
            "flat, near 0.",
            "a step upwards: often a deployment, or something the task needs went away.",
            "choose the task and read its exceptions",
        ),
        Needs.EVENTS,
    ),
    Ask(top(_failing(RANGE, "task")), "{{task}}"),
    top=1,
)
EXCEPTIONS = series_panel(
    About(
        "Exceptions",
        look.TASKS_PER_SECOND,
        Words(
            "Failures by the class of the exception, each second, of the ten most frequent.",
            "few, and known ones.",
            "a new class, or one that grows.",
            "search the workers' log for it",
        ),
        Quiet("No task has failed, or there are no task events (start workers with -E)"),
    ),
    Ask(top(total(_rate("failed"), "exception")), "{{exception}}"),
    stacked=True,
)


def _spread(title: str, metric: str, what: str, empty: Needs, lead: str) -> tuple[model.Panel, model.Panel]:
    """Quantiles of a time, and its heat map."""
    lines = About(
        title,
        look.SECONDS,
        Words(
            f"{what}: the half, 95 % and 99 % of the chosen tasks.",
            "flat, and close together.",
            "99 % far above the half: a few are much slower. All rising: everything is slower.",
            "choose one task after the other to find the one that changed",
        ),
        empty,
        lead,
    )
    heat = About(
        f"{title}, spread",
        look.SECONDS,
        Words(
            f"{what}: how many fell into each range; the darker, the more.",
            "one steady band.",
            "a second band higher up, or a band that climbs.",
            "choose the task; compare with deployments",
        ),
        empty,
        lead,
    )
    quantiles = ((0.5, "half within"), (0.95, "95 % within"), (0.99, "99 % within"))
    asks = (Ask(quantile(share, metric, TASK, QUEUE), name) for share, name in quantiles)
    fixed = {"half within": look.GOOD, "95 % within": look.WATCH, "99 % within": look.BAD}
    return series_panel(lines, *asks, fixed=fixed), heat_panel(heat, Ask(buckets(metric, TASK, QUEUE), "{{le}}"))


RUNTIMES, RUNTIME_HEAT = _spread("Runtime", RUNTIME, "How long tasks ran that succeeded", Needs.EVENTS, "")
WAITS, WAIT_HEAT = _spread("Waiting time", WAIT, "How long tasks waited before they began", Needs.SENT, "queues")

RETRIES = series_panel(
    About(
        "Retries and revocations by task",
        look.TASKS_PER_SECOND,
        Words(
            "Tasks that asked for another try, and tasks that were revoked, each second.",
            "near 0.",
            "many: a task tries again what cannot succeed, or expires before it is begun.",
            "see the exception that makes it retry in the workers' log",
        ),
        Quiet("No task has been retried or revoked"),
    ),
    Ask(top(total(_rate("retried"), "task")), "{{task}} retried"),
    Ask(top(total(_rate("revoked"), "task", "reason")), "{{task}} revoked: {{reason}}"),
)
RUNNING_LINES = series_panel(
    About(
        "Running by task",
        look.TASKS,
        Words(
            "Tasks begun and not ended, of the ten most frequent.",
            "below the number of slots.",
            "one task takes all slots.",
            "give that task a queue and workers of its own",
        ),
        Needs.EVENTS,
        "workers",
    ),
    Ask(top(total(gauge("celery_task_running", TASK), "task")), "{{task}}"),
    stacked=True,
)
OVERDUE = series_panel(
    About(
        "Overdue: sent since, and no success for",
        look.SECONDS,
        Words(
            "The time since the last success of each task that has been sent again since, of the ten longest.",
            "short saw teeth.",
            "a straight line upwards: it is sent and never succeeds any more.",
            "see whether it waits (Queues), runs (above) or fails (exceptions)",
        ),
        Quiet("Nothing is overdue, or sent events are off (task_send_sent_event)"),
        "queues",
    ),
    Ask(
        top(
            f"({most(age('celery_task_last_succeeded_timestamp_seconds', TASK), 'task')}) and "
            f"({most(gauge('celery_task_last_sent_timestamp_seconds', TASK), 'task')} > "
            f"{most(gauge('celery_task_last_succeeded_timestamp_seconds', TASK), 'task')})"
        ),
        "{{task}}",
    ),
)

BOARD = Board(
    "tasks",
    "Tasks",
    "What fails, what is slow, what is overdue; by task.",
    (
        Row(
            "",
            4,
            (
                (HEARD, 3),
                (ENDED, 3),
                (FAILING, 3),
                (RETRIED, 3),
                (RUNNING, 3),
                (LONGEST, 3),
                (WAITED, 3),
                (RAN, 3),
            ),
        ),
        Row("", 8, ((TABLE, 24),)),
        Row("What fails", 8, ((OUTCOMES, 8), (SHARES, 8), (EXCEPTIONS, 8))),
        Row("What is slow", 8, ((RUNTIMES, 12), (RUNTIME_HEAT, 12), (WAITS, 12), (WAIT_HEAT, 12))),
        Row("What is tried again, runs, or is overdue", 8, ((RETRIES, 8), (RUNNING_LINES, 8), (OVERDUE, 8))),
    ),
    (Pick("queue", "celery_task_started_total"), Pick("task", "celery_task_started_total")),
)
