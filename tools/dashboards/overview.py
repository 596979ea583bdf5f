"""Overview: the health of the cluster, and which dashboard has the details."""

from __future__ import annotations

from tools.dashboards import mappings, thresholds, units
from tools.dashboards.dashboard import Dashboard, Row
from tools.dashboards.panels import (
    LINK_PARAMETERS,
    Column,
    PanelOptions,
    Target,
    stat_panel,
    state_timeline_panel,
    table_panel,
    timeseries_panel,
    uid,
)
from tools.dashboards.problems import health, problems
from tools.dashboards.query import (
    RECENT,
    exporters_only,
    gauge,
    max_by,
    min_by,
    oldest_message_age,
    quantile,
    rate,
    selector,
    sum_by,
    topk,
)
from tools.dashboards.text import Description, NoData, Requirement

LINK = f"/d/{uid('${__data.fields.Dashboard}')}?{LINK_PARAMETERS}"
QUEUE_LENGTH = sum_by(gauge("celery_queue_length"))
FAILED = rate("celery_task_failed_total")
SUCCEEDED = rate("celery_task_succeeded_total")
FAILED_RECENTLY = rate("celery_task_failed_total", over=RECENT)
SUCCEEDED_RECENTLY = rate("celery_task_succeeded_total", over=RECENT)
FAILURE_RATE = sum_by(FAILED_RECENTLY)
FINISH_RATE = sum_by(f"{FAILED_RECENTLY} or {SUCCEEDED_RECENTLY}")

HEALTH = stat_panel(
    PanelOptions(
        "Health",
        units.NONE,
        Description(
            "The worst severity in the list of active problems.",
            "HEALTHY: the list is empty.",
            "UNHEALTHY: tasks do not run, or cannot be observed. DEGRADED: tasks are late, or some "
            "of them fail.",
            "read the list from the top; its last column links to the dashboard with the details",
        ),
        Requirement.EXPORTER,
    ),
    Target(health()),
    thresholds=thresholds.MAPPINGS_ONLY,
    mappings=mappings.HEALTH,
)

PROBLEMS = table_panel(
    PanelOptions(
        "Active problems",
        units.NONE,
        Description(
            "All problems that the metrics show now. The thresholds differ from those of the "
            "alerts.",
            "no row.",
            "critical rows: tasks do not run, or cannot be observed.",
            "start with the broker and the workers: they often cause the other rows",
        ),
        NoData("No active problems"),
    ),
    {
        "severity": ("Severity", Column(mappings=mappings.SEVERITY, width=80)),
        "where": ("Where", Column(width=130)),
        "problem": "Problem",
        "look": ("Dashboard", Column(link=LINK, width=100)),
    },
    Target(problems()),
    sort="Severity",
    descending=False,
)

ALERTS = table_panel(
    PanelOptions(
        "Firing alerts",
        units.NONE,
        Description(
            "Firing alerts of the celery-vitals rules, of every job (the series ALERTS of "
            "Prometheus).",
            "none, with the rules loaded.",
            "any critical alert.",
            "follow the alert's runbook; if there are problems and no alert, check that the rules "
            "are loaded",
        ),
        NoData("No firing alerts (none can fire if the rules are not loaded)"),
    ),
    {
        "severity": ("Severity", Column(mappings=mappings.SEVERITY, width=80)),
        "alertname": "Alert",
    },
    Target(
        'count by (alertname, severity) (ALERTS{alertname=~"Celery.*", alertstate="firing"})',
        "Firing",
        Column(width=65),
    ),
    sort="Severity",
    descending=False,
)


def _up_panel_options(title: str, metric: str, service: str, no_value: Requirement) -> PanelOptions:
    description = Description(
        f"Whether {service} completes a round trip within the time limit.",
        "UP.",
        "DOWN: tasks cannot be sent, or their results are lost; most other values are absent.",
        f"check the server and the network; when {metric} is 0, celery_probe_failures_total has "
        "the reason",
    )
    return PanelOptions(title, units.NONE, description, no_value, "exporter")


