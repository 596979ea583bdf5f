"""Exporter: scrapes, collectors, event loss and series of the exporter itself."""

from __future__ import annotations

from tools.dashboards import mappings, thresholds, units
from tools.dashboards.dashboard import Dashboard, Row
from tools.dashboards.panels import (
    Column,
    PanelOptions,
    Target,
    stat_panel,
    table_panel,
    timeseries_panel,
)
from tools.dashboards.query import RATE_INTERVAL, RECENT, exporters_only, selector
from tools.dashboards.text import Description, NoData, Requirement

# Replicas are not merged on this dashboard: it shows each exporter.


def _rate(metric: str, *by: str, over: str = RATE_INTERVAL) -> str:
    return f"sum by ({', '.join(by)}) (rate({selector(metric)}[{over}]))"


def _max(metric: str, *by: str) -> str:
    return f"max by ({', '.join(by)}) ({selector(metric)})"


def _scrape_metric(metric: str) -> str:
    return f"max by (instance) ({exporters_only(selector(metric))})"


MISSED = (
    f"(sum (rate({selector('celery_exporter_events_missed_total')}[{RECENT}])) "
    f"or 0 * sum ({selector('celery_exporter_build_info')}))"
)
CPU = f"rate({selector('process_cpu_seconds_total')}[{RATE_INTERVAL}])"

EXPORTERS_UP = stat_panel(
    PanelOptions(
        "Exporters up",
        units.EXPORTERS,
        Description(
            "Exporters of the selected jobs that Prometheus can scrape.",
            "all of them.",
            "0, or fewer than you run.",
            "check the Targets page of Prometheus and the exporter's log",
        ),
        Requirement.EXPORTER,
        decimals=0,
    ),
    Target(f"sum ({exporters_only(selector('up'))})"),
    thresholds=thresholds.ZERO_IS_CRITICAL,
)
SCRAPE_BUDGET = stat_panel(
    PanelOptions(
        "Scrape budget",
        units.RATIO,
        Description(
            "Scrape duration as a share of the scrape timeout, of the slowest exporter.",
            "below 50 %.",
            "near 100 %: collectors are cut off at the deadline, and their values are absent.",
            "find the slow collector below, or raise scrape_timeout",
        ),
        Requirement.EXPORTER,
        decimals=0,
    ),
    Target(
        f"max ({_scrape_metric('scrape_duration_seconds')} / "
        f"{_max('celery_scrape_timeout_seconds', 'instance')})"
    ),
    thresholds=thresholds.ascending(0.5, 0.8),
)
FAILING_COLLECTORS = stat_panel(
    PanelOptions(
        "Failing collectors",
        units.COLLECTORS,
        Description(
            "Collectors whose last run failed.",
            "0.",
            "any: the collector's values are absent.",
            "check the reasons below",
        ),
        Requirement.EXPORTER,
        decimals=0,
    ),
    Target(f"sum (1 - {_max('celery_scrape_collector_success', 'instance', 'collector')})"),
    thresholds=thresholds.NONZERO_IS_CRITICAL,
)
EVENT_STREAM = stat_panel(
    PanelOptions(
        "Event stream",
        units.NONE,
        Description(
            "Whether the event stream is live: the last canary event arrived in time.",
            "UP.",
            "DOWN: no task events are counted; on Redis they are lost.",
            "check the broker and the exporter's log",
        ),
        Requirement.EVENTS,
    ),
    Target(f"min ({selector('celery_exporter_event_stream_up')})"),
    thresholds=thresholds.MAPPINGS_ONLY,
    mappings=mappings.UP_DOWN,
)
LAG = stat_panel(
    PanelOptions(
        "Event lag",
        units.SECONDS,
        Description(
            "Latency of the last canary event through the broker.",
            "milliseconds.",
            "seconds: the exporter or the broker is behind. Orange from 1 s, red from 10 s.",
            "check the exporter's CPU; filter event types, or give it more CPU",
        ),
        Requirement.EVENTS,
    ),
    Target(f"max ({selector('celery_exporter_event_lag_seconds')})"),
    thresholds=thresholds.ascending(1, 10),
)
MISSED_RATIO = stat_panel(
    PanelOptions(
        "Events missed",
        units.RATIO,
        Description(
            "The share of started tasks whose events never arrived, by the workers' own count, "
            "over the last 5 minutes.",
            "0 %.",
            "more: counts on the Tasks dashboard are too low by as much.",
            "check whether the exporter keeps up; on RabbitMQ use --event-queue",
        ),
        Requirement.EVENTS,
        decimals=1,
    ),
    Target(
        f"{MISSED} / ({MISSED} + sum (rate({selector('celery_task_started_total')}[{RECENT}])))"
    ),
    thresholds=thresholds.ascending(0.001, 0.01),
)
SERIES = stat_panel(
    PanelOptions(
        "Series",
        units.SERIES,
        Description(
            "Samples per scrape of the largest exporter.",
            "thousands.",
            "hundreds of thousands: task names, queue names or labels of unbounded cardinality.",
            "check the graph of series below; lower the --max- options",
        ),
        Requirement.EXPORTER,
        decimals=0,
    ),
    Target(f"max ({_scrape_metric('scrape_samples_scraped')})"),
)
MEMORY = stat_panel(
    PanelOptions(
        "Memory",
        units.BYTES,
        Description(
            "Resident memory of the largest exporter.",
            "tens of megabytes, flat.",
            "rising for days.",
            "check the tasks in flight and the number of series",
        ),
        NoData("Disabled by --web.disable-exporter-metrics"),
    ),
    Target(f"max ({exporters_only(selector('process_resident_memory_bytes'))})"),
)

