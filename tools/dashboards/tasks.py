"""Tasks: failures, latency, and overdue tasks, all by task name."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from tools.dashboards import ledger, mappings, thresholds, units
from tools.dashboards.dashboard import Dashboard, Row, Variable
from tools.dashboards.panels import (
    LINK_PARAMETERS,
    Column,
    PanelOptions,
    Target,
    heatmap_panel,
    stat_panel,
    table_panel,
    timeseries_panel,
    uid,
)
from tools.dashboards.query import (
    RATE_INTERVAL,
    RECENT,
    age,
    buckets,
    gauge,
    max_by,
    quantile,
    rate,
    sum_by,
    topk,
)
from tools.dashboards.text import Description, NoData, Requirement

TASK = 'task=~"$task"'
QUEUE = 'queue=~"$queue"'
TASK_LINK = f"/d/{uid('tasks')}?{LINK_PARAMETERS}&var-task=${{__data.fields.Task}}"
STATE_COLORS = {
    "succeeded": thresholds.OK,
    "failed": thresholds.CRITICAL,
    "retried": thresholds.WARNING,
    "rejected": "purple",
    "revoked": "yellow",
}
RUNTIME, QUEUE_WAIT = "celery_task_runtime_seconds", "celery_task_queue_wait_seconds"


def _rate(state: str, over: str = RATE_INTERVAL) -> str:
    return rate(f"celery_task_{state}_total", TASK, QUEUE, over=over)


def _finished(over: str, *by: str) -> str:
    return sum_by(f"{_rate('failed', over)} or {_rate('succeeded', over)}", *by)


def _failure_ratio(over: str, *by: str) -> str:
    """Return the failed share of finished tasks; 0 for tasks that have never failed."""
    finished = _finished(over, *by)
    return f"({sum_by(_rate('failed', over), *by)} or 0 * {finished}) / ({finished} > 0)"


EVENT_STREAM = stat_panel(
    PanelOptions(
        "Event stream",
        units.NONE,
        Description(
            "Whether the exporter receives task events, on which this dashboard depends.",
            "UP.",
            "DOWN: all other values here are outdated.",
            "see the Exporter dashboard; start workers with -E, or the exporter with "
            "--enable-events",
        ),
        Requirement.EVENTS,
        "exporter",
    ),
    Target(f"min ({gauge('celery_exporter_event_stream_up')})"),
    thresholds=thresholds.MAPPINGS_ONLY,
    mappings=mappings.UP_DOWN,
)
FINISHED = stat_panel(
    PanelOptions(
        "Finished tasks",
        units.TASKS_PER_SECOND,
        Description(
            "Tasks that succeeded or failed, per second, over the last 5 minutes.",
            "the usual rate at this time.",
            "0 while messages wait.",
            "check that workers are up and consume their queues",
        ),
        Requirement.EVENTS,
        "workers",
        2,
    ),
    Target(_finished(RECENT)),
)
FAILING = stat_panel(
    PanelOptions(
        "Failure ratio",
        units.RATIO,
        Description(
            "The share of finished tasks that failed in the last 5 minutes, without retries.",
            "the usual ratio of your tasks.",
            "orange from 25 %, red from 40 %, as the alerts.",
            "select the task in the table and check its exceptions",
        ),
        Requirement.EVENTS,
        decimals=1,
    ),
    Target(_failure_ratio(RECENT)),
    thresholds=thresholds.ascending(0.25, 0.4),
)
RETRIED = stat_panel(
    PanelOptions(
        "Retry rate",
        units.TASKS_PER_SECOND,
        Description(
            "Task retries per second, over the last 5 minutes.",
            "near 0.",
            "many: a service that the tasks depend on is unavailable.",
            "find the task in the graph of retries below",
        ),
        NoData("No task has been retried"),
        decimals=2,
    ),
    Target(sum_by(_rate("retried", RECENT))),
)
RUNNING = stat_panel(
    PanelOptions(
        "Running tasks",
        units.TASKS,
        Description(
            "Executions that have started and not finished.",
            "fewer than the workers have slots.",
            "as many as there are slots, for long: the workers are saturated.",
            "find the task that takes the slots",
        ),
        Requirement.EVENTS,
        "workers",
        0,
    ),
    Target(sum_by(gauge("celery_task_running", TASK))),
)
LONGEST = stat_panel(
    PanelOptions(
        "Longest running",
        units.SECONDS,
        Description(
            "The time since the oldest running execution started.",
            "less than the runtime of your longest task.",
            "more: a task hangs and occupies a slot. Orange from 10 minutes, red from 1 hour.",
            "find it with `celery inspect active`; set a time limit for tasks",
        ),
        NoData("No task is running"),
        "workers",
    ),
    Target(
        max_by(age("celery_task_oldest_running_start_timestamp_seconds", TASK, aggregation="min"))
    ),
    thresholds=thresholds.ascending(600, 3600),
)
P95_QUEUE_WAIT = stat_panel(
    PanelOptions(
        "p95 queue wait",
        units.SECONDS,
        Description(
            "95th percentile of the queue wait time in the last 5 minutes.",
            "seconds.",
            "orange from 30 seconds, red from 5 minutes.",
            "find the queue on the Queues dashboard",
        ),
        Requirement.SENT,
        "queues",
    ),
    Target(quantile(0.95, QUEUE_WAIT, TASK, QUEUE, over=RECENT)),
    thresholds=thresholds.ascending(30, 300),
)
P95_RUNTIME = stat_panel(
    PanelOptions(
        "p95 runtime",
        units.SECONDS,
        Description(
            "95th percentile of the runtime of successful executions in the last 5 minutes.",
            "the usual runtime of these tasks.",
            "rising: the heatmap shows whether all executions are slower, or some.",
            "select the slowest task in the table",
        ),
        Requirement.EVENTS,
    ),
    Target(quantile(0.95, RUNTIME, TASK, QUEUE, over=RECENT)),
)

TABLE = table_panel(
    PanelOptions(
        "Tasks",
        units.NONE,
        Description(
            "Each task in the last 5 minutes. A dash: no such event, or no data.",
            "no colour.",
            "an orange or red failure ratio.",
            "click a task to show it alone, with its exceptions",
        ),
        Requirement.EVENTS,
    ),
    {"task": ("Task", Column(link=TASK_LINK))},
    Target(_finished(RECENT, "task"), "Finished", Column(units.TASKS_PER_SECOND, decimals=2)),
    Target(
        _failure_ratio(RECENT, "task"),
        "Failure ratio",
        Column(units.RATIO, thresholds.ascending_cell(0.02, 0.1), decimals=1),
    ),
    Target(
        sum_by(_rate("retried", RECENT), "task"),
        "Retried",
        Column(units.TASKS_PER_SECOND, decimals=2),
    ),
    Target(
        quantile(0.95, RUNTIME, TASK, QUEUE, by=("task",), over=RECENT),
        "p95 runtime",
        Column(units.SECONDS),
    ),
    Target(
        quantile(0.95, QUEUE_WAIT, TASK, QUEUE, by=("task",), over=RECENT),
        "p95 queue wait",
        Column(units.SECONDS, thresholds.ascending_cell(30, 300)),
    ),
    Target(
        sum_by(gauge("celery_task_running", TASK), "task"),
        "Running",
        Column(units.TASKS, decimals=0),
    ),
    Target(
        max_by(
            age("celery_task_last_succeeded_timestamp_seconds", TASK, aggregation="max"), "task"
        ),
        "Last success",
        Column("dtdurations"),
    ),
    sort="Failure ratio",
)

TASK_RATE = timeseries_panel(
    PanelOptions(
        "Task rate by state",
        units.TASKS_PER_SECOND,
        Description(
            "Tasks per second by the state that they reached.",
            "green.",
            "red: failed. Orange: retried. Purple and yellow: rejected or revoked, and never run.",
            "check the exceptions beside it",
        ),
        Requirement.EVENTS,
    ),
    *(Target(sum_by(_rate(state)), state) for state in STATE_COLORS),
    stacked=True,
    colors=STATE_COLORS,
)
FAILURE_RATIOS = timeseries_panel(
    PanelOptions(
        "Failure ratio by task",
        units.RATIO,
        Description(
            "The failed share of each task's finished executions, of the ten highest.",
            "flat, near 0.",
            "a step up: often a deployment, or a service that the task depends on is unavailable.",
            "select the task and check its exceptions",
        ),
        Requirement.EVENTS,
    ),
    Target(topk(_failure_ratio(RATE_INTERVAL, "task")), "{{task}}"),
    maximum=1,
)
EXCEPTIONS = timeseries_panel(
    PanelOptions(
        "Failure rate by exception",
        units.TASKS_PER_SECOND,
        Description(
            "Failures per second by exception class, of the ten most frequent.",
            "few, and known classes.",
            "a new class, or a rising rate.",
            "search the workers' log for the exception",
        ),
        NoData("No task has failed, or there are no task events (start workers with -E)"),
    ),
    Target(topk(sum_by(_rate("failed"), "exception")), "{{exception}}"),
    stacked=True,
)


def _histogram_panels(
    title: str, metric: str, meaning: str, no_value: Requirement, links_to: str
) -> tuple[model.Panel, model.Panel]:
    """Return the quantiles and the heatmap of a histogram."""
    quantile_options = PanelOptions(
        f"{title} quantiles",
        units.SECONDS,
        Description(
            f"{meaning}: median, 95th and 99th percentile of the selected tasks.",
            "flat, and close together.",
            "p99 far above p50: a few are much slower. All rising: everything is slower.",
            "select one task at a time to find the one that changed",
        ),
        no_value,
        links_to,
    )
    heatmap_options = PanelOptions(
        f"{title} distribution",
        units.SECONDS,
        Description(
            f"{meaning}: observations per bucket; darker means more.",
            "one steady band.",
            "a second band higher up, or a band that climbs.",
            "select the task; compare with deployments",
        ),
        no_value,
        links_to,
    )
    quantiles = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    targets = (Target(quantile(q, metric, TASK, QUEUE), legend) for q, legend in quantiles)
    colors = {"p50": thresholds.OK, "p95": thresholds.WARNING, "p99": thresholds.CRITICAL}
    return (
        timeseries_panel(quantile_options, *targets, colors=colors),
        heatmap_panel(heatmap_options, Target(buckets(metric, TASK, QUEUE), "{{le}}")),
    )


RUNTIMES, RUNTIME_HEATMAP = _histogram_panels(
    "Runtime", RUNTIME, "Runtime of successful executions", Requirement.EVENTS, ""
)
QUEUE_WAITS, QUEUE_WAIT_HEATMAP = _histogram_panels(
    "Queue wait",
    QUEUE_WAIT,
    "Time from sent, or from the ETA, to started",
    Requirement.SENT,
    "queues",
)

RETRIES = timeseries_panel(
    PanelOptions(
        "Retries and revocations by task",
        units.TASKS_PER_SECOND,
        Description(
            "Retried tasks and revoked tasks per second.",
            "near 0.",
            "many: a task retries what cannot succeed, or expires before it starts.",
            "find the exception that causes the retry in the workers' log",
        ),
        NoData("No task has been retried or revoked"),
    ),
    Target(topk(sum_by(_rate("retried"), "task")), "{{task}} retried"),
    Target(topk(sum_by(_rate("revoked"), "task", "reason")), "{{task}} revoked: {{reason}}"),
)
RUNNING_BY_TASK = timeseries_panel(
    PanelOptions(
        "Running tasks by name",
        units.TASKS,
        Description(
            "Executions that have started and not finished, of the ten most frequent tasks.",
            "below the number of slots.",
            "one task occupies all slots.",
            "give that task a queue and workers of its own",
        ),
        Requirement.EVENTS,
        "workers",
    ),
    Target(topk(sum_by(gauge("celery_task_running", TASK), "task")), "{{task}}"),
    stacked=True,
)
OVERDUE = timeseries_panel(
    PanelOptions(
        "Time since last success, if sent since",
        units.SECONDS,
        Description(
            "The time since the last success of tasks that have been sent again since, of the ten "
            "longest.",
            "a short sawtooth.",
            "a straight line upwards: the task is sent and never succeeds.",
            "check whether it waits (Queues), runs (above) or fails (exceptions)",
        ),
        NoData("No task is overdue, or sent events are off (task_send_sent_event)"),
        "queues",
    ),
    Target(
        topk(
            f"({max_by(age('celery_task_last_succeeded_timestamp_seconds', TASK), 'task')}) and "
            f"({max_by(gauge('celery_task_last_sent_timestamp_seconds', TASK), 'task')} > "
            f"{max_by(gauge('celery_task_last_succeeded_timestamp_seconds', TASK), 'task')})"
        ),
        "{{task}}",
    ),
)

DASHBOARD = Dashboard(
    "tasks",
    "Tasks",
    "Failures, runtime, queue wait time, retries, overdue, lost and repeated tasks, by task.",
    (
        Row(
            "",
            4,
            (
                (EVENT_STREAM, 3),
                (FINISHED, 3),
                (FAILING, 3),
                (RETRIED, 3),
                (RUNNING, 3),
                (LONGEST, 3),
                (P95_QUEUE_WAIT, 3),
                (P95_RUNTIME, 3),
            ),
        ),
        Row("", 8, ((TABLE, 24),)),
        Row("Failures", 8, ((TASK_RATE, 8), (FAILURE_RATIOS, 8), (EXCEPTIONS, 8))),
        Row(
            "Latency",
            8,
            (
                (RUNTIMES, 12),
                (RUNTIME_HEATMAP, 12),
                (QUEUE_WAITS, 12),
                (QUEUE_WAIT_HEATMAP, 12),
            ),
        ),
        Row(
            "Retries, running and overdue tasks",
            8,
            ((RETRIES, 8), (RUNNING_BY_TASK, 8), (OVERDUE, 8)),
        ),
        Row("Lost and repeated", 8, tuple((panel, 8) for panel in ledger.PANELS)),
    ),
    (
        Variable("queue", "celery_task_started_total"),
        Variable("task", "celery_task_started_total"),
    ),
)
