"""Workers: which one it is, since when, and what it does."""

from __future__ import annotations

from tools.dashboards import look
from tools.dashboards.board import Board, Pick, Row
from tools.dashboards.look import STATES
from tools.dashboards.panels import (
    CARRY,
    About,
    Ask,
    Column,
    series_panel,
    stat_panel,
    table_panel,
    timeline_panel,
    uid,
)
from tools.dashboards.query import age, gauge, increase, least, most, rate, top, total
from tools.dashboards.words import Needs, Quiet, Words

WORKER = 'worker=~"$worker"'
ONE = f"/d/{uid('workers')}?{CARRY}&var-worker=${{__data.fields.Worker}}"
ACTIVE = total(gauge("celery_worker_active_tasks", WORKER), "worker")
SLOTS = total(gauge("celery_worker_pool_slots", WORKER), "worker")


def _each(metric: str) -> str:
    return most(gauge(metric, WORKER), "worker")


def _state() -> str:
    """The number of each worker's state; where replicas do not agree, the worse."""
    known = " or ".join(
        f"""({gauge("celery_worker_state", WORKER, f'state="{label}"')} == 1) * {number}"""
        for number, (label, _, _) in enumerate(STATES, 1)
    )
    return f"max by (worker) ({known})"


UP = stat_panel(
    About(
        "Up",
        look.WORKERS,
        Words(
            "Workers that were heard of lately (--worker-timeout).",
            "as many as you run.",
            "fewer.",
            "see below who is gone, and since when",
        ),
        Needs.EXPORTER,
        decimals=0,
    ),
    Ask(total(gauge("celery_worker_up", WORKER))),
    steps=look.UP,
)
GONE = stat_panel(
    About(
        "Gone",
        look.WORKERS,
        Words(
            "Workers that were there within --worker-forget-after and are no longer.",
            "0, or those that you have taken away.",
            "a worker that should be there.",
            "read its last log lines; look for an out-of-memory kill",
        ),
        Needs.REPLIES,
        decimals=0,
    ),
    Ask(total(gauge("celery_worker_state", WORKER, 'state="gone"'))),
    steps=((None, look.GOOD), (1, look.WATCH)),
)
STUCK = stat_panel(
    About(
        "Not working",
        look.WORKERS,
        Words(
            "Workers that answer, but consume no queue, or hold tasks and do not get on with them.",
            "0.",
            "any: their tasks wait although everything looks alive.",
            "look at their log and restart them; `celery control add_consumer` brings a cancelled consumer back",
        ),
        Needs.REPLIES,
        decimals=0,
    ),
    Ask(total(gauge("celery_worker_state", WORKER, 'state=~"not_consuming|stalled"'))),
    steps=look.ALARM,
)
TAKEN = stat_panel(
    About(
        "Slots taken",
        look.SHARE,
        Words(
            "The share of the chosen workers' slots in which a task runs.",
            "below 80 %.",
            "near 100 % while messages wait.",
            "add workers or slots",
        ),
        Needs.REPLIES,
        "queues",
        0,
    ),
    Ask(f"sum ({ACTIVE}) / sum ({SLOTS})"),
    steps=look.rising(0.8, 0.95),
)
RESTARTED = stat_panel(
    About(
        "Restarts in 1 h",
        "suffix: restarts",
        Words(
            "Restarts seen of all chosen workers.",
            "0, or your deployments.",
            "more: a worker crashes and comes back.",
            "see its log from before the restart",
        ),
        Needs.REPLIES,
        decimals=0,
    ),
    Ask(f"sum (round ({increase('celery_worker_restarts_total', WORKER, over='1h')}))"),
    steps=((None, look.GOOD), (3, look.WATCH)),
)
SILENT = stat_panel(
    About(
        "Without events",
        look.WORKERS,
        Words(
            "Workers that are known to send no task events: their tasks are missing on the Tasks dashboard.",
            "0.",
            "any.",
            "start them with -E, or the exporter with --enable-events",
        ),
        Needs.EVENTS,
        "tasks",
        0,
    ),
    Ask(f"sum (1 - {_each('celery_worker_task_events')})"),
    steps=((None, look.GOOD), (1, look.WATCH)),
)
SLOWEST = stat_panel(
    About(
        "Slowest answer",
        look.SECONDS,
        Words(
            "The longest time that a worker took for its last reply to remote control.",
            "milliseconds.",
            "seconds: its main process is held up. Orange from 0.5 s, red from 2 s.",
            "look at its CPU and at the network between",
        ),
        Needs.REPLIES,
    ),
    Ask(f"max ({_each('celery_worker_reply_seconds')})"),
    steps=look.rising(0.5, 2),
)
SKEW = stat_panel(
    About(
        "Clock offset",
        look.SECONDS,
        Words(
            "How far the clock of a worker is from the exporter's, at most.",
            "below a second.",
            "more: ETAs, expiry and waiting times are off by that much. Orange from 1 s, red from 10 s.",
            "set up time synchronization on that host",
        ),
        Quiet("Not known yet (needs task events)"),
    ),
    Ask(f"max (abs ({_each('celery_worker_clock_offset_seconds')}))"),
    steps=look.rising(1, 10),
)