COLLECTORS = table_panel(
    PanelOptions(
        "Collectors",
        units.NONE,
        Description(
            "The last run of each collector, the worst of all selected exporters.",
            "all yes, in milliseconds.",
            "no: the collector's values are absent.",
            "check the failures by reason and the exporter's log",
        ),
        Requirement.EXPORTER,
    ),
    {"collector": "Collector"},
    Target(
        f"min by (collector) ({selector('celery_scrape_collector_success')})",
        "Success",
        Column(mappings=mappings.YES_NO),
    ),
    Target(
        _max("celery_scrape_collector_duration_seconds", "collector"),
        "Duration",
        Column(units.SECONDS),
    ),
    Target(
        f"time() - min by (collector) ({selector('celery_probe_last_success_timestamp_seconds')})",
        "Last success",
        Column(units.SECONDS, decimals=0),
    ),
)
BLIND_SPOTS = table_panel(
    PanelOptions(
        "Blind spots",
        units.NONE,
        Description(
            "What an exporter cannot observe now; its status page has the reason and the setting "
            "to change.",
            "no row.",
            "a row for something that you rely on.",
            "open the exporter's status page and change the setting that it names",
        ),
        NoData("No blind spots"),
    ),
    {"subject": "Subject", "instance": "Exporter"},
    Target(f"{_max('celery_exporter_blind_spot', 'subject', 'instance')} == 1"),
)
VERSIONS = table_panel(
    PanelOptions(
        "Versions",
        units.NONE,
        Description(
            "Versions of the exporters, and of Python and their libraries.",
            "the same version everywhere.",
            "outdated versions.",
            "upgrade",
        ),
        Requirement.EXPORTER,
    ),
    {
        "instance": ("Exporter", Column(width=140)),
        "version": "Version",
        "python": "Python",
        "celery": "Celery",
        "kombu": "kombu",
    },
    Target(_max("celery_exporter_build_info", "instance", "version", "python", "celery", "kombu")),
)

