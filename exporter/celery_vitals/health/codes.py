"""The closed sets of the verdict: statuses, severities, areas, and the codes of findings."""

from __future__ import annotations

from enum import Enum

_RUNBOOKS = "https://github.com/celery-vitals/celery-vitals/blob/main/docs/runbooks"


class Status(str, Enum):
    """The status of the cluster, or of an area."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"
    """Not observed: not yet, disabled, or failed."""
    NOT_CONFIGURED = "not_configured"
    """Of an area only: the cluster has none, or its collector is disabled."""


TOTALS = (Status.HEALTHY, Status.DEGRADED, Status.UNHEALTHY, Status.UNKNOWN)
"""The statuses of a cluster."""


class Severity(str, Enum):
    """How much a finding weighs, in ascending order."""

    INFO = "info"
    """The status does not change."""
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"

    @property
    def rank(self) -> int:
        """The place in the order; the greatest is the worst."""
        return list(Severity).index(self)

    @property
    def status(self) -> Status:
        """The status of a cluster whose worst finding has this severity."""
        return Status.HEALTHY if self is Severity.INFO else Status(self.value)


class Area(str, Enum):
    """What a rule examines."""

    BROKER = "broker"
    BACKEND = "backend"
    WORKERS = "workers"
    QUEUES = "queues"
    TASKS = "tasks"
    EVENTS = "events"


class Code(str, Enum):
    """The kind of a finding, with its area, its severity by default, and its runbook."""

    BROKER_DOWN = "broker_down", Area.BROKER, Severity.UNHEALTHY, "CeleryBrokerDown"
    BROKER_UNWRITABLE = (
        "broker_unwritable", Area.BROKER, Severity.UNHEALTHY, "CeleryBrokerRefusesMessages",
    )  # fmt: skip
    BROKER_EVICTS = "broker_evicts", Area.BROKER, Severity.DEGRADED, "CeleryBrokerMemoryFilling"
    BACKEND_DOWN = "backend_down", Area.BACKEND, Severity.DEGRADED, "CeleryResultBackendDown"
    WORKERS_MISSING = "workers_missing", Area.WORKERS, Severity.UNHEALTHY, "CeleryNoWorkers"
    WORKER_DOWN = "worker_down", Area.WORKERS, Severity.DEGRADED, "CeleryWorkerDown"
    WORKER_NOT_CONSUMING = (
        "worker_not_consuming", Area.WORKERS, Severity.DEGRADED, "CeleryWorkerNotConsuming",
    )  # fmt: skip
    WORKER_STALLED = "worker_stalled", Area.WORKERS, Severity.DEGRADED, "CeleryWorkerStalled"
    QUEUE_UNSERVED = "queue_unserved", Area.QUEUES, Severity.UNHEALTHY, "CeleryQueueUnserved"
    QUEUE_WORKERS_MISSING = (
        "queue_workers_missing", Area.QUEUES, Severity.UNHEALTHY, "CeleryQueueUnserved",
    )  # fmt: skip
    QUEUE_OVER_LIMIT = "queue_over_limit", Area.QUEUES, Severity.DEGRADED, "CeleryQueueOverLimit"
    QUEUE_OLDEST_MESSAGE = (
        "queue_oldest_message", Area.QUEUES, Severity.DEGRADED, "CeleryQueueOldestMessage",
    )  # fmt: skip
    TASK_OVERDUE = "task_overdue", Area.TASKS, Severity.DEGRADED, "CeleryTaskOverdue"
    TASK_STUCK = "task_stuck", Area.TASKS, Severity.DEGRADED, "CeleryTaskStuck"
    TASKS_LOST = "tasks_lost", Area.TASKS, Severity.DEGRADED, "CeleryTasksLost"
    TASKS_RUN_TWICE = "tasks_run_twice", Area.TASKS, Severity.DEGRADED, "CeleryTaskRunsTwice"
    TASKS_POISON = "tasks_poison", Area.TASKS, Severity.DEGRADED, "CeleryTaskPoison"
    EVENT_STREAM_DOWN = (
        "event_stream_down", Area.EVENTS, Severity.DEGRADED, "CeleryEventStreamDeaf",
    )  # fmt: skip

    area: Area
    severity: Severity
    runbook: str

    def __new__(cls, value: str, area: Area, severity: Severity, runbook: str) -> Code:
        """Create a member whose value is the code alone."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.area, code.severity, code.runbook = area, severity, runbook
        return code

    @property
    def runbook_url(self) -> str:
        """The address of the runbook."""
        return f"{_RUNBOOKS}/{self.runbook}.md"
