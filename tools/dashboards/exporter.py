"""Exporter: whether what the other dashboards show can be believed."""

from __future__ import annotations

from tools.dashboards import look
from tools.dashboards.board import Board, Row
from tools.dashboards.panels import About, Ask, Column, series_panel, stat_panel, table_panel
from tools.dashboards.query import NOW, RANGE, of, own
from tools.dashboards.words import Needs, Quiet, Words

# Nothing is made one here: each exporter is looked at for itself.


def _rate(metric: str, *by: str, over: str = RANGE) -> str:
    return f"sum by ({', '.join(by)}) (rate({of(metric)}[{over}]))"


def _seen(metric: str, *by: str) -> str:
    return f"max by ({', '.join(by)}) ({of(metric)})"


def _scrape(metric: str) -> str:
    return f"max by (instance) ({own(of(metric))})"


MISSED = (
    f"(sum (rate({of('celery_exporter_events_missed_total')}[{NOW}])) or 0 * sum ({of('celery_exporter_build_info')}))"
)
CPU = f"rate({of('process_cpu_seconds_total')}[{RANGE}])"

SCRAPED = stat_panel(
    About(
        "Exporters up",
        "suffix: exporters",
        Words(
            "Exporters of the chosen jobs that Prometheus can scrape.",
            "all of them.",
            "0, or fewer than there are.",
            "look at Prometheus' targets page, and at the exporter's log",
        ),
        Needs.EXPORTER,
        decimals=0,
    ),
    Ask(f"sum ({own(of('up'))})"),
    steps=look.UP,
)
BUDGET = stat_panel(
    About(
        "Scrape time",
        look.SHARE,
        Words(
            "How much of the time that a scrape has is used, by the slowest exporter.",
            "below 50 %.",
            "near 100 %: probes are cut off, and their values are missing.",
            "see below which collector is slow; raise scrape_timeout",
        ),
        Needs.EXPORTER,
        decimals=0,
    ),
    Ask(f"max ({_scrape('scrape_duration_seconds')} / {_seen('celery_scrape_timeout_seconds', 'instance')})"),
    steps=look.rising(0.5, 0.8),
)
PROBES = stat_panel(
    About(
        "Failing probes",
        "suffix: collectors",
        Words(
            "Collectors whose last run did not give all it can give.",
            "0.",
            "any: its values are absent.",
            "see the reasons below",
        ),
        Needs.EXPORTER,
        decimals=0,
    ),
    Ask(f"sum (1 - {_seen('celery_scrape_collector_success', 'instance', 'collector')})"),
    steps=look.ALARM,
)
HEARD = stat_panel(
    About(
        "Event stream",
        look.NONE,
        Words(
            "Whether the exporter hears task events: its own canary came back lately.",
            "UP.",
            "DOWN: nothing is counted now; on Redis it is lost for good.",
            "see that the broker answers, and the exporter's log",
        ),
        Needs.EVENTS,
    ),
    Ask(f"min ({of('celery_exporter_event_stream_up')})"),
    steps=((None, look.OFF),),
    mappings=look.ANSWERS,
)
LAG = stat_panel(
    About(
        "Event lag",
        look.SECONDS,
        Words(
            "How long the last canary took through the broker.",
            "milliseconds.",
            "seconds: the exporter or the broker is behind. Orange from 1 s, red from 10 s.",
            "see its CPU; filter event types, or give it more",
        ),
        Needs.EVENTS,
    ),
    Ask(f"max ({of('celery_exporter_event_lag_seconds')})"),
    steps=look.rising(1, 10),
)
LOST = stat_panel(
    About(
        "Events missed",
        look.SHARE,
        Words(
            "Starts that workers counted and of which no event arrived, of all starts, over the last 5 minutes.",
            "0 %.",
            "more: counts on the Tasks dashboard are too low by that much.",
            "see whether the exporter keeps up; on RabbitMQ use --event-queue",
        ),
        Needs.EVENTS,
        decimals=1,
    ),
    Ask(f"{MISSED} / ({MISSED} + sum (rate({of('celery_task_started_total')}[{NOW}])))"),
    steps=look.rising(0.001, 0.01),
)
SIZE = stat_panel(
    About(
        "Series",
        look.SERIES,
        Words(
            "Samples in a scrape of the largest exporter.",
            "thousands.",
            "hundreds of thousands: names without bounds in tasks, queues or labels.",
            "see below what grows; lower the --max- options",
        ),
        Needs.EXPORTER,
        decimals=0,
    ),
    Ask(f"max ({_scrape('scrape_samples_scraped')})"),
)
MEMORY = stat_panel(
    About(
        "Memory",
        look.BYTES,
        Words(
            "Resident memory of the largest exporter.",
            "tens of megabytes, flat.",
            "growing for days.",
            "see the tasks in flight and the series",
        ),
        Quiet("Left out by --web.disable-exporter-metrics"),
    ),
    Ask(f"max ({own(of('process_resident_memory_bytes'))})"),
)