SCRAPE_DURATION = timeseries_panel(
    PanelOptions(
        "Scrape duration and timeout",
        units.SECONDS,
        Description(
            "Scrape duration of each exporter, and the timeout that the exporter applies.",
            "far below the timeout.",
            "at the timeout: collectors are cut off.",
            "find the slow collector beside it",
        ),
        Requirement.EXPORTER,
    ),
    Target(_scrape_metric("scrape_duration_seconds"), "{{instance}}"),
    Target(f"min ({selector('celery_scrape_timeout_seconds')})", "timeout"),
    colors={"timeout": thresholds.CRITICAL},
)
COLLECTOR_DURATION = timeseries_panel(
    PanelOptions(
        "Duration by collector",
        units.SECONDS,
        Description(
            "Duration of the last run of each collector, of the slowest exporter.",
            "milliseconds, flat.",
            "a line that rises.",
            "check what it depends on: the broker, the result backend, or a worker that does not "
            "reply",
        ),
        Requirement.EXPORTER,
        "overview",
    ),
    Target(_max("celery_scrape_collector_duration_seconds", "collector"), "{{collector}}"),
)
FAILURES = timeseries_panel(
    PanelOptions(
        "Collector failures by reason",
        units.PER_SECOND,
        Description(
            "Failed runs of collectors per second, by reason.",
            "none.",
            "any for long. timeout: no answer in time; refused: nothing listens; authentication: "
            "wrong credentials.",
            "act on the reason; the exporter's log has the error message",
        ),
        NoData("No collector has failed"),
    ),
    Target(
        _rate("celery_probe_failures_total", "collector", "reason"), "{{collector}}: {{reason}}"
    ),
)
EVENTS = timeseries_panel(
    PanelOptions(
        "Event rate by type",
        units.EVENTS_PER_SECOND,
        Description(
            "Events received per second.",
            "as many started events as succeeded and failed events.",
            "none while tasks run.",
            "check the event stream above; start workers with -E",
        ),
        Requirement.EVENTS,
        "tasks",
    ),
    Target(_rate("celery_exporter_events_received_total", "type"), "{{type}}"),
    stacked=True,
)
LAG_BY_EXPORTER = timeseries_panel(
    PanelOptions(
        "Event lag by exporter",
        units.SECONDS,
        Description(
            "Latency of the last canary event through the broker, for each exporter.",
            "milliseconds.",
            "rising: the exporter is behind.",
            "check its CPU",
        ),
        Requirement.EVENTS,
    ),
    Target(_max("celery_exporter_event_lag_seconds", "instance"), "{{instance}}"),
)
LOSSES = timeseries_panel(
    PanelOptions(
        "Missed, rejected and evicted",
        units.EVENTS_PER_SECOND,
        Description(
            "Events that never arrived, events that could not be used, and tasks evicted from "
            "tracking.",
            "none.",
            "any for long: counts are too low.",
            "missed: the exporter or the broker is overloaded; rejected: see the exporter's log; "
            "evicted: see the tasks in flight",
        ),
        NoData("No event is lost"),
    ),
    Target(
        _rate("celery_exporter_events_missed_total", "worker", "event"),
        "missed: {{event}}, {{worker}}",
    ),
    Target(_rate("celery_exporter_events_rejected_total", "reason"), "rejected: {{reason}}"),
    Target(
        _rate("celery_exporter_tasks_in_flight_evicted_total", "instance"), "evicted: {{instance}}"
    ),
)
IN_FLIGHT = timeseries_panel(
    PanelOptions(
        "Tasks in flight",
        units.TASKS,
        Description(
            "Tasks that are sent and not finished, as tracked by each exporter.",
            "about the queue length plus the running tasks.",
            "rising while the queues are empty: events of finished tasks do not arrive.",
            "check the events missed",
        ),
        Requirement.EVENTS,
        "queues",
    ),
    Target(_max("celery_exporter_tasks_in_flight", "instance"), "{{instance}}"),
)
SERIES_BY_EXPORTER = timeseries_panel(
    PanelOptions(
        "Series by exporter",
        units.SERIES,
        Description(
            "Samples per scrape.",
            "flat.",
            "rising: new task names, queue names or label values every day.",
            "check the series aggregated as _other beside it",
        ),
        Requirement.EXPORTER,
    ),
    Target(_scrape_metric("scrape_samples_scraped"), "{{instance}}"),
)
AGGREGATED = timeseries_panel(
    PanelOptions(
        "Series aggregated as _other",
        units.PER_SECOND,
        Description(
            "Label values aggregated as _other because a cardinality limit is reached.",
            "none.",
            "any: totals are correct, but names are lost.",
            "raise the limit of the metric, or use fewer distinct names",
        ),
        NoData("No cardinality limit is reached"),
    ),
    Target(_rate("celery_exporter_series_folded_total", "metric"), "{{metric}}"),
)
CPU_USAGE = timeseries_panel(
    PanelOptions(
        "CPU usage",
        units.CORES,
        Description(
            "CPU usage of each exporter process.",
            "a few hundredths of a core.",
            "near 1: the exporter cannot keep up with the events.",
            "drop labels that you do not need",
        ),
        NoData("Disabled by --web.disable-exporter-metrics"),
    ),
    Target(f"sum by (instance) ({exporters_only(CPU)})", "{{instance}}"),
)
CONNECTIONS = timeseries_panel(
    PanelOptions(
        "Broker connections",
        units.CONNECTIONS,
        Description(
            "Open connections of each exporter to the broker.",
            "five or fewer.",
            "rising.",
            "report a bug of the exporter",
        ),
        Requirement.EXPORTER,
    ),
    Target(_max("celery_exporter_broker_connections", "instance"), "{{instance}}"),
)

DASHBOARD = Dashboard(
    "exporter",
    "Exporter",
    "Scrapes, collectors, event loss and series: whether the other dashboards are complete.",
    (
        Row(
            "",
            4,
            (
                (EXPORTERS_UP, 3),
                (SCRAPE_BUDGET, 3),
                (FAILING_COLLECTORS, 3),
                (EVENT_STREAM, 3),
                (LAG, 3),
                (MISSED_RATIO, 3),
                (SERIES, 3),
                (MEMORY, 3),
            ),
        ),
        Row(
            "Scrapes and collectors",
            8,
            (
                (COLLECTORS, 8),
                (SCRAPE_DURATION, 8),
                (COLLECTOR_DURATION, 8),
                (FAILURES, 8),
                (BLIND_SPOTS, 8),
                (VERSIONS, 8),
            ),
        ),
        Row("Task events", 8, ((EVENTS, 8), (LAG_BY_EXPORTER, 8), (LOSSES, 8))),
        Row(
            "Series and resources",
            8,
            (
                (IN_FLIGHT, 8),
                (SERIES_BY_EXPORTER, 8),
                (AGGREGATED, 8),
                (CPU_USAGE, 12),
                (CONNECTIONS, 12),
            ),
        ),
    ),
)