BROKER = stat_panel(
    _up_panel_options("Broker", "celery_broker_up", "the broker", Requirement.EXPORTER),
    Target(min_by(gauge("celery_broker_up"))),
    thresholds=thresholds.MAPPINGS_ONLY,
    mappings=mappings.UP_DOWN,
)
BACKEND = stat_panel(
    _up_panel_options(
        "Result backend", "celery_result_backend_up", "the result backend", Requirement.BACKEND
    ),
    Target(min_by(gauge("celery_result_backend_up"))),
    thresholds=thresholds.MAPPINGS_ONLY,
    mappings=mappings.UP_DOWN,
)
WORKERS = stat_panel(
    PanelOptions(
        "Workers up",
        units.WORKERS,
        Description(
            "Workers seen within --worker-timeout.",
            "as many as you run.",
            "0, or fewer than you run.",
            "find the missing workers on the Workers dashboard",
        ),
        Requirement.EXPORTER,
        "workers",
        0,
    ),
    Target(sum_by(gauge("celery_worker_up"))),
    thresholds=thresholds.ZERO_IS_CRITICAL,
)
STUCK = stat_panel(
    PanelOptions(
        "Stuck workers",
        units.WORKERS,
        Description(
            "Workers that reply to remote control, but consume no queue (not_consuming) or hold "
            "tasks and start none (stalled).",
            "0.",
            "any: their tasks wait while the workers seem to be up.",
            "read their log and restart them; `celery control add_consumer` restores a cancelled "
            "consumer",
        ),
        Requirement.REPLIES,
        "workers",
        0,
    ),
    Target(sum_by(gauge("celery_worker_state", 'state=~"not_consuming|stalled"'))),
    thresholds=thresholds.NONZERO_IS_CRITICAL,
)
LENGTH = stat_panel(
    PanelOptions(
        "Queue length",
        units.MESSAGES,
        Description(
            "Messages waiting in all queues, without those that workers hold.",
            "near 0, or falling.",
            "rising while the queue wait time rises too.",
            "find the queue on the Queues dashboard and check its consumers",
        ),
        Requirement.QUEUES,
        "queues",
        0,
    ),
    Target(QUEUE_LENGTH),
)
OLDEST = stat_panel(
    PanelOptions(
        "Oldest message",
        units.SECONDS,
        Description(
            "The age of the oldest waiting message, without messages that have an ETA.",
            "seconds.",
            "more than your users accept: orange from 1 minute, red from 5.",
            "add workers for that queue, or find out what blocks the current ones",
        ),
        Requirement.OLDEST,
        "queues",
    ),
    Target(f"max ({oldest_message_age()}) or ({QUEUE_LENGTH} == 0)"),
    thresholds=thresholds.ascending(60, 300),
)
FAILING = stat_panel(
    PanelOptions(
        "Failure ratio",
        units.RATIO,
        Description(
            "The share of finished tasks that failed in the last 5 minutes, without retries.",
            "the usual ratio of your tasks; a common target is below 1 %.",
            "orange from 25 %, red from 40 %, as the alerts.",
            "find the task and its exception on the Tasks dashboard",
        ),
        Requirement.EVENTS,
        "tasks",
        1,
    ),
    Target(f"({FAILURE_RATE} or 0 * {FINISH_RATE}) / {FINISH_RATE}"),
    thresholds=thresholds.ascending(0.25, 0.4),
)
UTILIZATION = stat_panel(
    PanelOptions(
        "Slot utilization",
        units.RATIO,
        Description(
            "The share of all workers' slots that run a task.",
            "below 80 %.",
            "near 100 % while messages wait: the workers are saturated.",
            "add workers or slots, or optimize the slowest task",
        ),
        Requirement.REPLIES,
        "workers",
        0,
    ),
    Target(
        f"{sum_by(gauge('celery_worker_active_tasks'))} / "
        f"{sum_by(gauge('celery_worker_pool_slots'))}"
    ),
    thresholds=thresholds.ascending(0.8, 0.95),
)

