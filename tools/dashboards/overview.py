"""Overview: is it all right, and if not, where to look."""

from __future__ import annotations

from tools.dashboards import look
from tools.dashboards.board import Board, Row
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
from tools.dashboards.problems import problems, verdict
from tools.dashboards.query import (
    NOW,
    gauge,
    least,
    most,
    of,
    own,
    quantile,
    rate,
    top,
    total,
    waiting,
)
from tools.dashboards.words import Needs, Quiet, Words

LINK = f"/d/{uid('${__data.fields.Dashboard}')}?{CARRY}"
WAITING = total(gauge("celery_queue_length"))
FAILED = rate("celery_task_failed_total")
SUCCEEDED = rate("celery_task_succeeded_total")
FAILED_NOW = total(rate("celery_task_failed_total", over=NOW))
ENDED_NOW = total(f"{rate('celery_task_failed_total', over=NOW)} or {rate('celery_task_succeeded_total', over=NOW)}")

VERDICT = stat_panel(
    About(
        "Is it all right?",
        look.NONE,
        Words(
            "The worst of the problems listed beside it.",
            "HEALTHY: nothing in the list.",
            "UNHEALTHY: tasks are not done or not seen. DEGRADED: they are done late, or some of them fail.",
            "read the list from the top; its last column opens the dashboard that tells more",
        ),
        Needs.EXPORTER,
    ),
    Ask(verdict()),
    steps=((None, look.OFF),),
    mappings=look.VERDICT,
)

PROBLEMS = table_panel(
    About(
        "What is wrong now",
        look.NONE,
        Words(
            "Every problem that can be told from the metrics, now; the thresholds are not those of the alerts.",
            "no row.",
            "critical rows: tasks are not done, or nobody knows whether they are.",
            "begin with the broker and the workers: other rows often follow from those",
        ),
        Quiet("Nothing is wrong"),
    ),
    {
        "severity": ("Severity", Column(mappings=look.SEVERITY, width=80)),
        "where": ("Where", Column(width=130)),
        "problem": "Problem",
        "look": ("Dashboard", Column(link=LINK, width=100)),
    },
    Ask(problems()),
    sort="Severity",
    falling=False,
)

ALERTS = table_panel(
    About(
        "Firing alerts",
        look.NONE,
        Words(
            "The alerts of this product's rules that Prometheus says are firing (its series ALERTS), of every job.",
            "none, with the rules loaded.",
            "any critical one.",
            "follow the alert's runbook; see that the rules are loaded when something is wrong and none fires",
        ),
        Quiet("None fires (none can while the rules are not loaded)"),
    ),
    {
        "severity": ("Severity", Column(mappings=look.SEVERITY, width=80)),
        "alertname": "Alert",
    },
    Ask(
        'count by (alertname, severity) (ALERTS{alertname=~"Celery.*", alertstate="firing"})',
        "Firing",
        Column(width=65),
    ),
    sort="Severity",
    falling=False,
)


def _answers(title: str, metric: str, who: str, empty: Needs) -> About:
    words = Words(
        f"Whether {who} takes part in a round trip now, in time.",
        "UP.",
        "DOWN: tasks cannot be sent or their results are lost; most other numbers are not known then.",
        f"look at the server itself and the way to it; {metric} 0 has its reason in celery_probe_failures_total",
    )
    return About(title, look.NONE, words, empty, "exporter")