STATES_LINES = timeline_panel(
    About(
        "State of each worker",
        look.NONE,
        Words(
            "What each worker was, over time.",
            "green (up) and blue (busy).",
            "red: answers but consumes nothing. Orange: holds tasks and does not get on. Grey: gone.",
            "click through to the worker in the table below",
        ),
        Needs.REPLIES,
    ),
    Ask(_state(), "{{worker}}"),
    mappings=look.STATE_WORDS,
)
TABLE = table_panel(
    About(
        "Worker by worker",
        look.NONE,
        Words(
            "Each worker now. A dash: not known.",
            "up or busy, consuming as many queues as it should, answering in milliseconds.",
            "not consuming, stalled or gone; 0 queues; more than one process under a name.",
            "click a worker to see it alone",
        ),
        Needs.REPLIES,
    ),
    {"worker": ("Worker", Column(link=ONE))},
    Ask(_state(), "State", Column(mappings=look.STATE_WORDS)),
    Ask(_each("celery_worker_consumed_queues"), "Consumes", Column(look.QUEUES, look.none_is(look.BAD), decimals=0)),
    Ask(ACTIVE, "Running", Column(look.TASKS, decimals=0)),
    Ask(SLOTS, "Slots", Column(look.SLOTS, decimals=0)),
    Ask(_each("celery_worker_prefetch_limit"), "Prefetch limit", Column(look.MESSAGES, decimals=0)),
    Ask(_each("celery_worker_reply_seconds"), "Answers in", Column(look.SECONDS)),
    Ask(
        least(age("celery_worker_last_seen_timestamp_seconds", WORKER), "worker"),
        "Last seen, ago",
        Column(look.SECONDS, decimals=0),
    ),
    Ask(most(age("celery_worker_start_timestamp_seconds", WORKER), "worker"), "Up for", Column(look.SECONDS)),
    Ask(_each("celery_worker_max_resident_memory_bytes"), "Peak memory", Column(look.BYTES)),
    Ask(
        _each("celery_worker_instances"),
        "Processes",
        Column(look.NONE, ((None, look.CLEAR), (2, look.BAD)), decimals=0),
    ),
    sort="State",
)