AVAILABILITY = state_timeline_panel(
    PanelOptions(
        "Availability",
        units.NONE,
        Description(
            "Availability of the broker, the result backend and the event stream over time.",
            "green throughout.",
            "red: down. A gap: Prometheus did not scrape the exporter.",
            "compare with restarts and deployments of the servers",
        ),
        Requirement.EXPORTER,
        "exporter",
    ),
    Target(min_by(gauge("celery_broker_up")), "broker"),
    Target(min_by(gauge("celery_broker_writable")), "broker writable"),
    Target(min_by(gauge("celery_result_backend_up")), "result backend"),
    Target(min_by(gauge("celery_exporter_event_stream_up")), "event stream"),
    Target(min_by(exporters_only(selector("up"))), "exporter"),
    mappings=mappings.UP_DOWN,
)
LENGTHS = timeseries_panel(
    PanelOptions(
        "Queue length by queue",
        units.MESSAGES,
        Description(
            "Waiting messages of the ten longest queues.",
            "peaks that drain.",
            "a line that only rises: the queue has too few consumers, or none.",
            "compare its workers with its task rate on the Queues dashboard",
        ),
        Requirement.QUEUES,
        "queues",
    ),
    Target(topk(sum_by(gauge("celery_queue_length"), "queue")), "{{queue}}"),
    stacked=True,
)
TASK_RATE = timeseries_panel(
    PanelOptions(
        "Tasks sent and finished",
        units.TASKS_PER_SECOND,
        Description(
            "Rates of sent tasks and of finished tasks (succeeded or failed).",
            "equal rates.",
            "sent above finished for long: the queues grow. Finished at 0: no worker runs tasks.",
            "check the queue lengths and the workers",
        ),
        Requirement.EVENTS,
        "tasks",
    ),
    Target(sum_by(rate("celery_task_sent_total")), "sent"),
    Target(sum_by(f"{FAILED} or {SUCCEEDED}"), "finished"),
    colors={"sent": thresholds.NEUTRAL, "finished": thresholds.OK},
)
FAILURES = timeseries_panel(
    PanelOptions(
        "Failure rate by task",
        units.TASKS_PER_SECOND,
        Description(
            "Failures per second of the ten tasks that fail most.",
            "a flat line near 0.",
            "a task that fails more often than usual.",
            "select the task on the Tasks dashboard and check its exceptions",
        ),
        NoData("No task has failed, or there are no task events (start workers with -E)"),
        "tasks",
    ),
    Target(topk(sum_by(FAILED, "task")), "{{task}}"),
    stacked=True,
)
WAITS = timeseries_panel(
    PanelOptions(
        "Queue wait time",
        units.SECONDS,
        Description(
            "Time from sent, or from the ETA, to started: median and 95th percentile.",
            "milliseconds to seconds, and flat.",
            "rising: more tasks are sent than the workers can run.",
            "find the queue on the Queues dashboard",
        ),
        Requirement.SENT,
        "queues",
    ),
    Target(quantile(0.5, "celery_task_queue_wait_seconds"), "p50"),
    Target(quantile(0.95, "celery_task_queue_wait_seconds"), "p95"),
    colors={"p50": thresholds.OK, "p95": thresholds.WARNING},
)
RUNTIMES = timeseries_panel(
    PanelOptions(
        "p95 runtime by task",
        units.SECONDS,
        Description(
            "95th percentile of the runtime of successful executions, of the five slowest tasks.",
            "flat.",
            "a task that gets slower takes slots from all others.",
            "check the distribution of its runtime on the Tasks dashboard",
        ),
        Requirement.EVENTS,
        "tasks",
    ),
    Target(
        topk(quantile(0.95, "celery_task_runtime_seconds", by=("task",)), 5),
        "{{task}}",
    ),
)
SLOTS = timeseries_panel(
    PanelOptions(
        "Slots and active tasks",
        units.SLOTS,
        Description(
            "Slots of all workers, and tasks that run in them.",
            "some slots are free most of the time.",
            "active equals slots while the queues grow; or slots drop: workers are lost.",
            "find the worker on the Workers dashboard",
        ),
        Requirement.REPLIES,
        "workers",
    ),
    Target(sum_by(gauge("celery_worker_pool_slots")), "slots"),
    Target(sum_by(gauge("celery_worker_active_tasks")), "active"),
    colors={"slots": thresholds.NEUTRAL, "active": thresholds.WARNING},
)
BLIND_SPOTS = table_panel(
    PanelOptions(
        "Blind spots",
        units.NONE,
        Description(
            "What the exporter cannot observe now; its status page has the reason and the setting "
            "to change.",
            "no row.",
            "a row for something that you rely on: its panels are empty for lack of data.",
            "open the exporter's status page and change the setting that it names",
        ),
        NoData("No blind spots"),
        "exporter",
    ),
    {"subject": "Subject"},
    Target(f"{max_by(gauge('celery_exporter_blind_spot'), 'subject')} == 1"),
)

DASHBOARD = Dashboard(
    "overview",
    "Overview",
    "Health of the cluster, active problems, and links to the dashboards with the details.",
    (
        Row("", 8, ((HEALTH, 4), (PROBLEMS, 13), (ALERTS, 7))),
        Row(
            "",
            4,
            (
                (BROKER, 3),
                (BACKEND, 3),
                (WORKERS, 3),
                (STUCK, 3),
                (LENGTH, 3),
                (OLDEST, 3),
                (FAILING, 3),
                (UTILIZATION, 3),
            ),
        ),
        Row("Queues and failures", 8, ((LENGTHS, 8), (TASK_RATE, 8), (FAILURES, 8))),
        Row("Latency and utilization", 8, ((WAITS, 8), (RUNTIMES, 8), (SLOTS, 8))),
        Row("Availability and blind spots", 7, ((AVAILABILITY, 16), (BLIND_SPOTS, 8))),
    ),
)
