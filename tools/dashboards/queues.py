"""Queues: length, drain time, and consumers of each queue."""

from __future__ import annotations

from tools.dashboards import mappings, thresholds, units
from tools.dashboards.dashboard import Dashboard, Row, Variable
from tools.dashboards.panels import (
    LINK_PARAMETERS,
    Column,
    PanelOptions,
    Target,
    stat_panel,
    table_panel,
    timeseries_panel,
    uid,
)
from tools.dashboards.query import (
    RATE_INTERVAL,
    RECENT,
    age,
    gauge,
    max_by,
    min_by,
    oldest_message_age,
    rate,
    sum_by,
    topk,
)
from tools.dashboards.text import Description, NoData, Requirement

QUEUE = 'queue=~"$queue"'
QUEUE_LINK = f"/d/{uid('queues')}?{LINK_PARAMETERS}&var-queue=${{__data.fields.Queue}}"
LENGTH = sum_by(gauge("celery_queue_length", QUEUE), "queue")
LIMIT = sum_by(gauge("celery_queue_length_limit", QUEUE), "queue")
WORKERS = sum_by(gauge("celery_queue_workers", QUEUE), "queue")
SLOTS = sum_by(gauge("celery_queue_slots", QUEUE), "queue")
UNACKED = gauge("celery_queue_unacked_messages", QUEUE)
OLDEST_AGE = oldest_message_age(QUEUE)
OLDEST_UNACKED_AGE = max_by(
    age("celery_broker_oldest_unacked_timestamp_seconds", aggregation="min")
)
VISIBILITY_TIMEOUT = min_by(gauge("celery_broker_visibility_timeout_seconds"))


def _started(over: str) -> str:
    return sum_by(rate("celery_task_started_total", QUEUE, over=over), "queue")


def _sent(over: str) -> str:
    return sum_by(rate("celery_task_sent_total", QUEUE, over=over), "queue")


def _drain_time(over: str) -> str:
    """Return length / start rate: 0 for an empty queue, infinite if none of its tasks start."""
    return f"(({LENGTH} > 0) / ({_started(over)} or 0 * {_sent(over)})) or ({LENGTH} == 0)"


DRAIN_TIME = _drain_time(RECENT)

TOTAL = stat_panel(
    PanelOptions(
        "Queue length",
        units.MESSAGES,
        Description(
            "Messages waiting in the selected queues, without those that workers hold.",
            "near 0, or falling.",
            "rising for long.",
            "find the queue and its consumers in the table below",
        ),
        Requirement.QUEUES,
        decimals=0,
    ),
    Target(f"sum ({LENGTH})"),
)
UNACKNOWLEDGED = stat_panel(
    PanelOptions(
        "Unacked",
        units.MESSAGES,
        Description(
            "Messages that workers hold and have not acknowledged: running, prefetched, or waiting "
            "for their ETA.",
            "about slots times the prefetch multiplier, plus tasks with an ETA.",
            "much more: workers prefetch messages that other workers could run.",
            "lower worker_prefetch_multiplier, or look for stalled workers",
        ),
        Requirement.QUEUES,
        "workers",
        0,
    ),
    Target(f"{sum_by(UNACKED)} or {sum_by(gauge('celery_broker_unacked_messages'))}"),
)
DELAYED = stat_panel(
    PanelOptions(
        "Delayed",
        units.MESSAGES,
        Description(
            "Messages with an ETA in RabbitMQ's native delayed delivery, of all queues together.",
            "as many as you have scheduled.",
            "rising for days: more tasks are scheduled than become due.",
            "find the task that is sent with long countdowns",
        ),
        NoData("No delayed messages (RabbitMQ only)"),
        decimals=0,
    ),
    Target(sum_by(gauge("celery_broker_delayed_messages"))),
)
UNSERVED = stat_panel(
    PanelOptions(
        "No consumers",
        units.QUEUES,
        Description(
            "Queues with messages and without consumers.",
            "0.",
            "any: their tasks never run.",
            "start a worker with `-Q QUEUE`, run `celery control add_consumer QUEUE`, or correct "
            "the routing",
        ),
        Requirement.QUEUES,
        "workers",
        0,
    ),
    Target(f"count (({LENGTH} > 0) and ({WORKERS} == 0)) or 0 * count ({LENGTH})"),
    thresholds=thresholds.NONZERO_IS_CRITICAL,
)
OLDEST = stat_panel(
    PanelOptions(
        "Oldest message",
        units.SECONDS,
        Description(
            "The age of the oldest waiting message of the selected queues, without messages that "
            "have an ETA.",
            "seconds.",
            "orange from 1 minute, red from 5.",
            "find its queue in the table",
        ),
        Requirement.OLDEST,
    ),
    Target(f"max ({OLDEST_AGE}) or (sum ({LENGTH}) == 0)"),
    thresholds=thresholds.ascending(60, 300),
)
LONGEST_DRAIN_TIME = stat_panel(
    PanelOptions(
        "Time to drain",
        units.SECONDS,
        Description(
            "Queue length divided by the rate of started tasks, of the slowest queue: the time "
            "until it is empty if no more tasks are sent.",
            "seconds to minutes.",
            "longer than your users accept; never: a queue has messages and none of its tasks "
            "start.",
            "add workers for that queue",
        ),
        Requirement.EVENTS,
    ),
    Target(f"max ({DRAIN_TIME})"),
    thresholds=thresholds.ascending(300, 3600),
    mappings=mappings.NEVER,
)
VISIBILITY = stat_panel(
    PanelOptions(
        "Oldest unacked",
        units.RATIO,
        Description(
            "Redis: the age of the oldest unacknowledged message, as a share of the visibility "
            "timeout.",
            "below 50 %.",
            "near 100 %: Redis redelivers the message, and its task runs twice.",
            "raise visibility_timeout above your longest task and longest ETA",
        ),
        NoData("No unacknowledged messages (Redis only)"),
        decimals=0,
    ),
    Target(f"{OLDEST_UNACKED_AGE} / {VISIBILITY_TIMEOUT}"),
    thresholds=thresholds.ascending(0.5, 0.8),
)
ORPHANED = stat_panel(
    PanelOptions(
        "Stale replies",
        units.QUEUES,
        Description(
            "Reply queues of remote control and RPC on RabbitMQ that have no consumers.",
            "a few, which expire.",
            "rising: a client calls `inspect` or waits for results, and disconnects.",
            "let reply queues expire (control_queue_expires), and find the client that leaves them",
        ),
        NoData("No reply queues (RabbitMQ only)"),
        decimals=0,
    ),
    Target(sum_by(gauge("celery_broker_orphaned_reply_queues"))),
    thresholds=thresholds.ascending(50, 500),
)

