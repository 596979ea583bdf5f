"""The problems that the overview detects: each query returns one row per current problem.

The overview's health and its list of active problems are built from this table.  The thresholds
suit a first look at a cluster; paging is left to the alert rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from tools.dashboards.query import (
    RECENT,
    age,
    deduplicate,
    exporters_only,
    gauge,
    increase,
    max_by,
    min_by,
    oldest_message_age,
    rate,
    selector,
    sum_by,
)

CRITICAL, WARNING = "critical", "warning"
MIN_FAILURES = 5
"""Failures in the window below which a failure ratio is ignored."""


@dataclass(frozen=True)
class Problem:
    """One kind of problem."""

    severity: str
    text: str
    label: str
    """The label that locates the problem, or a fixed text."""
    dashboard: str
    """Name of the dashboard with the details."""
    expr: str

    def rows(self) -> str:
        """Return the query with severity, text, location and dashboard as labels."""
        source = (
            f'"$1", "{self.label}", "(.*)"' if self.label in LABELS else f'"{self.label}", "", ""'
        )
        rows = f'label_replace({self.expr}, "where", {source})'
        labels = (("severity", self.severity), ("problem", self.text), ("look", self.dashboard))
        for name, value in labels:
            rows = f'label_replace({rows}, "{name}", "{value}", "", "")'
        return rows


LABELS = ("instance", "queue", "worker", "task", "collector")

FAILED = rate("celery_task_failed_total", over=RECENT)
SUCCEEDED = rate("celery_task_succeeded_total", over=RECENT)
FINISHED = sum_by(f"{FAILED} or {SUCCEEDED}", "task")
FAILURE_RATIO = f"{sum_by(FAILED, 'task')} / {FINISHED}"
ALL_FINISHED = sum_by(f"{FAILED} or {SUCCEEDED}")
FAILURES = sum_by(increase("celery_task_failed_total", over=RECENT), "task")
ENOUGH_FAILURES = f"{FAILURES} >= {MIN_FAILURES}"
BROKER_UP = f"max ({gauge('celery_broker_up')}) == 1"
LENGTH = sum_by(gauge("celery_queue_length"), "queue")
MEMORY_IN_AN_HOUR = (
    f"max (predict_linear({selector('celery_broker_memory_used_bytes')}[15m], 3600)"
    f" / {selector('celery_broker_memory_limit_bytes')})"
)
MEMORY_RATIO = (
    f"max ({selector('celery_broker_memory_used_bytes')}"
    f" / {selector('celery_broker_memory_limit_bytes')})"
)
EVICTS = f"""max ({gauge("celery_broker_eviction_policy_info", 'policy!="noeviction"')})"""
EVICTS_QUEUES = f"""max ({gauge("celery_broker_eviction_policy_info", 'policy=~"allkeys-.+"')})"""
SLOTS = sum_by(gauge("celery_worker_pool_slots"))
LOST = sum_by(increase("celery_task_lost_total", over="1h"), "task")
FOUND = sum_by(increase("celery_task_found_total", over="1h"), "task")
TWICE = " or ".join(
    f"({sum_by(increase(f'celery_task_{name}_total', over='1h'), 'task')} > 0)"
    for name in ("overlapping", "repeated")
)

NO_WORKER = f"sum ({gauge('celery_worker_up')}) == 0"
EVIDENCE = max_by(
    deduplicate(f"last_over_time({selector('celery_queue_evidence_info')}[6h])"), "queue"
)
WAITING = f"({LENGTH} > 0) and ({EVIDENCE})"
ANY_WAITING = f"sum ({WAITING}) > 0"
LAST_QUEUES = deduplicate(f"last_over_time({selector('celery_worker_queue_info')}[1h])")


def _state(state: str) -> str:
    return f"""{max_by(gauge("celery_worker_state", f'state="{state}"'), "worker")} == 1"""


def _delaying(state: str) -> str:
    """Return the workers in this state in whose queues messages wait."""
    waiting = f"({LAST_QUEUES}) and on (worker) ({_state(state)}) and on (queue) ({WAITING})"
    return max_by(waiting, "worker")


def _idle(state: str) -> str:
    """Return the workers in this state in whose queues no message waits."""
    return f"({_state(state)}) unless ({_delaying(state)})"


PROBLEMS = (
    Problem(
        CRITICAL,
        "Prometheus cannot scrape the exporter",
        "instance",
        "exporter",
        f"{exporters_only(selector('up'))} == 0",
    ),
    Problem(
        CRITICAL,
        "The broker is down",
        "broker",
        "exporter",
        f"min ({gauge('celery_broker_up')}) == 0",
    ),
    Problem(
        CRITICAL,
        "The broker accepts no messages",
        "broker",
        "exporter",
        f"min ({gauge('celery_broker_writable')}) == 0",
    ),
    Problem(
        CRITICAL,
        "The result backend is down",
        "result backend",
        "exporter",
        f"min ({gauge('celery_result_backend_up')}) == 0",
    ),
    Problem(
        CRITICAL,
        "No worker is up",
        "all workers",
        "workers",
        f"({NO_WORKER}) and ({ANY_WAITING})",
    ),
    Problem(
        CRITICAL,
        "The queue has messages and no consumers",
        "queue",
        "queues",
        f"({WAITING}) and ({sum_by(gauge('celery_queue_workers'), 'queue')} == 0)",
    ),
    Problem(
        CRITICAL,
        "The worker consumes no queue, and messages wait",
        "worker",
        "workers",
        _delaying("not_consuming"),
    ),
    Problem(
        CRITICAL,
        "The worker is stalled: messages wait and it starts none",
        "worker",
        "workers",
        _delaying("stalled"),
    ),
    Problem(
        CRITICAL,
        "The failure ratio of all tasks is above 40 %",
        "all tasks",
        "tasks",
        f"({sum_by(FAILED)} / {ALL_FINISHED} > 0.4) and ({ALL_FINISHED} * 300 >= 20)",
    ),
    Problem(
        WARNING,
        "No worker is up; no message waits",
        "all workers",
        "workers",
        f"({NO_WORKER}) unless ({ANY_WAITING})",
    ),
    Problem(
        WARNING,
        "The worker consumes no queue",
        "worker",
        "workers",
        _idle("not_consuming"),
    ),
    Problem(
        WARNING,
        "The worker is stalled",
        "worker",
        "workers",
        _idle("stalled"),
    ),
    Problem(
        WARNING,
        "The task's failure ratio is 25 % or more",
        "task",
        "tasks",
        f"({FAILURE_RATIO} >= 0.25) and ({ENOUGH_FAILURES})",
    ),
    Problem(
        WARNING,
        "The task's failure ratio is above 5 %",
        "task",
        "tasks",
        f"(({FAILURE_RATIO} > 0.05) < 0.25) and ({ENOUGH_FAILURES})",
    ),
    Problem(
        WARNING,
        "Executions of the task were lost in the last hour",
        "task",
        "tasks",
        # Half an execution: increases are extrapolated.
        f"({LOST} - ({FOUND} or 0 * {LOST})) > 0.5",
    ),
    Problem(
        WARNING,
        "The task ran twice in the last hour",
        "task",
        "tasks",
        TWICE,
    ),
    Problem(
        WARNING,
        "A message of the task starts again and again, without an end",
        "task",
        "tasks",
        f"{max_by(gauge('celery_task_poison'), 'task')} > 0",
    ),
    Problem(
        WARNING,
        "The broker reaches its memory limit within an hour",
        "broker",
        "exporter",
        f"(({MEMORY_IN_AN_HOUR} >= 1) and ({MEMORY_RATIO} > 0.5)) unless ({EVICTS})",
    ),
    Problem(
        WARNING,
        "Redis may evict queues: more than 90 % of its memory limit is in use",
        "broker",
        "exporter",
        f"({MEMORY_RATIO} > 0.9) and ({EVICTS_QUEUES})",
    ),
    Problem(
        WARNING,
        "The oldest message is older than 5 minutes",
        "queue",
        "queues",
        f"{oldest_message_age()} > 300",
    ),
    Problem(
        WARNING,
        "The queue exceeds its length limit",
        "queue",
        "queues",
        f"{LENGTH} > {sum_by(gauge('celery_queue_length_limit'), 'queue')}",
    ),
    Problem(
        WARNING,
        "All slots are busy and messages are waiting",
        "all workers",
        "workers",
        f"({sum_by(gauge('celery_worker_active_tasks'))} >= {SLOTS}) "
        f"and ({sum_by(gauge('celery_queue_length'))} > {SLOTS})",
    ),
    Problem(
        WARNING,
        "The worker restarts repeatedly",
        "worker",
        "workers",
        f"{sum_by(increase('celery_worker_restarts_total', over='15m'), 'worker')} >= 3",
    ),
    Problem(
        WARNING,
        "Several workers have the same node name",
        "worker",
        "workers",
        f"{max_by(gauge('celery_worker_instances'), 'worker')} > 1",
    ),
    Problem(
        WARNING,
        "An unacknowledged message is about to be redelivered",
        "visibility timeout",
        "queues",
        f"{max_by(age('celery_broker_oldest_unacked_timestamp_seconds', aggregation='min'))} "
        f"> 0.8 * {min_by(gauge('celery_broker_visibility_timeout_seconds'))}",
    ),
    Problem(
        WARNING,
        "The exporter receives no task events",
        "event stream",
        "exporter",
        f"({max_by(gauge('celery_exporter_event_stream_up'))} == 0) and ({BROKER_UP})",
    ),
    Problem(
        WARNING,
        "The collector fails",
        "collector",
        "exporter",
        f"({max_by(gauge('celery_scrape_collector_success'), 'collector')} == 0) "
        f"and on () ({BROKER_UP})",
    ),
)


def problems() -> str:
    """Return all current problems, with the labels severity, problem, where and look.

    The label `look` names the dashboard with the details.
    """
    rows = "\nor ".join(problem.rows() for problem in PROBLEMS)
    return f"max by (severity, problem, where, look) (\n{rows}\n)"


def health() -> str:
    """Return 2 with a critical problem, 1 with a warning, 0 with neither.

    The result is empty without an exporter.
    """
    healthy = f"0 * max ({selector('celery_exporter_build_info')})"
    critical, warning = _any(CRITICAL), _any(WARNING)
    return f"2 * ({critical} > bool 0)\nor 1 * ({warning} > bool 0)\nor {healthy}"


def _any(severity: str) -> str:
    exprs = "\nor ".join(
        f'label_replace({problem.expr}, "kind", "{index}", "", "")'
        for index, problem in enumerate(PROBLEMS)
        if problem.severity == severity
    )
    return f"count (\n{exprs}\n)"
