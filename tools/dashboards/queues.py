"""Queues: where the backlog is, whether it goes down, and who works on it."""

from __future__ import annotations

from tools.dashboards import look
from tools.dashboards.board import Board, Pick, Row
from tools.dashboards.panels import (
    CARRY,
    About,
    Ask,
    Column,
    series_panel,
    stat_panel,
    table_panel,
    uid,
)
from tools.dashboards.query import NOW, RANGE, age, gauge, least, most, rate, top, total, waiting
from tools.dashboards.words import Needs, Quiet, Words

QUEUE = 'queue=~"$queue"'
ONE = f"/d/{uid('queues')}?{CARRY}&var-queue=${{__data.fields.Queue}}"
READY = total(gauge("celery_queue_length", QUEUE), "queue")
LIMIT = total(gauge("celery_queue_length_limit", QUEUE), "queue")
WORKERS = total(gauge("celery_queue_workers", QUEUE), "queue")
SLOTS = total(gauge("celery_queue_slots", QUEUE), "queue")
OLDEST = waiting(QUEUE)
HELD_SINCE = most(age("celery_broker_oldest_unacked_timestamp_seconds", how="min"))
VISIBILITY = least(gauge("celery_broker_visibility_timeout_seconds"))
ONLY_RABBITMQ = Quiet("None is known (only RabbitMQ's management tells)")


def _begun(over: str) -> str:
    return total(rate("celery_task_started_total", QUEUE, over=over), "queue")


def _sent(over: str) -> str:
    return total(rate("celery_task_sent_total", QUEUE, over=over), "queue")


def _drain(over: str) -> str:
    """The backlog over the pace: 0 without a backlog, infinite where none of what was sent is begun."""
    return f"(({READY} > 0) / ({_begun(over)} or 0 * {_sent(over)})) or ({READY} == 0)"


DRAIN = _drain(NOW)

TOTAL = stat_panel(
    About(
        "Ready",
        look.MESSAGES,
        Words(
            "Messages that wait in the chosen queues and that no worker holds.",
            "near 0, or going down.",
            "growing for long.",
            "look at the table below: which queue, and who consumes it",
        ),
        Needs.QUEUES,
        decimals=0,
    ),
    Ask(f"sum ({READY})"),
)
HELD = stat_panel(
    About(
        "Held",
        look.MESSAGES,
        Words(
            "Messages that workers hold and have not acknowledged: running, prefetched, or waiting for their ETA.",
            "about slots times the prefetch multiplier, plus tasks with an ETA.",
            "much more: workers hoard what others could do.",
            "lower worker_prefetch_multiplier, or look for workers that do not get on",
        ),
        Needs.QUEUES,
        "workers",
        0,
    ),
    Ask(f"{total(gauge('celery_queue_unacked_messages', QUEUE))} or {total(gauge('celery_broker_unacked_messages'))}"),
)
DELAYED = stat_panel(
    About(
        "Delayed",
        look.MESSAGES,
        Words(
            "Messages with an ETA that RabbitMQ's delayed delivery keeps, of all queues together.",
            "as many as you have sent for later.",
            "growing for days: something schedules more than is ever run.",
            "look for the task that is sent with long countdowns",
        ),
        Quiet("None known (RabbitMQ only)"),
        decimals=0,
    ),
    Ask(total(gauge("celery_broker_delayed_messages"))),
)
UNSERVED = stat_panel(
    About(
        "Unserved",
        look.QUEUES,
        Words(
            "Queues in which messages wait and that no worker consumes.",
            "0.",
            "any: those tasks are never done.",
            "start a worker with `-Q` and the queue's name, or `celery control add_consumer`; or correct the routing",
        ),
        Needs.QUEUES,
        "workers",
        0,
    ),
    Ask(f"count (({READY} > 0) and ({WORKERS} == 0)) or 0 * count ({READY})"),
    steps=look.ALARM,
)
OLDEST_STAT = stat_panel(
    About(
        "Oldest waiting",
        look.SECONDS,
        Words(
            "How long the oldest message of the chosen queues has waited; those with an ETA do not count.",
            "seconds.",
            "orange from 1 minute, red from 5.",
            "see in the table which queue it is in",
        ),
        Needs.OLDEST,
    ),
    Ask(f"max ({OLDEST}) or (sum ({READY}) == 0)"),
    steps=look.rising(60, 300),
)
LONGEST_DRAIN = stat_panel(
    About(
        "Time to clear",
        look.SECONDS,
        Words(
            "How long the slowest queue takes to be empty, at the pace at which its tasks are begun, if no more came.",
            "seconds to minutes.",
            "longer than your users bear; never: nothing is begun in a queue that has messages.",
            "add workers for that queue",
        ),
        Needs.EVENTS,
    ),
    Ask(f"max ({DRAIN})"),
    steps=look.rising(300, 3600),
    mappings=look.NEVER,
)
VISIBLE = stat_panel(
    About(
        "Held too long",
        look.SHARE,
        Words(
            "Redis: for how much of the visibility timeout the oldest unacknowledged message has been held.",
            "below 50 %.",
            "near 100 %: Redis hands the message out again and its task runs twice.",
            "raise visibility_timeout above your longest task and longest ETA",
        ),
        Quiet("Nothing is held (Redis only)"),
        decimals=0,
    ),
    Ask(f"{HELD_SINCE} / {VISIBILITY}"),
    steps=look.rising(0.5, 0.8),
)
ORPHANS = stat_panel(
    About(
        "Stray replies",
        look.QUEUES,
        Words(
            "Reply queues of remote control and RPC on RabbitMQ that nobody consumes any more.",
            "a few, that expire.",
            "growing: something calls `inspect` or waits for results and goes away.",
            "let reply queues expire (control_queue_expires), and find who leaves them",
        ),
        Quiet("None known (RabbitMQ only)"),
        decimals=0,
    ),
    Ask(total(gauge("celery_broker_orphaned_reply_queues"))),
    steps=look.rising(50, 500),
)