TABLE = table_panel(
    PanelOptions(
        "Queues",
        units.NONE,
        Description(
            "Length, task rates and consumers of each queue. A dash: no data.",
            "queues with messages have workers, and the start rate keeps up with the send rate.",
            "messages and 0 workers; more tasks sent than started; an oldest message of minutes.",
            "click a queue to show it alone",
        ),
        Requirement.QUEUES,
    ),
    {"queue": ("Queue", Column(link=QUEUE_LINK))},
    Target(LENGTH, "Length", Column(units.MESSAGES, decimals=0)),
    Target(
        WORKERS,
        "Workers",
        Column(units.WORKERS, thresholds.zero_cell(thresholds.WARNING), decimals=0),
    ),
    Target(SLOTS, "Slots", Column(units.SLOTS, decimals=0)),
    Target(OLDEST_AGE, "Oldest message", Column(units.SECONDS, thresholds.ascending_cell(60, 300))),
    Target(_sent(RECENT), "Sent", Column(units.TASKS_PER_SECOND, decimals=2)),
    Target(_started(RECENT), "Started", Column(units.TASKS_PER_SECOND, decimals=2)),
    Target(
        DRAIN_TIME,
        "Time to drain",
        Column(units.SECONDS, thresholds.ascending_cell(300, 3600), mappings.NEVER),
    ),
    Target(sum_by(UNACKED, "queue"), "Unacknowledged", Column(units.MESSAGES, decimals=0)),
    Target(
        f"{LENGTH} / {LIMIT}",
        "Limit used",
        Column(units.RATIO, thresholds.ascending_cell(0.8, 1), decimals=0),
    ),
    sort="Length",
)