COLLECTORS = table_panel(
    About(
        "Collectors",
        look.NONE,
        Words(
            "The last run of each collector, the worst of all chosen exporters.",
            "all yes, in milliseconds.",
            "no: its values are absent.",
            "see the reasons beside it, and the exporter's log",
        ),
        Needs.EXPORTER,
    ),
    {"collector": "Collector"},
    Ask(f"min by (collector) ({of('celery_scrape_collector_success')})", "Complete", Column(mappings=look.YES_NO)),
    Ask(_seen("celery_scrape_collector_duration_seconds", "collector"), "Took", Column(look.SECONDS)),
    Ask(
        f"time() - min by (collector) ({of('celery_probe_last_success_timestamp_seconds')})",
        "Complete, ago",
        Column(look.SECONDS, decimals=0),
    ),
)
UNSEEN = table_panel(
    About(
        "What cannot be seen",
        look.NONE,
        Words(
            "Things that an exporter cannot see now; its own page says why, and which setting shows them.",
            "no row.",
            "a row for something that you rely on.",
            "open the exporter's page in a browser and change the setting it names",
        ),
        Quiet("Everything can be seen"),
    ),
    {"subject": "Subject", "instance": "Exporter"},
    Ask(f"{_seen('celery_exporter_blind_spot', 'subject', 'instance')} == 1"),
)
VERSIONS = table_panel(
    About(
        "Versions",
        look.NONE,
        Words(
            "The exporters, and what they run on.",
            "all of one version.",
            "old ones.",
            "update",
        ),
        Needs.EXPORTER,
    ),
    {
        "instance": ("Exporter", Column(width=140)),
        "version": "Version",
        "python": "Python",
        "celery": "Celery",
        "kombu": "kombu",
    },
    Ask(_seen("celery_exporter_build_info", "instance", "version", "python", "celery", "kombu")),
)

