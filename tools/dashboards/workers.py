"""Workers: state, load and resources of each worker."""

from __future__ import annotations

from tools.dashboards import mappings, thresholds, units
from tools.dashboards.dashboard import Dashboard, Row, Variable
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
from tools.dashboards.query import age, gauge, increase, max_by, min_by, rate, sum_by, topk
from tools.dashboards.text import Description, NoData, Requirement

WORKER = 'worker=~"$worker"'
WORKER_LINK = f"/d/{uid('workers')}?{LINK_PARAMETERS}&var-worker=${{__data.fields.Worker}}"
ACTIVE_TASKS = sum_by(gauge("celery_worker_active_tasks", WORKER), "worker")
SLOTS = sum_by(gauge("celery_worker_pool_slots", WORKER), "worker")


def _by_worker(metric: str) -> str:
    return max_by(gauge(metric, WORKER), "worker")


def _state() -> str:
    """Return the number of each worker's state; if replicas differ, the worse one."""
    states = " or ".join(
        f"""({gauge("celery_worker_state", WORKER, f'state="{label}"')} == 1) * {number}"""
        for number, (label, _, _) in enumerate(mappings.STATES, 1)
    )
    return f"max by (worker) ({states})"


UP = stat_panel(
    PanelOptions(
        "Workers up",
        units.WORKERS,
        Description(
            "Workers seen within --worker-timeout.",
            "as many as you run.",
            "fewer.",
            "find the missing workers in the table below",
        ),
        Requirement.EXPORTER,
        decimals=0,
    ),
    Target(sum_by(gauge("celery_worker_up", WORKER))),
    thresholds=thresholds.ZERO_IS_CRITICAL,
)
GONE = stat_panel(
    PanelOptions(
        "Workers gone",
        units.WORKERS,
        Description(
            "Workers that were up within --worker-forget-after and are offline now.",
            "0, or those that you have stopped.",
            "a worker that should be up.",
            "read the end of its log; check for an out-of-memory kill",
        ),
        Requirement.REPLIES,
        decimals=0,
    ),
    Target(sum_by(gauge("celery_worker_state", WORKER, 'state="gone"'))),
    thresholds=((None, thresholds.OK), (1, thresholds.WARNING)),
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
        decimals=0,
    ),
    Target(sum_by(gauge("celery_worker_state", WORKER, 'state=~"not_consuming|stalled"'))),
    thresholds=thresholds.NONZERO_IS_CRITICAL,
)
UTILIZATION = stat_panel(
    PanelOptions(
        "Slot utilization",
        units.RATIO,
        Description(
            "The share of the selected workers' slots that run a task.",
            "below 80 %.",
            "near 100 % while messages wait.",
            "add workers or slots",
        ),
        Requirement.REPLIES,
        "queues",
        0,
    ),
    Target(f"sum ({ACTIVE_TASKS}) / sum ({SLOTS})"),
    thresholds=thresholds.ascending(0.8, 0.95),
)
RECENT_RESTARTS = stat_panel(
    PanelOptions(
        "Restarts (1h)",
        units.RESTARTS,
        Description(
            "Restarts of all selected workers in the last hour.",
            "0, or your deployments.",
            "more: a worker crashes and is restarted.",
            "read its log from before the restart",
        ),
        Requirement.REPLIES,
        decimals=0,
    ),
    Target(f"sum (round ({increase('celery_worker_restarts_total', WORKER, over='1h')}))"),
    thresholds=((None, thresholds.OK), (3, thresholds.WARNING)),
)
EVENTS_OFF = stat_panel(
    PanelOptions(
        "Events disabled",
        units.WORKERS,
        Description(
            "Workers that send no task events: their tasks are missing on the Tasks dashboard.",
            "0.",
            "any.",
            "start them with -E, or the exporter with --enable-events",
        ),
        Requirement.EVENTS,
        "tasks",
        0,
    ),
    Target(f"sum (1 - {_by_worker('celery_worker_task_events')})"),
    thresholds=((None, thresholds.OK), (1, thresholds.WARNING)),
)
SLOWEST_REPLY = stat_panel(
    PanelOptions(
        "Slowest reply",
        units.SECONDS,
        Description(
            "The longest reply time of a worker in its last round of remote control.",
            "milliseconds.",
            "seconds: its main process is blocked. Orange from 0.5 s, red from 2 s.",
            "check its CPU and the network",
        ),
        Requirement.REPLIES,
    ),
    Target(f"max ({_by_worker('celery_worker_reply_seconds')})"),
    thresholds=thresholds.ascending(0.5, 2),
)
CLOCK_OFFSET = stat_panel(
    PanelOptions(
        "Max clock offset",
        units.SECONDS,
        Description(
            "The largest offset of a worker's clock from the exporter's clock.",
            "below a second.",
            "more: ETAs, expiry and wait times are off by as much. Orange from 1 s, red from 10 s.",
            "set up time synchronization on that host",
        ),
        NoData("No data yet (requires task events)"),
    ),
    Target(f"max (abs ({_by_worker('celery_worker_clock_offset_seconds')}))"),
    thresholds=thresholds.ascending(1, 10),
)