LENGTHS = timeseries_panel(
    PanelOptions(
        "Queue length by queue",
        units.MESSAGES,
        Description(
            "Waiting messages of the ten longest of the selected queues.",
            "peaks that drain.",
            "a line that only rises.",
            "compare the rates of sent and started tasks beside it",
        ),
        Requirement.QUEUES,
    ),
    Target(topk(LENGTH), "{{queue}}"),
)
TASK_RATE = timeseries_panel(
    PanelOptions(
        "Tasks sent and started",
        units.TASKS_PER_SECOND,
        Description(
            "Rates of tasks sent to the selected queues and started by workers.",
            "equal rates.",
            "sent above started: the queue grows by the difference.",
            "add slots, or find the tasks that occupy the current ones (Tasks dashboard)",
        ),
        Requirement.EVENTS,
        "tasks",
    ),
    Target(f"sum ({_sent(RATE_INTERVAL)})", "sent"),
    Target(f"sum ({_started(RATE_INTERVAL)})", "started"),
    colors={"sent": thresholds.NEUTRAL, "started": thresholds.OK},
)
AGES = timeseries_panel(
    PanelOptions(
        "Oldest message by queue",
        units.SECONDS,
        Description(
            "The age of the oldest waiting message of each queue, of the ten oldest.",
            "a sawtooth near 0.",
            "a straight line upwards: no message leaves the queue.",
            "check whether the queue has workers, and their state",
        ),
        NoData("No messages wait, or sent events are off (task_send_sent_event)"),
        "workers",
    ),
    Target(topk(OLDEST_AGE), "{{queue}}"),
    thresholds=((None, thresholds.OK), (300, thresholds.CRITICAL)),
)
DRAIN_TIMES = timeseries_panel(
    PanelOptions(
        "Time to drain by queue",
        units.SECONDS,
        Description(
            "Queue length divided by the rate of started tasks; a gap if none start.",
            "low and flat.",
            "rising, or a gap while messages wait.",
            "add workers for that queue",
        ),
        Requirement.EVENTS,
    ),
    Target(topk(f"({_drain_time(RATE_INTERVAL)}) < Inf"), "{{queue}}"),
)
WORKERS_BY_QUEUE = timeseries_panel(
    PanelOptions(
        "Workers by queue",
        units.WORKERS,
        Description(
            "Workers that are up and consume each queue.",
            "flat, and at least two for important queues.",
            "0, or a step down without a deployment.",
            "find the missing worker on the Workers dashboard",
        ),
        Requirement.REPLIES,
        "workers",
    ),
    Target(topk(WORKERS, 20), "{{queue}}"),
)
LIMITS = timeseries_panel(
    PanelOptions(
        "Length limit used by queue",
        units.RATIO,
        Description(
            "Queue length as a share of the limit set by --queue-limit.",
            "below 80 %.",
            "above 100 %.",
            "add workers, reduce the rate of sent tasks, or correct the limit",
        ),
        NoData("No queue has a limit (--queue-limit NAME=N)"),
    ),
    Target(topk(f"{LENGTH} / {LIMIT}"), "{{queue}}"),
    thresholds=((None, thresholds.OK), (1, thresholds.CRITICAL)),
)
UNACKED_AND_DELAYED = timeseries_panel(
    PanelOptions(
        "Unacknowledged and delayed messages",
        units.MESSAGES,
        Description(
            "Messages held by workers (by queue on RabbitMQ, all together on Redis), and messages "
            "in delayed delivery.",
            "flat, in proportion to the slots.",
            "rising: workers receive tasks and do not finish them.",
            "look for stalled workers",
        ),
        Requirement.QUEUES,
        "workers",
    ),
    Target(topk(sum_by(UNACKED, "queue")), "{{queue}}"),
    Target(sum_by(gauge("celery_broker_unacked_messages")), "all queues (Redis)"),
    Target(sum_by(gauge("celery_broker_delayed_messages")), "delayed (RabbitMQ)"),
)
DEAD_LETTER_QUEUES = max_by(gauge("celery_queue_dead_letter_info", QUEUE), "dead_letter_queue")
DEAD_LETTERS = timeseries_panel(
    PanelOptions(
        "Dead letters",
        units.MESSAGES,
        Description(
            "Messages in the dead-letter queues of the selected queues.",
            "flat, and known.",
            "rising: tasks are rejected, expire in the broker, or reach a delivery limit.",
            "read the header x-death of a message in RabbitMQ's management interface",
        ),
        NoData("No queue has a dead-letter queue (RabbitMQ with its management API only)"),
        "tasks",
    ),
    Target(
        topk(
            f"{sum_by(gauge('celery_queue_length'), 'queue')} and on (queue) "
            f'label_replace({DEAD_LETTER_QUEUES}, "queue", "$1", "dead_letter_queue", "(.+)")'
        ),
        "{{queue}}",
    ),
)
CONSUMERS = timeseries_panel(
    PanelOptions(
        "Consumers by queue",
        units.NONE,
        Description(
            "Consumers of each queue as counted by RabbitMQ; on Redis, workers that report to "
            "consume it.",
            "as many as there are workers, or more.",
            "0 although workers report to consume the queue: their connection is broken.",
            "restart the worker",
        ),
        Requirement.QUEUES,
        "workers",
    ),
    Target(
        topk(f"{sum_by(gauge('celery_queue_consumers', QUEUE), 'queue')} or {WORKERS}"),
        "{{queue}}",
    ),
)

DASHBOARD = Dashboard(
    "queues",
    "Queues",
    "Length, drain time, consumers, limits and dead letters, by queue.",
    (
        Row(
            "",
            4,
            (
                (TOTAL, 3),
                (UNSERVED, 3),
                (OLDEST, 3),
                (LONGEST_DRAIN_TIME, 3),
                (UNACKNOWLEDGED, 3),
                (DELAYED, 3),
                (VISIBILITY, 3),
                (ORPHANED, 3),
            ),
        ),
        Row("", 8, ((TABLE, 24),)),
        Row("Queue length", 8, ((LENGTHS, 8), (TASK_RATE, 8), (AGES, 8))),
        Row(
            "Consumers and drain time",
            8,
            ((WORKERS_BY_QUEUE, 8), (CONSUMERS, 8), (DRAIN_TIMES, 8)),
        ),
        Row(
            "Limits, unacknowledged messages and dead letters",
            8,
            ((LIMITS, 8), (UNACKED_AND_DELAYED, 8), (DEAD_LETTERS, 8)),
        ),
    ),
    (Variable("queue", "celery_queue_length"),),
)
