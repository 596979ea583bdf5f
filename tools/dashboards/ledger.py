"""The panels about lost and repeated tasks, and the books that account for every execution."""

from __future__ import annotations

from collections.abc import Sequence

from tools.dashboards import units
from tools.dashboards.panels import PanelOptions, Target, timeseries_panel
from tools.dashboards.query import (
    RATE_INTERVAL,
    REPLICAS,
    gauge,
    increase,
    max_by,
    selector,
    sum_by,
    topk,
)
from tools.dashboards.text import Description, NoData, Requirement

TASK = 'task=~"$task"'
QUEUE = 'queue=~"$queue"'
WINDOW = "1h"
"""Losses are rare: a rate per second would not be readable."""
ENTERED: Sequence[Sequence[str]] = (
    ("celery_task_sent_total",),
    ("celery_task_without_sent_event",),
)
LEFT: Sequence[Sequence[str]] = (
    ("celery_task_succeeded_total",),
    ("celery_task_failed_total",),
    ("celery_task_revoked_total",),
    ("celery_task_rejected_total",),
    ("celery_task_retried_total",),
    ("celery_task_lost_total", 'reason!="child_killed"'),
    ("celery_task_redelivered_total",),
    ("celery_task_end_unknown_total", 'reason="silent"'),
    ("celery_task_in_flight",),
    ("celery_task_orphaned",),
)
"""The executions that have left, and those inside."""
RETURNED: Sequence[Sequence[str]] = (("celery_task_requeued_total",), ("celery_task_found_total",))
"""What the columns above count too much."""


def balance() -> str:
    """Return the executions by task that entered the books and are in no column.

    Each exporter has books of its own; the labels keep the columns apart where one is absent.
    """
    signed = [("", one) for one in (*ENTERED, *RETURNED)] + [("-", one) for one in LEFT]
    columns = "\nor ".join(
        f"label_replace({sign}last_over_time({selector(metric, TASK, QUEUE, *more)}"
        f'[{RATE_INTERVAL}]), "column", "{metric}", "", "")'
        for sign, (metric, *more) in signed
    )
    per_exporter = f"sum without (column, state, reason, exception) (\n{columns}\n)"
    return sum_by(f"min {REPLICAS} ({per_exporter})", "task")


def _within(metric: str, *labels: str, of: tuple[str, ...] = (TASK, QUEUE)) -> str:
    return sum_by(increase(metric, *of, over=WINDOW), *labels)


def _discarded() -> str:
    """Return the rejected tasks without those that were rejected with requeue."""
    rejected = _within("celery_task_rejected_total", "task")
    return f"{rejected} - ({_within('celery_task_requeued_total', 'task')} or 0 * {rejected})"


BALANCE = timeseries_panel(
    PanelOptions(
        "Balance",
        units.TASKS,
        Description(
            "Executions by task that were sent and are neither finished, lost, waiting nor "
            "running (docs/ledger.md), of the ten largest.",
            "0; a few above or below for one scrape, because its values are milliseconds apart.",
            "steadily above 0: their ends were missed. *End unknown* beside it has the reasons.",
            "check the event loss on the Exporter dashboard; the alert CeleryEventsMissed has a "
            "runbook",
        ),
        Requirement.EVENTS,
        "exporter",
    ),
    Target(topk(balance()), "{{task}}"),
    minimum=None,
)
LOST = timeseries_panel(
    PanelOptions(
        "Lost in the last hour",
        units.TASKS,
        Description(
            "Executions that started and will never end, by task and reason; and those that "
            "ended after all (found).",
            "none.",
            "any: their work is not done, and nothing repeats it.",
            "read the ids at the path /lost of the exporter, and send these tasks again",
        ),
        NoData("No task was lost"),
        "workers",
    ),
    Target(topk(_within("celery_task_lost_total", "task", "reason")), "{{task}}: {{reason}}"),
    Target(topk(_within("celery_task_found_total", "task")), "{{task}}: found"),
    stacked=True,
)
REPEATED = timeseries_panel(
    PanelOptions(
        "Redelivered and run twice in the last hour",
        units.TASKS,
        Description(
            "Executions whose worker died and whose message was delivered again (redelivered); "
            "and executions that started while another one of their id ran (overlapping) or "
            "after it had ended (repeated), by cause.",
            "redelivered during deployments, with late acknowledgement; nothing else.",
            "overlapping or repeated: the work is done twice.",
            "read the runbook of CeleryTaskRunsTwice, which has the setting for each cause",
        ),
        NoData("No task was redelivered or ran twice"),
        "queues",
    ),
    Target(topk(_within("celery_task_redelivered_total", "task")), "{{task}}: redelivered"),
    Target(
        topk(_within("celery_task_overlapping_total", "task", "cause")),
        "{{task}}: overlapping, {{cause}}",
    ),
    Target(
        topk(_within("celery_task_repeated_total", "task", "cause")),
        "{{task}}: repeated, {{cause}}",
    ),
)
UNDECIDED = timeseries_panel(
    PanelOptions(
        "Orphaned and poison",
        units.TASKS,
        Description(
            "Executions whose worker is gone and that may still be delivered again (orphaned); "
            "and task ids that started three times or more without an end (poison).",
            "0; orphaned for up to the visibility timeout on Redis.",
            "poison: the message probably kills its workers. Orphaned for hours: no worker "
            "consumes the queue.",
            "read the ids at the path /lost of the exporter; revoke a poison message",
        ),
        NoData("No task is orphaned or poison"),
        "queues",
    ),
    Target(topk(sum_by(gauge("celery_task_orphaned", TASK, QUEUE), "task")), "{{task}}: orphaned"),
    Target(topk(max_by(gauge("celery_task_poison", TASK, QUEUE), "task")), "{{task}}: poison"),
)
END_UNKNOWN = timeseries_panel(
    PanelOptions(
        "End unknown in the last hour",
        units.TASKS,
        Description(
            "Tasks that are over and whose end is unknown, by reason: silent (without an event, "
            "as after Ignore), missed (events were lost), no_message (the message left its "
            "queue), evicted (no longer tracked).",
            "none, or only silent.",
            "missed or evicted: the exporter cannot account for these tasks.",
            "use --event-queue on RabbitMQ, or raise --max-tasks",
        ),
        NoData("The end of every task is known"),
        "exporter",
    ),
    Target(topk(_within("celery_task_end_unknown_total", "reason")), "{{reason}}"),
    stacked=True,
)
GIVEN_UP = timeseries_panel(
    PanelOptions(
        "Given up in the last hour",
        units.TASKS,
        Description(
            "Tasks that ended without their work: expired before the start, unknown to the worker "
            "(unregistered), rejected without requeue, or failed in their last retry.",
            "few, and only tasks that expire on purpose.",
            "unregistered: a worker lacks the code of the task. Expired: the queue is too slow.",
            "read the runbook of CeleryTasksDiscarded",
        ),
        NoData("No task was given up"),
    ),
    Target(
        topk(
            sum_by(
                increase("celery_task_revoked_total", TASK, QUEUE, 'reason="expired"', over=WINDOW),
                "task",
            )
        ),
        "{{task}}: expired",
    ),
    Target(
        topk(_within("celery_task_unregistered_total", "task", of=(TASK,))),
        "{{task}}: unregistered",
    ),
    Target(topk(_discarded()), "{{task}}: rejected"),
    Target(
        topk(_within("celery_task_retries_exhausted_total", "task")), "{{task}}: retries exhausted"
    ),
)
PANELS = (BALANCE, LOST, REPEATED, UNDECIDED, END_UNKNOWN, GIVEN_UP)