TABLE = table_panel(
    About(
        "Queue by queue",
        look.NONE,
        Words(
            "What waits in each queue, what comes and goes, and who works on it. A dash: not known.",
            "queues with work have workers, and begun keeps up with sent.",
            "ready above 0 with 0 workers; sent above begun; waiting for minutes.",
            "click a queue to see it alone",
        ),
        Needs.QUEUES,
    ),
    {"queue": ("Queue", Column(link=ONE))},
    Ask(READY, "Ready", Column(look.MESSAGES, decimals=0)),
    Ask(WORKERS, "Workers", Column(look.WORKERS, look.none_is(look.WATCH), decimals=0)),
    Ask(SLOTS, "Slots", Column(look.SLOTS, decimals=0)),
    Ask(OLDEST, "Oldest waiting", Column(look.SECONDS, look.calm(60, 300))),
    Ask(_sent(NOW), "Sent", Column(look.TASKS_PER_SECOND, decimals=2)),
    Ask(_begun(NOW), "Begun", Column(look.TASKS_PER_SECOND, decimals=2)),
    Ask(DRAIN, "Time to clear", Column(look.SECONDS, look.calm(300, 3600), look.NEVER)),
    Ask(
        total(gauge("celery_queue_unacked_messages", QUEUE), "queue"),
        "Unacknowledged",
        Column(look.MESSAGES, decimals=0),
    ),
    Ask(f"{READY} / {LIMIT}", "Of its limit", Column(look.SHARE, look.calm(0.8, 1), decimals=0)),
    sort="Ready",
)