DURATIONS = series_panel(
    About(
        "Scrape against its deadline",
        look.SECONDS,
        Words(
            "How long Prometheus waited for each exporter, and the time that the exporter was given.",
            "far below the deadline.",
            "at the deadline: probes are cut off.",
            "see beside it which collector takes the time",
        ),
        Needs.EXPORTER,
    ),
    Ask(_scrape("scrape_duration_seconds"), "{{instance}}"),
    Ask(f"min ({of('celery_scrape_timeout_seconds')})", "deadline"),
    fixed={"deadline": look.BAD},
)
TIMES = series_panel(
    About(
        "Time by collector",
        look.SECONDS,
        Words(
            "How long the last run of each collector took, at the slowest exporter.",
            "milliseconds, flat.",
            "one that climbs.",
            "its server is slow: broker, backend, or a worker that does not answer",
        ),
        Needs.EXPORTER,
        "overview",
    ),
    Ask(_seen("celery_scrape_collector_duration_seconds", "collector"), "{{collector}}"),
)
REASONS = series_panel(
    About(
        "Failed runs by reason",
        "suffix: /s",
        Words(
            "Runs of collectors that failed, by reason, each second.",
            "nothing.",
            "any for long. timeout: hangs or is slow; refused: not there; auth: wrong credentials.",
            "act on the reason; the log has the text",
        ),
        Quiet("No run has failed"),
    ),
    Ask(_rate("celery_probe_failures_total", "collector", "reason"), "{{collector}}: {{reason}}"),
)
EVENTS = series_panel(
    About(
        "Events by type",
        look.EVENTS_PER_SECOND,
        Words(
            "Events received, each second.",
            "as many starts as ends.",
            "none while tasks run.",
            "see the event stream above; start workers with -E",
        ),
        Needs.EVENTS,
        "tasks",
    ),
    Ask(_rate("celery_exporter_events_received_total", "type"), "{{type}}"),
    stacked=True,
)
LAGS = series_panel(
    About(
        "Event lag",
        look.SECONDS,
        Words(
            "How long the last canary took through the broker, for each exporter.",
            "milliseconds.",
            "rising: the exporter is behind.",
            "see its CPU",
        ),
        Needs.EVENTS,
    ),
    Ask(_seen("celery_exporter_event_lag_seconds", "instance"), "{{instance}}"),
)
LOSSES = series_panel(
    About(
        "Missed, rejected, given up",
        look.EVENTS_PER_SECOND,
        Words(
            "Events that never arrived, that could not be used, and tasks that were given up following.",
            "nothing.",
            "any for long: counts are too low.",
            "missed: the exporter or the broker is overrun; rejected: see its log; given up: see the tasks followed",
        ),
        Quiet("Nothing is lost"),
    ),
    Ask(_rate("celery_exporter_events_missed_total", "worker"), "missed of {{worker}}"),
    Ask(_rate("celery_exporter_events_rejected_total", "reason"), "rejected: {{reason}}"),
    Ask(_rate("celery_exporter_tasks_in_flight_evicted_total", "instance"), "given up by {{instance}}"),
)
FOLLOWED = series_panel(
    About(
        "Tasks followed",
        look.TASKS,
        Words(
            "Tasks that are sent and not ended, as far as each exporter follows them.",
            "about the backlog and what runs.",
            "growing without a backlog: ends are not heard.",
            "see events missed",
        ),
        Needs.EVENTS,
        "queues",
    ),
    Ask(_seen("celery_exporter_tasks_in_flight", "instance"), "{{instance}}"),
)
SERIES = series_panel(
    About(
        "Series by exporter",
        look.SERIES,
        Words(
            "Samples in each scrape.",
            "flat.",
            "growing: new names every day in tasks, queues or labels.",
            "see what is folded, beside it",
        ),
        Needs.EXPORTER,
    ),
    Ask(_scrape("scrape_samples_scraped"), "{{instance}}"),
)
FOLDED = series_panel(
    About(
        "Labels folded into _other",
        "suffix: /s",
        Words(
            "Times that a label was folded because a cap on names was reached.",
            "nothing.",
            "any: totals stay right, names are lost.",
            "raise the cap that the metric's name tells, or stop making up names",
        ),
        Quiet("No cap was reached"),
    ),
    Ask(_rate("celery_exporter_series_folded_total", "metric"), "{{metric}}"),
)
PROCESS = series_panel(
    About(
        "CPU of the exporter",
        look.CORES,
        Words(
            "CPU of each exporter's process.",
            "a few hundredths.",
            "near 1: it cannot keep up with the events.",
            "leave out the labels you do not need",
        ),
        Quiet("Left out by --web.disable-exporter-metrics"),
    ),
    Ask(f"sum by (instance) ({own(CPU)})", "{{instance}}"),
)
CONNECTIONS = series_panel(
    About(
        "Connections to the broker",
        "suffix: connections",
        Words(
            "Connections that each exporter holds open to the broker.",
            "five or fewer.",
            "growing.",
            "report it: this is a defect of the exporter",
        ),
        Needs.EXPORTER,
    ),
    Ask(_seen("celery_exporter_broker_connections", "instance"), "{{instance}}"),
)

BOARD = Board(
    "exporter",
    "Exporter",
    "Whether what the other dashboards show can be believed.",
    (
        Row(
            "",
            4,
            (
                (SCRAPED, 3),
                (BUDGET, 3),
                (PROBES, 3),
                (HEARD, 3),
                (LAG, 3),
                (LOST, 3),
                (SIZE, 3),
                (MEMORY, 3),
            ),
        ),
        Row(
            "Scrapes and probes",
            8,
            ((COLLECTORS, 8), (DURATIONS, 8), (TIMES, 8), (REASONS, 8), (UNSEEN, 8), (VERSIONS, 8)),
        ),
        Row("Task events", 8, ((EVENTS, 8), (LAGS, 8), (LOSSES, 8))),
        Row("Size", 8, ((FOLLOWED, 8), (SERIES, 8), (FOLDED, 8), (PROCESS, 12), (CONNECTIONS, 12))),
    ),
)
