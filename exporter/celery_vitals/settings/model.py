"""Every option of the program, declared once: flag, variable, file key, type, default and help follow from here."""

# ruff: noqa: RUF009  option() and switch() are dataclasses.field() with more to say

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from celery_vitals.errors import ConfigError
from celery_vitals.secrets import Secret, secrets_in_mapping
from celery_vitals.settings import parsers as parse
from celery_vitals.settings import urls
from celery_vitals.settings.options import Kind, Option, RedactedMapping, option, options_of, switch
from celery_vitals.settings.parsers import Address

CLUSTER = "Cluster"
TIMING = "Timing"
EVENTS = "Task events"
LIMITS = "Limits"
COLLECTORS = "Collectors"
WEB = "Web"
LOGGING = "Logging"
CONFIGURATION = "Configuration"

COLLECTOR_NAMES = ("broker", "backend", "workers", "queues", "tasks")
_DAY = 86400.0


@dataclass(frozen=True)
class Settings:
    """What the program was told.

    Values are checked here, whoever makes the object; URLs may be given as text.  Raises `ConfigError`.
    """

    # fmt: off
    app: str | None = option(
        "--app", "Celery app to take every setting from that is not given here.",
        group=CLUSTER, parse=parse.app_name, metavar="MODULE:APP", short="-A",
    )
    broker_url: Secret | None = option(
        "--broker-url", "URL of the broker, as Celery takes it, alternates separated by a semicolon.",
        group=CLUSTER, parse=urls.broker_url, metavar="URL", secret=True,
    )
    result_backend: Secret | None = option(
        "--result-backend", "URL of the result backend, as Celery takes it.",
        group=CLUSTER, parse=urls.backend_url, metavar="URL", secret=True,
    )
    broker_transport_options: Mapping[str, Any] = option(
        "--broker-transport-option", "Option of the broker's transport, its value as JSON or text; may be repeated.",
        group=CLUSTER, parse=parse.pair, metavar="NAME=VALUE", kind=Kind.MAPPING,
    )
    broker_ssl_options: Mapping[str, Any] = option(
        "--broker-ssl-option", "TLS option of the broker's connection, as in broker_use_ssl; may be repeated.",
        group=CLUSTER, parse=parse.pair, metavar="NAME=VALUE", kind=Kind.MAPPING,
    )
    result_backend_transport_options: Mapping[str, Any] = option(
        "--result-backend-transport-option", "Option of the result backend's transport; may be repeated.",
        group=CLUSTER, parse=parse.pair, metavar="NAME=VALUE", kind=Kind.MAPPING,
    )
    queues: tuple[str, ...] = option(
        "--queue", "Queue to watch besides those that are found; may be repeated.",
        group=CLUSTER, parse=parse.queue_name, metavar="NAME", default=(), kind=Kind.LIST,
    )
    queue_include: tuple[str, ...] = option(
        "--queue-include", "Show only queues that match, with * and ? as in file names, and --queue; may be repeated.",
        group=CLUSTER, parse=parse.queue_name, metavar="PATTERN", default=(), kind=Kind.LIST,
    )
    queue_exclude: tuple[str, ...] = option(
        "--queue-exclude", "Leave out queues that match, with * and ? as in file names; may be repeated.",
        group=CLUSTER, parse=parse.queue_name, metavar="PATTERN", default=(), kind=Kind.LIST,
    )
    queue_limits: Mapping[str, int] = option(
        "--queue-limit", "Length from which on a queue is too long, for alerts; NAME * is all others; may be repeated.",
        group=CLUSTER, parse=parse.queue_limit, metavar="NAME=NUMBER", kind=Kind.MAPPING,
    )
    queue_priorities: bool = switch(
        "--queue-priorities", "Redis: show the length of a queue at each of its priority steps, too.", group=CLUSTER
    )
    rabbitmq_management_url: Secret | None = option(
        "--rabbitmq-management-url", "URL of RabbitMQ's management plugin, for what AMQP does not tell.",
        group=CLUSTER, parse=urls.management_url, metavar="URL", secret=True,
    )
    worker_timeout: float = option(
        "--worker-timeout", "Time without a sign of life after which a worker is down.",
        group=TIMING, parse=parse.seconds(1, 30 * _DAY), metavar="SECONDS", default=120.0,
    )
    worker_forget_after: float = option(
        "--worker-forget-after", "Time without a sign of life after which a worker's series end.",
        group=TIMING, parse=parse.seconds(1, 365 * _DAY), metavar="SECONDS", default=3600.0,
    )
    timeout: float = option(
        "--timeout", "Time for a scrape that does not say how long it waits.",
        group=TIMING, parse=parse.seconds(0.1, 300), metavar="SECONDS", default=5.0,
    )
    timeout_offset: float = option(
        "--timeout-offset", "Time to take off the timeout that Prometheus sends with a scrape.",
        group=TIMING, parse=parse.seconds(0, 60), metavar="SECONDS", default=0.5,
    )
    min_interval: float = option(
        "--min-interval", "Time after a round of probes in which scrapes get its results again.",
        group=TIMING, parse=parse.seconds(0, 300), metavar="SECONDS", default=1.0,
    )
    enable_events: bool = switch(
        "--enable-events", "Ask all workers to send task events, at the start and whenever one comes.", group=EVENTS
    )
    event_queue: str | None = option(
        "--event-queue", "RabbitMQ: name of a queue of events that outlives a restart and serves a standby replica.",
        group=EVENTS, parse=parse.queue_name, metavar="NAME",
    )
    runtime_buckets: tuple[float, ...] = option(
        "--runtime-buckets", "Upper bounds of the buckets of runtimes.", group=EVENTS, parse=parse.buckets,
        metavar="SECONDS,...", default=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
    )
    wait_buckets: tuple[float, ...] = option(
        "--wait-buckets", "Upper bounds of the buckets of waiting times.", group=EVENTS, parse=parse.buckets,
        metavar="SECONDS,...", default=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0),
    )
    task_runtime_buckets: Mapping[str, tuple[float, ...]] = option(
        "--task-runtime-buckets", "Buckets of runtimes for one task; may be repeated.",
        group=EVENTS, parse=parse.task_buckets, metavar="TASK=SECONDS,...", kind=Kind.MAPPING,
    )
    task_wait_buckets: Mapping[str, tuple[float, ...]] = option(
        "--task-wait-buckets", "Buckets of waiting times for one task; may be repeated.",
        group=EVENTS, parse=parse.task_buckets, metavar="TASK=SECONDS,...", kind=Kind.MAPPING,
    )
    task_labels: tuple[str, ...] = option(
        "--task-labels", "More labels of the series of tasks: worker.",
        group=EVENTS, parse=parse.choice("worker"), metavar="LABEL", default=(), kind=Kind.LIST,
    )
    task_label: tuple[str, str] | None = option(
        "--task-label", "Label of the series of tasks whose value is a keyword argument, such as a customer.",
        group=EVENTS, parse=parse.task_label, metavar="NAME=kwargs.KEY",
    )
    max_task_names: int = option(
        "--max-task-names", "Number of task names; what is over it is counted as _other.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=1000,
    )
    max_queue_names: int = option(
        "--max-queue-names", "Number of queue names on the series of tasks; what is over it is counted as _other.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=1000,
    )
    max_exceptions: int = option(
        "--max-exceptions", "Number of exception classes; what is over it is counted as _other.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=200,
    )
    max_label_values: int = option(
        "--max-label-values", "Number of values of --task-label; what is over it is counted as _other.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=200,
    )
    max_workers: int = option(
        "--max-workers", "Number of workers; more are not shown, and counted together as _other.",
        group=LIMITS, parse=parse.integer(1, 1_000_000), metavar="NUMBER", default=5000,
    )
    max_series: int = option(
        "--max-series", "Number of series of tasks; what is over it is counted as _other.",
        group=LIMITS, parse=parse.integer(1, 100_000_000), metavar="NUMBER", default=200_000,
    )
    max_tasks: int = option(
        "--max-tasks", "Number of tasks followed at a time, about 250 bytes each; over it the oldest are given up.",
        group=LIMITS, parse=parse.integer(1, 100_000_000), metavar="NUMBER", default=1_000_000,
    )
    task_forget_after: float = option(
        "--task-forget-after", "Time after which a task that has not started is given up.",
        group=LIMITS, parse=parse.seconds(1, 365 * _DAY), metavar="SECONDS", default=7 * _DAY,
    )
    series_forget_after: float = option(
        "--series-forget-after", "Time without an event after which the series of a task end.",
        group=LIMITS, parse=parse.seconds(60, 365 * _DAY), metavar="SECONDS", default=_DAY,
    )
    collectors: frozenset[str] = option(
        "--collector", "Run the collector {}.", group=COLLECTORS, parse=parse.boolean,
        default=frozenset(COLLECTOR_NAMES), kind=Kind.SWITCHES, names=COLLECTOR_NAMES,
    )
    web_listen_address: tuple[Address, ...] = option(
        "--web.listen-address", "Address to listen on; may be repeated.",
        group=WEB, parse=parse.address, metavar="[HOST]:PORT", default=(Address("", 10818),), kind=Kind.LIST,
    )
    web_telemetry_path: str = option(
        "--web.telemetry-path", "Path of the metrics.",
        group=WEB, parse=parse.telemetry_path, metavar="PATH", default="/metrics",
    )
    web_config_file: Path | None = option(
        "--web.config.file", "YAML file with TLS, users and headers, in the format of Prometheus' exporter-toolkit.",
        group=WEB, parse=parse.file, metavar="PATH",
    )
    web_max_requests: int = option(
        "--web.max-requests", "Number of scrapes that may run at once.",
        group=WEB, parse=parse.integer(1, 10000), metavar="NUMBER", default=40,
    )
    web_disable_exporter_metrics: bool = switch(
        "--web.disable-exporter-metrics", "Leave out process_ and python_ metrics of the exporter itself.", group=WEB
    )
    log_level: str = option(
        "--log.level", "Least important lines to log: debug, info, warning or error.",
        group=LOGGING, parse=parse.choice("debug", "info", "warning", "error"), metavar="LEVEL", default="info",
    )
    log_format: str = option(
        "--log.format", "Format of the log: logfmt or json.",
        group=LOGGING, parse=parse.choice("logfmt", "json"), metavar="FORMAT", default="logfmt",
    )
    # fmt: on

    def __post_init__(self) -> None:
        for name, declared in options_of(type(self)).items():
            try:
                value = _checked(declared, getattr(self, name))
            except ValueError as error:
                raise ConfigError(f"{declared.flag}: {error}") from None
            object.__setattr__(self, name, value)
        if self.worker_forget_after <= self.worker_timeout:
            raise ConfigError(
                f"--worker-forget-after: must be more than --worker-timeout,"
                f" but is {self.worker_forget_after:g} and not more than {self.worker_timeout:g}"
            )

    def runtime_buckets_of(self, task: str) -> tuple[float, ...]:
        """The upper bounds of the buckets of a task's runtime, in seconds."""
        return self.task_runtime_buckets.get(task, self.runtime_buckets)

    def wait_buckets_of(self, task: str) -> tuple[float, ...]:
        """The upper bounds of the buckets of a task's waiting time, in seconds."""
        return self.task_wait_buckets.get(task, self.wait_buckets)

    def secrets(self) -> Iterator[Secret]:
        """Every value that must not be shown."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Secret):
                yield value
            elif isinstance(value, RedactedMapping):
                yield from secrets_in_mapping(value)


def _checked(declared: Option, value: Any) -> Any:
    if value is None and declared.default is None and declared.kind is Kind.ONE:
        return None
    if declared.kind is Kind.MAPPING:
        return RedactedMapping(dict(declared.parse(item) for item in value.items()))
    if declared.kind is Kind.LIST:
        items = tuple(
            declared.parse(item) for item in ((value,) if isinstance(value, str) else value)
        )
        if not items and declared.default:
            raise ValueError("must not be empty")
        return items
    if declared.kind is Kind.SWITCHES:
        unknown = sorted(set(value) - set(declared.names))
        if unknown:
            raise ValueError(
                f"there is no {', '.join(map(repr, unknown))}; there are {', '.join(declared.names)}"
            )
        return frozenset(value)
    return declared.parse(value)