BROKER = stat_panel(
    _answers("Broker", "celery_broker_up", "the broker", Needs.EXPORTER),
    Ask(least(gauge("celery_broker_up"))),
    steps=((None, look.OFF),),
    mappings=look.ANSWERS,
)
BACKEND = stat_panel(
    _answers("Result backend", "celery_result_backend_up", "the result backend", Needs.BACKEND),
    Ask(least(gauge("celery_result_backend_up"))),
    steps=((None, look.OFF),),
    mappings=look.ANSWERS,
)
WORKERS = stat_panel(
    About(
        "Workers up",
        look.WORKERS,
        Words(
            "Workers that were heard of lately (--worker-timeout).",
            "as many as you run.",
            "0, or fewer than you run.",
            "see on the Workers dashboard who is gone, and since when",
        ),
        Needs.EXPORTER,
        "workers",
        0,
    ),
    Ask(total(gauge("celery_worker_up"))),
    steps=look.UP,
)
STUCK = stat_panel(
    About(
        "Not working",
        look.WORKERS,
        Words(
            "Workers that are there and answer, but consume no queue, or hold tasks and do not get on with them.",
            "0.",
            "any: their tasks wait although everything looks alive.",
            "look at their log and restart them; `celery control add_consumer` brings a cancelled consumer back",
        ),
        Needs.REPLIES,
        "workers",
        0,
    ),
    Ask(total(gauge("celery_worker_state", 'state=~"not_consuming|stalled"'))),
    steps=look.ALARM,
)
BACKLOG = stat_panel(
    About(
        "Backlog",
        look.MESSAGES,
        Words(
            "Messages that wait in all queues and that no worker holds.",
            "near 0, or going down.",
            "growing while the waiting time grows too.",
            "see on the Queues dashboard which queue it is, and whether anybody consumes it",
        ),
        Needs.QUEUES,
        "queues",
        0,
    ),
    Ask(WAITING),
)
OLDEST = stat_panel(
    About(
        "Oldest waiting",
        look.SECONDS,
        Words(
            "How long the oldest message has waited; those with an ETA do not count.",
            "seconds.",
            "more than your users bear: orange from 1 minute, red from 5.",
            "add workers for that queue, or find out what holds the present ones up",
        ),
        Needs.OLDEST,
        "queues",
    ),
    Ask(f"max ({waiting()}) or ({WAITING} == 0)"),
    steps=look.rising(60, 300),
)
FAILING = stat_panel(
    About(
        "Failing",
        look.SHARE,
        Words(
            "The share of finished tasks that failed, in the last 5 minutes; retries do not count.",
            "what is usual for your tasks; below 1 % is a common aim.",
            "orange from 2 %, red from 10 %.",
            "see on the Tasks dashboard which task fails, and by which exception",
        ),
        Needs.EVENTS,
        "tasks",
        1,
    ),
    Ask(f"({FAILED_NOW} or 0 * {ENDED_NOW}) / {ENDED_NOW}"),
    steps=look.rising(0.02, 0.1),
)
SATURATION = stat_panel(
    About(
        "Slots taken",
        look.SHARE,
        Words(
            "The share of all workers' slots in which a task runs.",
            "below 80 %.",
            "near 100 % while messages wait: there is no room for more.",
            "add workers or slots, or make the slowest task faster",
        ),
        Needs.REPLIES,
        "workers",
        0,
    ),
    Ask(f"{total(gauge('celery_worker_active_tasks'))} / {total(gauge('celery_worker_pool_slots'))}"),
    steps=look.rising(0.8, 0.95),
)