BUSY = series_panel(
    About(
        "Slots taken by worker",
        look.SHARE,
        Words(
            "The share of each worker's slots in which a task runs, of the twenty fullest.",
            "all alike, and below 100 %.",
            "one full and the others idle: it hoards; all full: too few.",
            "lower the prefetch multiplier, or add workers",
        ),
        Needs.REPLIES,
        "queues",
    ),
    Ask(top(f"{ACTIVE} / {SLOTS}", 20), "{{worker}}"),
    top=1,
)
ACCEPTED = series_panel(
    About(
        "Tasks begun by worker",
        look.TASKS_PER_SECOND,
        Words(
            "Tasks that each worker begins, each second, by its own count; needs no task events.",
            "all alike.",
            "0 at one of them while the others work.",
            "see its state, and what it consumes",
        ),
        Needs.REPLIES,
        "tasks",
    ),
    Ask(top(total(rate("celery_worker_processed_total", WORKER), "worker"), 20), "{{worker}}"),
)
BY_TASK = series_panel(
    About(
        "Tasks begun by name",
        look.TASKS_PER_SECOND,
        Words(
            "Tasks that the chosen workers begin, by name, by their own count; needs no task events.",
            "the usual mix.",
            "one task drives out all others.",
            "give it a queue and workers of its own",
        ),
        Needs.REPLIES,
        "tasks",
    ),
    Ask(top(total(rate("celery_worker_tasks_accepted_total", WORKER), "task")), "{{task}}"),
    stacked=True,
)
CPU = series_panel(
    About(
        "CPU of the main process",
        look.CORES,
        Words(
            "CPU time of each worker's main process; children of a pool are not in it.",
            "far below 1 core.",
            "near 1: the main process is the bottleneck, or spins.",
            "look at what it does: many small tasks, or a loop at a lost connection",
        ),
        Needs.REPLIES,
    ),
    Ask(top(total(rate("celery_worker_cpu_seconds_total", WORKER), "worker"), 20), "{{worker}}"),
)
MEMORY = series_panel(
    About(
        "Peak memory of the main process",
        look.BYTES,
        Words(
            "The most memory each worker's main process has held; children of a pool are not in it.",
            "flat.",
            "rising day by day.",
            "restart it regularly, and look for what it keeps",
        ),
        Needs.REPLIES,
    ),
    Ask(top(_each("celery_worker_max_resident_memory_bytes"), 20), "{{worker}}"),
)
RESTARTS = series_panel(
    About(
        "Restarts",
        "suffix: restarts",
        Words(
            "Restarts of each worker in the last 15 minutes.",
            "0, or your deployments.",
            "again and again.",
            "see its log from before the restart",
        ),
        Needs.REPLIES,
    ),
    Ask(
        top(f"sum by (worker) (round ({increase('celery_worker_restarts_total', WORKER, over='15m')}))", 20),
        "{{worker}}",
    ),
)
ANSWERS = series_panel(
    About(
        "Time to answer",
        look.SECONDS,
        Words(
            "How long each worker took for its last reply to remote control.",
            "milliseconds.",
            "seconds, or a line that ends: it does not answer.",
            "look at its CPU, and whether its main process is blocked",
        ),
        Needs.REPLIES,
    ),
    Ask(top(_each("celery_worker_reply_seconds"), 20), "{{worker}}"),
)
CLOCKS = series_panel(
    About(
        "Clock offset",
        look.SECONDS,
        Words(
            "How far each worker's clock is from the exporter's.",
            "below a second.",
            "more: ETAs, expiry and waiting times are off by that much.",
            "set up time synchronization on that host",
        ),
        Quiet("Not known yet (needs task events)"),
    ),
    Ask(top(f"abs ({_each('celery_worker_clock_offset_seconds')})", 20), "{{worker}}"),
)

BOARD = Board(
    "workers",
    "Workers",
    "Which worker it is, since when, and what it does.",
    (
        Row(
            "",
            4,
            ((UP, 3), (STUCK, 3), (GONE, 3), (TAKEN, 3), (RESTARTED, 3), (SILENT, 3), (SLOWEST, 3), (SKEW, 3)),
        ),
        Row("", 8, ((STATES_LINES, 24), (TABLE, 24))),
        Row("Who does what", 8, ((BUSY, 8), (ACCEPTED, 8), (BY_TASK, 8))),
        Row("How are they", 8, ((MEMORY, 8), (CPU, 8), (RESTARTS, 8), (ANSWERS, 12), (CLOCKS, 12))),
    ),
    (Pick("worker", "celery_worker_up"),),
)