STATE_TIMELINE = state_timeline_panel(
    PanelOptions(
        "Worker state",
        units.NONE,
        Description(
            "The state of each worker over time.",
            "green (up) and blue (busy).",
            "red: replies but consumes no queue. Orange: holds tasks and starts none. Grey: "
            "offline.",
            "open the worker from the table below",
        ),
        Requirement.REPLIES,
    ),
    Target(_state(), "{{worker}}"),
    mappings=mappings.WORKER_STATE,
)
TABLE = table_panel(
    PanelOptions(
        "Workers",
        units.NONE,
        Description(
            "The current state of each worker. A dash: no data.",
            "up or busy, consuming all its queues, replying in milliseconds.",
            "not consuming, stalled or gone; 0 queues; several instances of one node name.",
            "click a worker to show it alone",
        ),
        Requirement.REPLIES,
    ),
    {"worker": ("Worker", Column(link=WORKER_LINK))},
    Target(_state(), "State", Column(mappings=mappings.WORKER_STATE)),
    Target(
        _by_worker("celery_worker_consumed_queues"),
        "Queues",
        Column(units.QUEUES, thresholds.zero_cell(thresholds.CRITICAL), decimals=0),
    ),
    Target(ACTIVE_TASKS, "Active tasks", Column(units.TASKS, decimals=0)),
    Target(SLOTS, "Slots", Column(units.SLOTS, decimals=0)),
    Target(
        _by_worker("celery_worker_prefetch_limit"),
        "Prefetch limit",
        Column(units.MESSAGES, decimals=0),
    ),
    Target(_by_worker("celery_worker_reply_seconds"), "Reply time", Column(units.SECONDS)),
    Target(
        min_by(age("celery_worker_last_seen_timestamp_seconds", WORKER), "worker"),
        "Last seen",
        Column(units.SECONDS, decimals=0),
    ),
    Target(
        max_by(age("celery_worker_start_timestamp_seconds", WORKER), "worker"),
        "Uptime",
        Column(units.SECONDS),
    ),
    Target(
        _by_worker("celery_worker_max_resident_memory_bytes"), "Peak memory", Column(units.BYTES)
    ),
    Target(
        _by_worker("celery_worker_instances"),
        "Instances",
        Column(
            units.NONE,
            ((None, thresholds.TRANSPARENT), (2, thresholds.CRITICAL)),
            decimals=0,
        ),
    ),
    sort="State",
)