LENGTHS = series_panel(
    About(
        "Ready by queue",
        look.MESSAGES,
        Words(
            "Messages that wait, in the ten longest of the chosen queues.",
            "peaks that go away.",
            "a line that only rises.",
            "compare with what is sent and begun, beside it",
        ),
        Needs.QUEUES,
    ),
    Ask(top(READY), "{{queue}}"),
)
ARRIVAL = series_panel(
    About(
        "Sent and begun",
        look.TASKS_PER_SECOND,
        Words(
            "Tasks that arrive in the chosen queues and tasks that workers begin, each second.",
            "the lines lie on each other.",
            "sent above begun: the backlog grows by the difference.",
            "add slots, or find out what takes the present ones (Tasks dashboard)",
        ),
        Needs.EVENTS,
        "tasks",
    ),
    Ask(f"sum ({_sent(RANGE)})", "sent"),
    Ask(f"sum ({_begun(RANGE)})", "begun"),
    fixed={"sent": look.CALM, "begun": look.GOOD},
)
AGES = series_panel(
    About(
        "Oldest waiting by queue",
        look.SECONDS,
        Words(
            "How long the oldest message of each queue has waited, of the ten longest.",
            "saw teeth near 0.",
            "a straight line upwards: nothing leaves the queue at all.",
            "see whether the queue has workers and what they do",
        ),
        Quiet("Nothing waits, or sent events are off (task_send_sent_event)"),
        "workers",
    ),
    Ask(top(OLDEST), "{{queue}}"),
    limit=((None, look.GOOD), (300, look.BAD)),
)
DRAINS = series_panel(
    About(
        "Time to clear by queue",
        look.SECONDS,
        Words(
            "The backlog over the pace at which its tasks are begun; a gap where none is begun.",
            "low and flat.",
            "rising, or a gap while messages wait.",
            "add workers for that queue",
        ),
        Needs.EVENTS,
    ),
    Ask(top(f"({_drain(RANGE)}) < Inf"), "{{queue}}"),
)
SERVED = series_panel(
    About(
        "Workers by queue",
        look.WORKERS,
        Words(
            "How many workers that are up consume each queue.",
            "flat, and at least two for what matters.",
            "0, or a step down without a deployment.",
            "see on the Workers dashboard who went",
        ),
        Needs.REPLIES,
        "workers",
    ),
    Ask(top(WORKERS, 20), "{{queue}}"),
)
LIMITS = series_panel(
    About(
        "Share of limit by queue",
        look.SHARE,
        Words(
            "The length of each queue over the limit that --queue-limit gives it.",
            "below 80 %.",
            "above 100 %.",
            "add workers, slow the senders down, or correct the limit",
        ),
        Quiet("No queue has a limit (--queue-limit NAME=N)"),
    ),
    Ask(top(f"{READY} / {LIMIT}"), "{{queue}}"),
    limit=((None, look.GOOD), (1, look.BAD)),
)
HELD_LINES = series_panel(
    About(
        "Unacknowledged and delayed",
        look.MESSAGES,
        Words(
            "What workers hold (by queue on RabbitMQ, all together on Redis), and what delayed delivery keeps.",
            "flat, in proportion to the slots.",
            "growing: workers take and do not finish.",
            "look for stalled workers",
        ),
        Needs.QUEUES,
        "workers",
    ),
    Ask(top(total(gauge("celery_queue_unacked_messages", QUEUE), "queue")), "{{queue}}"),
    Ask(total(gauge("celery_broker_unacked_messages")), "all queues (Redis)"),
    Ask(total(gauge("celery_broker_delayed_messages")), "delayed (RabbitMQ)"),
)
CONSUMERS = series_panel(
    About(
        "Consumers by the broker's count",
        look.NONE,
        Words(
            "Consumers of each queue as RabbitMQ counts them; on Redis, workers by their own word.",
            "as many as there are workers, or more.",
            "0 although workers say they consume: a broken connection.",
            "restart the worker",
        ),
        Needs.QUEUES,
        "workers",
    ),
    Ask(top(f"{total(gauge('celery_queue_consumers', QUEUE), 'queue')} or {WORKERS}"), "{{queue}}"),
)

BOARD = Board(
    "queues",
    "Queues",
    "Where the backlog is, whether it goes down, and who works on it.",
    (
        Row(
            "",
            4,
            (
                (TOTAL, 3),
                (UNSERVED, 3),
                (OLDEST_STAT, 3),
                (LONGEST_DRAIN, 3),
                (HELD, 3),
                (DELAYED, 3),
                (VISIBLE, 3),
                (ORPHANS, 3),
            ),
        ),
        Row("", 8, ((TABLE, 24),)),
        Row("Does it grow", 8, ((LENGTHS, 8), (ARRIVAL, 8), (AGES, 8))),
        Row("Who works on it, and for how long", 8, ((SERVED, 8), (CONSUMERS, 8), (DRAINS, 8))),
        Row("Limits, and what is held", 8, ((LIMITS, 12), (HELD_LINES, 12))),
    ),
    (Pick("queue", "celery_queue_length"),),
)