REACHABLE = timeline_panel(
    About(
        "Reachability",
        look.NONE,
        Words(
            "Whether broker, result backend and event stream answered, over time.",
            "green throughout.",
            "red: down. A gap: the exporter itself was not scraped.",
            "compare with restarts and deployments of the servers",
        ),
        Needs.EXPORTER,
        "exporter",
    ),
    Ask(least(gauge("celery_broker_up")), "broker"),
    Ask(least(gauge("celery_result_backend_up")), "result backend"),
    Ask(least(gauge("celery_exporter_event_stream_up")), "task events"),
    Ask(least(own(of("up"))), "exporter scraped"),
    mappings=look.ANSWERS,
)
BACKLOGS = series_panel(
    About(
        "Backlog by queue",
        look.MESSAGES,
        Words(
            "Messages that wait, in the ten longest queues.",
            "peaks that go away.",
            "a line that only rises: nobody consumes the queue, or too few do.",
            "open the Queues dashboard and compare its workers with what arrives",
        ),
        Needs.QUEUES,
        "queues",
    ),
    Ask(top(total(gauge("celery_queue_length"), "queue")), "{{queue}}"),
    stacked=True,
)
FLOW = series_panel(
    About(
        "In and out",
        look.TASKS_PER_SECOND,
        Words(
            "Tasks sent and tasks that ended (succeeded or failed), each second.",
            "the two lines lie on each other.",
            "sent above ended for long: the backlog grows. Ended at 0: nobody works.",
            "look at the backlog beside it and at the workers",
        ),
        Needs.EVENTS,
        "tasks",
    ),
    Ask(total(rate("celery_task_sent_total")), "sent"),
    Ask(total(f"{FAILED} or {SUCCEEDED}"), "ended"),
    fixed={"sent": look.CALM, "ended": look.GOOD},
)
FAILURES = series_panel(
    About(
        "Failures by task",
        look.TASKS_PER_SECOND,
        Words(
            "Failures each second, of the ten tasks that fail most.",
            "a flat line near 0.",
            "a task that fails more than it used to.",
            "open the Tasks dashboard, choose the task and read its exceptions",
        ),
        Quiet("No task has failed, or there are no task events (start workers with -E)"),
        "tasks",
    ),
    Ask(top(total(FAILED, "task")), "{{task}}"),
    stacked=True,
)
WAITS = series_panel(
    About(
        "Waiting time",
        look.SECONDS,
        Words(
            "From sent, or from its ETA, to started: the half, and the slowest twentieth.",
            "milliseconds to seconds, and flat.",
            "rising: work arrives faster than it is done.",
            "find the queue on the Queues dashboard",
        ),
        Needs.SENT,
        "queues",
    ),
    Ask(quantile(0.5, "celery_task_queue_wait_seconds"), "half within"),
    Ask(quantile(0.95, "celery_task_queue_wait_seconds"), "95 % within"),
    fixed={"half within": look.GOOD, "95 % within": look.WATCH},
)
RUNTIMES = series_panel(
    About(
        "Slowest tasks",
        look.SECONDS,
        Words(
            "The runtime within which 95 % of a task's runs succeed, of the five slowest tasks.",
            "flat.",
            "a task that becomes slower takes slots from all others.",
            "open the Tasks dashboard and look at the spread of its runtimes",
        ),
        Needs.EVENTS,
        "tasks",
    ),
    Ask(top(quantile(0.95, "celery_task_runtime_seconds", by=("task",)), 5), "{{task}}"),
)
SLOTS = series_panel(
    About(
        "Slots and how many are taken",
        look.SLOTS,
        Words(
            "The slots of all workers, and in how many of them a task runs.",
            "some are free most of the time.",
            "taken lies on slots while the backlog grows; or slots fall: workers are lost.",
            "see on the Workers dashboard which worker it is",
        ),
        Needs.REPLIES,
        "workers",
    ),
    Ask(total(gauge("celery_worker_pool_slots")), "slots"),
    Ask(total(gauge("celery_worker_active_tasks")), "taken"),
    fixed={"slots": look.CALM, "taken": look.WATCH},
)
UNSEEN = table_panel(
    About(
        "What cannot be seen",
        look.NONE,
        Words(
            "Things that this exporter cannot see now; its own page says why, and which setting shows them.",
            "no row.",
            "a row for something that you rely on: a panel about it is empty, not calm.",
            "open the exporter's page in a browser and change the setting it names",
        ),
        Quiet("Everything can be seen"),
        "exporter",
    ),
    {"subject": "Subject"},
    Ask(f"{most(gauge('celery_exporter_blind_spot'), 'subject')} == 1"),
)

BOARD = Board(
    "overview",
    "Overview",
    "Is it all right, and if not, where to look.",
    (
        Row("", 8, ((VERDICT, 4), (PROBLEMS, 13), (ALERTS, 7))),
        Row(
            "",
            4,
            (
                (BROKER, 3),
                (BACKEND, 3),
                (WORKERS, 3),
                (STUCK, 3),
                (BACKLOG, 3),
                (OLDEST, 3),
                (FAILING, 3),
                (SATURATION, 3),
            ),
        ),
        Row("Where is the backlog, and what fails", 8, ((BACKLOGS, 8), (FLOW, 8), (FAILURES, 8))),
        Row("What is slow, and who is busy", 8, ((WAITS, 8), (RUNTIMES, 8), (SLOTS, 8))),
        Row("What can be reached and seen", 7, ((REACHABLE, 16), (UNSEEN, 8))),
    ),
)
