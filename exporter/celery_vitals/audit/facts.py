"""What is known about a Celery project when it is audited.  An unknown value is None."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery_vitals.audit.evidence import Evidence, Source
from celery_vitals.brokers.server_facts import ServerFacts

_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Configuration:
    """Celery's settings of one app, or of workers that have the same ones."""

    source: str
    """Such as `app proj.celery` or `worker w1@host`."""
    values: Mapping[str, Any] = field(repr=False)
    """Every setting by its new name, defaults included."""
    explicit: frozenset[str]
    """The settings that the project has set, by their new names."""
    spelled: frozenset[str] = frozenset()
    """Every name that the project uses, as it is spelled."""
    prefix: str = ""
    """Of names in Django's settings, such as `CELERY_`."""

    def get(self, name: str) -> Any:
        """Return the value of a setting, or its default; None where this Celery has none."""
        return self.values.get(name)

    def number(self, name: str) -> float | None:
        """Return a setting as a number of seconds or things; None where it is none."""
        return number(self.values.get(name))

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return a setting that consists of options; empty where it does not."""
        value = self.values.get(name)
        return value if isinstance(value, Mapping) else {}

    def line(self, name: str, value: object) -> str:
        """Return the line that sets a setting in this project."""
        if self.prefix:
            return f"{self.prefix}{name.upper()} = {value!r}"
        return f"app.conf.{name} = {value!r}"

    def options_line(self, name: str, options: Mapping[str, object]) -> str:
        """Return the line that sets some options of a setting, and keeps its others."""
        others = set(self.mapping(name)) - set(options)
        spelled = f"{self.prefix}{name.upper()}" if self.prefix else f"app.conf.{name}"
        kept = [f"**{spelled}"] if others else []
        pairs = [f"{option!r}: {value!r}" for option, value in options.items()]
        return f"{spelled} = {{{', '.join([*kept, *pairs])}}}"

    def evidence(self, *names: str) -> tuple[Evidence, ...]:
        """Return the values of settings as evidence."""
        return tuple(
            Evidence(
                name,
                shown(self.values.get(name)),
                self.source if name in self.explicit else f"Celery's default, {self.source}",
            )
            for name in names
        )


@dataclass(frozen=True)
class TaskFacts:
    """The attributes of a task.  Times are seconds."""

    name: str
    source: str
    acks_late: bool | None = None
    reject_on_worker_lost: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    retry_on_worker_lost: bool | None = None
    ignore_result: bool | None = None
    max_retries: float | None = None
    """Infinite without a limit."""
    default_retry_delay: float | None = None
    retry_backoff_max: float | None = None
    """The longest delay of automatic retries; None without backoff."""
    retries_automatically: bool = False
    retry_jitter: bool = True
    time_limit: float | None = None
    soft_time_limit: float | None = None
    rate_limit: str | None = None
    priority: float | None = None

    @property
    def longest_delay(self) -> float:
        """The longest wait before a retry, as far as it is declared."""
        return max(self.default_retry_delay or 0.0, self.retry_backoff_max or 0.0)

    def evidence(self, *names: str) -> tuple[Evidence, ...]:
        """Return attributes as evidence."""
        return tuple(
            Evidence(f"{self.name}.{name}", shown(getattr(self, name)), self.source)
            for name in names
        )


@dataclass(frozen=True)
class WorkerFacts:
    """What one worker replies."""

    name: str
    pool: str
    slots: int | None = None
    prefetch: int | None = None
    time_limit: float | None = None
    """Of its pool; None where it is unknown, 0 without."""
    max_tasks_per_child: float | None = None
    autoscales: bool = False
    visibility_timeout: float | None = None
    """That of its transport options; None where it reports none."""
    accepted: Mapping[str, int] = field(default_factory=dict)
    """Started tasks by name."""
    queues: frozenset[str] | None = None
    quorum_queues: frozenset[str] = frozenset()
    direct_queues: frozenset[str] = frozenset()
    """Those whose exchange is a direct one."""
    tasks: frozenset[str] | None = None
    celery: str = ""
    python: str = ""
    pids: frozenset[int] = frozenset()
    """Several when several workers reply under this name."""


@dataclass(frozen=True)
class ScheduleEntry:
    """An entry of the beat schedule."""

    name: str
    task: str
    interval: float | None
    """Seconds between two runs; None where it is not constant."""
    queue: str | None
    expires: bool
    delay: float
    """Its countdown, in seconds."""


@dataclass(frozen=True)
class BrokerFacts:
    """The broker, by its URL and options.  Without credentials."""

    kind: str
    """kombu's name of the transport: redis, sentinel, amqp, ..."""
    address: str
    host: str
    has_user: bool = False
    has_password: bool = False
    default_user: bool = False
    """Whether it is RabbitMQ's `guest`."""
    tls: bool = False
    unverified: str = ""
    """The missing check of the certificate, as the end of a sentence."""
    verify_option: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Transport options of the app."""
    unknown_options: tuple[str, ...] = ()
    """Those that the transport does not read."""
    visibility_timeout: float | None = None
    """None where the broker has none, or where it is unknown."""


@dataclass(frozen=True)
class Facts:
    """Everything that rules read."""

    app: str = "proj"
    """The name for `celery -A`."""
    configurations: tuple[Configuration, ...] = ()
    tasks: Mapping[str, TaskFacts] = field(default_factory=dict)
    schedule: tuple[ScheduleEntry, ...] = ()
    routes: Mapping[str, str] = field(default_factory=dict)
    """Queues by the name or pattern of a task."""
    declared_queues: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The queues that the app declares, with their arguments."""
    direct_queues: frozenset[str] = frozenset()
    """Those of them whose exchange is a direct one."""
    backend: str = ""
    """The scheme of the result backend: redis, db, rpc, ...; empty where there is none."""
    backend_address: str = ""
    backend_detail: str = ""
    """What follows the first + of its scheme, such as memory or sqlite."""
    backend_unverified: bool = False
    broker: BrokerFacts | None = None
    server: ServerFacts = field(default_factory=ServerFacts)
    workers: tuple[WorkerFacts, ...] = ()
    running: Mapping[str, float] = field(default_factory=dict)
    """Seconds for which the oldest execution of a task with acks_late has been running."""
    own_celery: str = ""
    """The version beside the app; empty without an app."""
    gaps: Mapping[Source, str] = field(default_factory=dict)
    """Missing sources, and why."""
    inapplicable: frozenset[Source] = frozenset()
    """Sources that this kind of broker does not have."""

    @property
    def conf(self) -> Configuration | None:
        """The settings of the app, else those of the first workers."""
        return self.configurations[0] if self.configurations else None

    @property
    def consumed(self) -> frozenset[str] | None:
        """The queues that workers consume; None while one may consume unknown ones."""
        queues = [one.queues for one in self.workers]
        if not queues or None in queues:
            return None
        return frozenset().union(*(one for one in queues if one is not None))

    @property
    def late_tasks(self) -> tuple[TaskFacts, ...]:
        """The tasks that acknowledge their message after the execution."""
        return tuple(one for one in self.tasks.values() if one.acks_late)

    def time_limit(self, task: TaskFacts) -> float | None:
        """Return the hard limit that applies to a task; None without one, or unknown."""
        if task.time_limit:
            return task.time_limit
        of_pools = [one.time_limit for one in self.workers if one.time_limit]
        of_settings = self.conf.number("task_time_limit") if self.conf else None
        return max(of_pools, default=of_settings or None)

    def line(self, name: str, value: object) -> str:
        """Return the line that sets a setting in this project."""
        return (self.conf or _UNKNOWN).line(name, value)

    def options_line(self, name: str, options: Mapping[str, object]) -> str:
        """Return the line that sets some options of a setting in this project."""
        return (self.conf or _UNKNOWN).options_line(name, options)


_UNKNOWN = Configuration("", {}, frozenset())


def number(value: Any) -> float | None:
    """Return a number, or the seconds of a timedelta; None for anything else."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return None
    return float(value)


def shown(value: object) -> str:
    """Return a value as text; a timedelta in seconds."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(sorted(map(str, value)))
    return str(value)


def names(items: Iterable[str]) -> str:
    """Return the first names of many, and how many more there are."""
    found = sorted(items)
    more = len(found) - _NAMES_SHOWN
    if more <= 0:
        return ", ".join(found)
    return f"{', '.join(found[:_NAMES_SHOWN])} and {more} more"


def counted(n: int, one: str) -> str:
    """Return `1 task`, `2 tasks`."""
    return f"{n} {one}" if n == 1 else f"{n} {one}s"


def seconds(value: float) -> str:
    """Return a duration in the largest unit that fits, such as `12 h` or `90 s`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if value >= size and value % size == 0:
            return f"{value / size:g} {unit}"
    return f"{value:g} s"


def explicit(facts: Facts, name: str) -> Iterator[Configuration]:
    """Iterate over the configurations that set a setting."""
    return (one for one in facts.configurations if name in one.explicit)