UTILIZATION_BY_WORKER = timeseries_panel(
    PanelOptions(
        "Slot utilization by worker",
        units.RATIO,
        Description(
            "The share of each worker's slots that run a task, of the twenty highest.",
            "all alike, and below 100 %.",
            "one at 100 % and the others idle: it prefetches too much; all at 100 %: too few "
            "workers.",
            "lower the prefetch multiplier, or add workers",
        ),
        Requirement.REPLIES,
        "queues",
    ),
    Target(topk(f"{ACTIVE_TASKS} / {SLOTS}", 20), "{{worker}}"),
    maximum=1,
)
STARTED_BY_WORKER = timeseries_panel(
    PanelOptions(
        "Tasks started by worker",
        units.TASKS_PER_SECOND,
        Description(
            "Tasks that each worker starts per second, by its own count; requires no task events.",
            "all alike.",
            "0 at one worker while the others run tasks.",
            "check its state and its queues",
        ),
        Requirement.REPLIES,
        "tasks",
    ),
    Target(topk(sum_by(rate("celery_worker_processed_total", WORKER), "worker"), 20), "{{worker}}"),
)
STARTED_BY_TASK = timeseries_panel(
    PanelOptions(
        "Tasks started by name",
        units.TASKS_PER_SECOND,
        Description(
            "Tasks that the selected workers start per second by name, by their own count; "
            "requires no task events.",
            "the usual mix.",
            "one task displaces all others.",
            "give it a queue and workers of its own",
        ),
        Requirement.REPLIES,
        "tasks",
    ),
    Target(topk(sum_by(rate("celery_worker_tasks_accepted_total", WORKER), "task")), "{{task}}"),
    stacked=True,
)
CPU = timeseries_panel(
    PanelOptions(
        "CPU usage, main process",
        units.CORES,
        Description(
            "CPU usage of each worker's main process, without the child processes of its pool.",
            "far below 1 core.",
            "near 1: the main process is the bottleneck, or in a busy loop.",
            "check for many small tasks, or a reconnection loop",
        ),
        Requirement.REPLIES,
    ),
    Target(
        topk(sum_by(rate("celery_worker_cpu_seconds_total", WORKER), "worker"), 20), "{{worker}}"
    ),
)
MEMORY = timeseries_panel(
    PanelOptions(
        "Peak memory, main process",
        units.BYTES,
        Description(
            "Peak resident memory of each worker's main process, without the child processes of "
            "its pool.",
            "flat.",
            "rising day by day.",
            "restart it regularly, and look for a memory leak",
        ),
        Requirement.REPLIES,
    ),
    Target(topk(_by_worker("celery_worker_max_resident_memory_bytes"), 20), "{{worker}}"),
)
RESTARTS = timeseries_panel(
    PanelOptions(
        "Restarts by worker (15m)",
        units.RESTARTS,
        Description(
            "Restarts of each worker in the last 15 minutes.",
            "0, or your deployments.",
            "repeated restarts.",
            "read its log from before the restart",
        ),
        Requirement.REPLIES,
    ),
    Target(
        topk(
            "sum by (worker) (round "
            f"({increase('celery_worker_restarts_total', WORKER, over='15m')}))",
            20,
        ),
        "{{worker}}",
    ),
)
REPLY_TIME = timeseries_panel(
    PanelOptions(
        "Remote control reply time",
        units.SECONDS,
        Description(
            "The time each worker took for its last reply to remote control.",
            "milliseconds.",
            "seconds, or a line that ends: the worker does not reply.",
            "check its CPU, and whether its main process is blocked",
        ),
        Requirement.REPLIES,
    ),
    Target(topk(_by_worker("celery_worker_reply_seconds"), 20), "{{worker}}"),
)
CLOCK_OFFSETS = timeseries_panel(
    PanelOptions(
        "Clock offset by worker",
        units.SECONDS,
        Description(
            "The offset of each worker's clock from the exporter's clock.",
            "below a second.",
            "more: ETAs, expiry and wait times are off by as much.",
            "set up time synchronization on that host",
        ),
        NoData("No data yet (requires task events)"),
    ),
    Target(topk(f"abs ({_by_worker('celery_worker_clock_offset_seconds')})", 20), "{{worker}}"),
)

DASHBOARD = Dashboard(
    "workers",
    "Workers",
    "State, load and resources, by worker.",
    (
        Row(
            "",
            4,
            (
                (UP, 3),
                (STUCK, 3),
                (GONE, 3),
                (UTILIZATION, 3),
                (RECENT_RESTARTS, 3),
                (EVENTS_OFF, 3),
                (SLOWEST_REPLY, 3),
                (CLOCK_OFFSET, 3),
            ),
        ),
        Row("", 8, ((STATE_TIMELINE, 24), (TABLE, 24))),
        Row(
            "Load",
            8,
            ((UTILIZATION_BY_WORKER, 8), (STARTED_BY_WORKER, 8), (STARTED_BY_TASK, 8)),
        ),
        Row(
            "Resources, restarts and reply time",
            8,
            ((MEMORY, 8), (CPU, 8), (RESTARTS, 8), (REPLY_TIME, 12), (CLOCK_OFFSETS, 12)),
        ),
    ),
    (Variable("worker", "celery_worker_up"),),
)
