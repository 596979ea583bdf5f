"""The options of the program.

Flag, environment variable, file key, type, default and help of an option are derived from its one
declaration here.
"""

# ruff: noqa: RUF009  option() and switch() return dataclasses.field()

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from celery_vitals.errors import ConfigError
from celery_vitals.secrets import Secret, secrets_in_mapping
from celery_vitals.settings import parsers as parse
from celery_vitals.settings import urls
from celery_vitals.settings.options import (
    RedactedMapping,
    ValueType,
    option,
    options_of,
    switch,
)
from celery_vitals.settings.parsers import Address

CLUSTER = "Cluster"
TIMING = "Timing"
EVENTS = "Task events"
LIMITS = "Limits"
HEALTH = "Health"
COLLECTORS = "Collectors"
WEB = "Web"
LOGGING = "Logging"
CONFIGURATION = "Configuration"

COLLECTOR_NAMES = (
    "broker",
    "backend",
    "workers",
    "queues",
    "tasks",
)
LOST_PATH = "/lost"
"""Path of the lost and repeated executions."""
STATS_PATH = "/stats"
"""Path of the numbers of each task."""
HEALTH_PATH = "/health"
"""Path of the verdict, and prefix of those of the exporter's own probes."""
WORKER_PATH = "/worker"
"""Prefix of the paths of single workers."""
QUEUE_PATH = "/queue"
"""Prefix of the paths of single queues."""
_DAY = 86400.0


@dataclass(frozen=True)
class Settings:
    """The validated settings.

    The constructor checks every value and accepts URLs as strings.  Raises `ConfigError`.
    """

    # fmt: off
    app: str | None = option(
        "--app", "Celery app that provides every setting not given here.",
        group=CLUSTER, parse=parse.app_name, metavar="MODULE:APP", short="-A",
    )
    broker_url: Secret | None = option(
        "--broker-url", "Broker URL in Celery's format, alternates separated by semicolons.",
        group=CLUSTER, parse=urls.broker_url, metavar="URL", secret=True,
    )
    result_backend: Secret | None = option(
        "--result-backend", "Result backend URL in Celery's format.",
        group=CLUSTER, parse=urls.backend_url, metavar="URL", secret=True,
    )
    broker_transport_options: Mapping[str, Any] = option(
        "--broker-transport-option",
        "Transport option of the broker, its value as JSON or text; repeatable.",
        group=CLUSTER, parse=parse.pair, metavar="NAME=VALUE", value_type=ValueType.MAPPING,
    )
    broker_ssl_options: Mapping[str, Any] = option(
        "--broker-ssl-option",
        "TLS option of the broker connection, as in Celery's broker_use_ssl; repeatable.",
        group=CLUSTER, parse=parse.pair, metavar="NAME=VALUE", value_type=ValueType.MAPPING,
    )
    result_backend_transport_options: Mapping[str, Any] = option(
        "--result-backend-transport-option",
        "Transport option of the result backend, its value as JSON or text; repeatable.",
        group=CLUSTER, parse=parse.pair, metavar="NAME=VALUE", value_type=ValueType.MAPPING,
    )
    queues: tuple[str, ...] = option(
        "--queue", "Queue to monitor in addition to discovered queues; repeatable.",
        group=CLUSTER, parse=parse.queue_name, metavar="NAME", default=(),
        value_type=ValueType.LIST,
    )
    queue_include: tuple[str, ...] = option(
        "--queue-include",
        "Report only queues that match this pattern (* and ?), and those of --queue; repeatable.",
        group=CLUSTER, parse=parse.queue_name, metavar="PATTERN", default=(),
        value_type=ValueType.LIST,
    )
    queue_exclude: tuple[str, ...] = option(
        "--queue-exclude", "Do not report queues that match this pattern (* and ?); repeatable.",
        group=CLUSTER, parse=parse.queue_name, metavar="PATTERN", default=(),
        value_type=ValueType.LIST,
    )
    queue_limits: Mapping[str, int] = option(
        "--queue-limit",
        "Queue length threshold for alerts; NAME * applies to all other queues; repeatable.",
        group=CLUSTER, parse=parse.queue_limit, metavar="NAME=NUMBER", value_type=ValueType.MAPPING,
    )
    queue_priorities: bool = switch(
        "--queue-priorities", "Report the length of Redis queues for each priority step.",
        group=CLUSTER,
    )
    rabbitmq_management_url: Secret | None = option(
        "--rabbitmq-management-url",
        "URL of RabbitMQ's management API, for data that AMQP does not provide.",
        group=CLUSTER, parse=urls.http_url, metavar="URL", secret=True,
    )
    worker_timeout: float = option(
        "--worker-timeout",
        "Time without an event or a reply after which a worker is down, in seconds.",
        group=TIMING, parse=parse.seconds(1, 30 * _DAY), metavar="SECONDS", default=120.0,
    )
    worker_forget_after: float = option(
        "--worker-forget-after",
        "Time without an event or a reply after which a worker's series are removed, in seconds.",
        group=TIMING, parse=parse.seconds(1, 365 * _DAY), metavar="SECONDS", default=3600.0,
    )
    worker_drain_timeout: float = option(
        "--worker-drain-timeout",
        "Time after a worker's offline event, or after it was silently replaced, within which it"
        " may complete its running tasks, in seconds; then they count as lost.",
        group=TIMING, parse=parse.seconds(1, 30 * _DAY), metavar="SECONDS", default=3600.0,
    )
    timeout: float = option(
        "--timeout", "Scrape timeout in seconds "
        "when Prometheus sends no X-Prometheus-Scrape-Timeout-Seconds header.",
        group=TIMING, parse=parse.seconds(0.1, 300), metavar="SECONDS", default=5.0,
    )
    timeout_offset: float = option(
        "--timeout-offset",
        "Time to subtract from the scrape timeout that Prometheus sends, in seconds.",
        group=TIMING, parse=parse.seconds(0, 60), metavar="SECONDS", default=0.5,
    )
    min_interval: float | None = option(
        "--min-interval", "How long probe results are reused, in seconds; "
        "by default half of the shortest scrape interval, from 1 to 15.",
        group=TIMING, parse=parse.seconds(0, 300), metavar="SECONDS",
    )
    enable_events: bool = switch(
        "--enable-events",
        "Enable task events on all workers, at startup and when a worker starts.",
        group=EVENTS,
    )
    event_queue: str | None = option(
        "--event-queue",
        "Name of a durable event queue for restarts and standby replicas; RabbitMQ only.",
        group=EVENTS, parse=parse.queue_name, metavar="NAME",
    )
    state_file: Path | None = option(
        "--state.file",
        "File that keeps counters, workers and tracked tasks across restarts; "
        "its directory must be writable, and of this exporter alone.",
        group=EVENTS, parse=parse.state_file, metavar="PATH",
    )
    runtime_buckets: tuple[float, ...] = option(
        "--runtime-buckets", "Upper bounds of the runtime histogram's buckets, in seconds.",
        group=EVENTS, parse=parse.buckets, metavar="SECONDS,...",
        default=(
            0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
        ),
    )
    wait_buckets: tuple[float, ...] = option(
        "--wait-buckets", "Upper bounds of the waiting time histogram's buckets, in seconds.",
        group=EVENTS, parse=parse.buckets, metavar="SECONDS,...",
        # Closest around the threshold of CeleryQueueWaitHigh, 5 minutes.
        default=(
            0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1200.0, 1800.0,
            3600.0,
        ),
    )
    task_runtime_buckets: Mapping[str, tuple[float, ...]] = option(
        "--task-runtime-buckets",
        "Upper bounds of the runtime histogram's buckets for one task, in seconds; repeatable.",
        group=EVENTS, parse=parse.task_buckets, metavar="TASK=SECONDS,...",
        value_type=ValueType.MAPPING,
    )
    task_wait_buckets: Mapping[str, tuple[float, ...]] = option(
        "--task-wait-buckets",
        "Upper bounds of the waiting time histogram's buckets for one task, in seconds; "
        "repeatable.",
        group=EVENTS, parse=parse.task_buckets, metavar="TASK=SECONDS,...",
        value_type=ValueType.MAPPING,
    )
    task_labels: tuple[str, ...] = option(
        "--task-labels", "Additional label of task series; the only one available is worker.",
        group=EVENTS, parse=parse.choice("worker"), metavar="LABEL", default=(),
        value_type=ValueType.LIST,
    )
    task_label: tuple[str, str | int] | None = option(
        "--task-label",
        "Additional label of task series, with the value of an argument of the task: kwargs.KEY or "
        "args.POSITION; with --app it may be passed either way.",
        group=EVENTS, parse=parse.task_label, metavar="NAME=ARGUMENT",
    )
    max_task_names: int = option(
        "--max-task-names",
        "Maximum number of distinct task names; further names are aggregated as `_other`.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=1000,
    )
    max_queue_names: int = option(
        "--max-queue-names", "Maximum number of distinct queue names on task series; "
        "further names are aggregated as `_other`.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=1000,
    )
    max_exceptions: int = option(
        "--max-exceptions", "Maximum number of distinct exception classes; "
        "further classes are aggregated as `_other`.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=200,
    )
    max_label_values: int = option(
        "--max-label-values", "Maximum number of distinct values of --task-label; "
        "further values are aggregated as `_other`.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=200,
    )
    max_workers: int = option(
        "--max-workers",
        "Maximum number of workers; further workers are only counted, as `_other`.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=5000,
    )
    worker_task_counts: bool = switch(
        "--worker-task-counts",
        "Report celery_worker_tasks_accepted_total, which has a series for each worker and task.",
        group=LIMITS, default=True,
    )
    max_series: int = option(
        "--max-series", "Maximum number of task series; further series are aggregated as `_other`.",
        group=LIMITS, parse=parse.integer(1, 100_000_000), metavar="NUMBER", default=200_000,
    )
    max_tasks: int = option(
        "--max-tasks",
        "Maximum number of tracked tasks, about 250 bytes each; the oldest are dropped first.",
        group=LIMITS, parse=parse.integer(1, 100_000_000), metavar="NUMBER", default=1_000_000,
    )
    task_forget_after: float = option(
        "--task-forget-after",
        "Time after which a task that has not started is no longer tracked, in seconds.",
        group=LIMITS, parse=parse.seconds(1, 365 * _DAY), metavar="SECONDS", default=7 * _DAY,
    )
    series_forget_after: float = option(
        "--series-forget-after",
        "Time without an event after which the series of a task are removed, in seconds.",
        group=LIMITS, parse=parse.seconds(60, 365 * _DAY), metavar="SECONDS", default=_DAY,
    )
    health_min_workers: int = option(
        "--health.min-workers", "Number of workers below which the cluster is unhealthy.",
        group=HEALTH, parse=parse.integer(0, 1_000_000), metavar="NUMBER", default=1,
    )
    health_queue_min_workers: Mapping[str, int] = option(
        "--health.queue-min-workers",
        "Number of workers of a queue below which the cluster is unhealthy; repeatable.",
        group=HEALTH, parse=parse.queue_limit, metavar="NAME=NUMBER", value_type=ValueType.MAPPING,
    )
    health_queue_ages: Mapping[str, float] = option(
        "--health.queue-age",
        "Age of a queue's oldest message above which the cluster is degraded, in seconds, by"
        " default 3600; NAME * applies to all other queues; repeatable.",
        group=HEALTH, parse=parse.named_seconds, metavar="NAME=SECONDS",
        value_type=ValueType.MAPPING,
    )
    health_ignored_queues: tuple[str, ...] = option(
        "--health.ignore-queue",
        "Queues whose state does not count, by a pattern (* and ?); repeatable.",
        group=HEALTH, parse=parse.queue_name, metavar="PATTERN", default=(),
        value_type=ValueType.LIST,
    )
    health_task_ages: Mapping[str, float] = option(
        "--health.task-age",
        "Duration of a running execution above which the cluster is degraded, in seconds, by"
        " default 7200; NAME * applies to all other tasks; repeatable.",
        group=HEALTH, parse=parse.named_seconds, metavar="NAME=SECONDS",
        value_type=ValueType.MAPPING,
    )
    health_task_intervals: Mapping[str, float] = option(
        "--health.task-interval",
        "Interval in which a task must succeed, in seconds; with --app, those of beat_schedule"
        " apply as well; repeatable.",
        group=HEALTH, parse=parse.named_seconds, metavar="NAME=SECONDS",
        value_type=ValueType.MAPPING,
    )
    health_severities: Mapping[str, str] = option(
        "--health.severity",
        "Weight of the findings of a code: info, degraded or unhealthy; repeatable.",
        group=HEALTH, parse=parse.severity, metavar="CODE=SEVERITY",
        value_type=ValueType.MAPPING,
    )
    collectors: frozenset[str] = option(
        "--collector", "Enable the collector {}.",
        group=COLLECTORS, parse=parse.boolean,
        default=frozenset(COLLECTOR_NAMES), value_type=ValueType.SWITCH_SET, names=COLLECTOR_NAMES,
    )
    web_listen_address: tuple[Address, ...] = option(
        "--web.listen-address", "Address to listen on; repeatable.",
        group=WEB, parse=parse.address, metavar="[HOST]:PORT", default=(Address("", 10818),),
        value_type=ValueType.LIST,
    )
    web_telemetry_path: str = option(
        "--web.telemetry-path", "Path of the metrics endpoint.",
        group=WEB, parse=parse.telemetry_path, metavar="PATH", default="/metrics",
    )
    web_config_file: Path | None = option(
        "--web.config.file",
        "YAML file with TLS, users and headers, in the format of Prometheus' exporter-toolkit.",
        group=WEB, parse=parse.file, metavar="PATH",
    )
    web_max_requests: int = option(
        "--web.max-requests", "Maximum number of concurrent scrapes.",
        group=WEB, parse=parse.integer(1, 10000), metavar="NUMBER", default=40,
    )
    web_disable_exporter_metrics: bool = switch(
        "--web.disable-exporter-metrics",
        "Exclude the process_ and python_ metrics of the exporter itself.",
        group=WEB,
    )
    web_lost: bool = switch(
        "--web.lost",
        "Serve /lost, and list lost and repeated executions on the status page.",
        group=WEB, default=True,
    )
    web_stats: bool = switch(
        "--web.stats",
        "Serve /stats, the numbers and times of each task.",
        group=WEB, default=True,
    )
    log_level: str = option(
        "--log.level", "Minimum severity to log: debug, info, warning or error.",
        group=LOGGING, parse=parse.choice("debug", "info", "warning", "error"), metavar="LEVEL",
        default="info",
    )
    log_format: str = option(
        "--log.format", "Log format: logfmt or json.",
        group=LOGGING, parse=parse.choice("logfmt", "json"), metavar="FORMAT", default="logfmt",
    )
    # fmt: on

    def __post_init__(self) -> None:
        for name, declared in options_of(type(self)).items():
            try:
                value = declared.checked(getattr(self, name))
            except ValueError as error:
                raise ConfigError(f"{declared.flag}: {error}") from None
            object.__setattr__(self, name, value)
        if self.worker_forget_after <= self.worker_timeout:
            raise ConfigError(
                "--worker-forget-after: must be greater than --worker-timeout"
                f" ({self.worker_timeout:g}), not {self.worker_forget_after:g}"
            )

        for path, served, content in (
            (LOST_PATH, self.web_lost, "lost executions"),
            (STATS_PATH, self.web_stats, "the numbers of tasks"),
        ):
            if served and self.web_telemetry_path == path:
                raise ConfigError(
                    f"--web.telemetry-path: {path} is the path of {content}"
                    f" (choose another one, or set --no-web.{path[1:]})"
                )

        for path in (HEALTH_PATH, WORKER_PATH, QUEUE_PATH):
            if f"{self.web_telemetry_path}/".startswith(f"{path}/"):
                raise ConfigError(
                    f"--web.telemetry-path: must not be {path} or below it, which belongs to the"
                    " verdict"
                )

    def runtime_buckets_of(self, task: str) -> tuple[float, ...]:
        """Return the bounds of the runtime buckets of a task, in seconds."""
        return self.task_runtime_buckets.get(task, self.runtime_buckets)

    def wait_buckets_of(self, task: str) -> tuple[float, ...]:
        """Return the bounds of the waiting time buckets of a task, in seconds."""
        return self.task_wait_buckets.get(task, self.wait_buckets)

    def secrets(self) -> Iterator[Secret]:
        """Yield every secret value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Secret):
                yield value
            elif isinstance(value, RedactedMapping):
                yield from secrets_in_mapping(value)
