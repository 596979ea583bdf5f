"""What can be wrong, as queries: each gives a row for each thing that is wrong now, and nothing when all is right.

The overview's verdict and its list of problems are made from this table.  The thresholds are those of a first look;
whoever is to be woken up is for the alert rules to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from tools.dashboards.query import (
    NOW,
    age,
    gauge,
    increase,
    least,
    most,
    of,
    own,
    rate,
    total,
    waiting,
)

CRITICAL, WARNING = "critical", "warning"
FEW = 5
"""Failures below this number in the window are no problem yet."""


@dataclass(frozen=True)
class Problem:
    """One kind of problem: how bad, in words, where, which dashboard tells more, and the query for it."""

    severity: str
    text: str
    label: str
    """The label that says where, or a word for it."""
    look: str
    expr: str

    def rows(self) -> str:
        """The query with its words as labels."""
        where = f'"$1", "{self.label}", "(.*)"' if self.label in LABELS else f'"{self.label}", "", ""'
        rows = f'label_replace({self.expr}, "where", {where})'
        for name, value in (("severity", self.severity), ("problem", self.text), ("look", self.look)):
            rows = f'label_replace({rows}, "{name}", "{value}", "", "")'
        return rows


LABELS = ("instance", "queue", "worker", "task", "collector")

FINISHED = total(
    f"{rate('celery_task_failed_total', over=NOW)} or {rate('celery_task_succeeded_total', over=NOW)}", "task"
)
FAILURES = f"{total(rate('celery_task_failed_total', over=NOW), 'task')} / {FINISHED}"
ENOUGH = f"{total(increase('celery_task_failed_total', over=NOW), 'task')} >= {FEW}"
BROKER_ANSWERS = f"max ({gauge('celery_broker_up')}) == 1"


def _state(state: str) -> str:
    return f"""{most(gauge("celery_worker_state", f'state="{state}"'), "worker")} == 1"""


PROBLEMS = (
    Problem(CRITICAL, "The exporter cannot be scraped", "instance", "exporter", f"{own(of('up'))} == 0"),
    Problem(CRITICAL, "The broker does not answer", "broker", "exporter", f"min ({gauge('celery_broker_up')}) == 0"),
    Problem(
        CRITICAL,
        "The result backend does not answer",
        "result backend",
        "exporter",
        f"min ({gauge('celery_result_backend_up')}) == 0",
    ),
    Problem(CRITICAL, "No worker is up", "all workers", "workers", f"sum ({gauge('celery_worker_up')}) == 0"),
    Problem(
        CRITICAL,
        "Messages wait, and no worker consumes the queue",
        "queue",
        "queues",
        f"({total(gauge('celery_queue_length'), 'queue')} > 0) "
        f"and ({total(gauge('celery_queue_workers'), 'queue')} == 0)",
    ),
    Problem(CRITICAL, "The worker answers but consumes no queue", "worker", "workers", _state("not_consuming")),
    Problem(CRITICAL, "The worker has tasks and does not get on with them", "worker", "workers", _state("stalled")),
    Problem(
        CRITICAL, "A quarter or more of the task's runs fail", "task", "tasks", f"({FAILURES} >= 0.25) and ({ENOUGH})"
    ),
    Problem(
        WARNING,
        "More than 5 % of the task's runs fail",
        "task",
        "tasks",
        f"(({FAILURES} > 0.05) < 0.25) and ({ENOUGH})",
    ),
    Problem(
        WARNING,
        "The oldest message has waited for over 5 minutes",
        "queue",
        "queues",
        f"{waiting()} > 300",
    ),
    Problem(
        WARNING,
        "The queue is longer than its limit",
        "queue",
        "queues",
        f"{total(gauge('celery_queue_length'), 'queue')} > {total(gauge('celery_queue_length_limit'), 'queue')}",
    ),
    Problem(
        WARNING,
        "All slots are taken, and more tasks wait",
        "all workers",
        "workers",
        f"({total(gauge('celery_worker_active_tasks'))} >= {total(gauge('celery_worker_pool_slots'))}) "
        f"and ({total(gauge('celery_queue_length'))} > {total(gauge('celery_worker_pool_slots'))})",
    ),
    Problem(
        WARNING,
        "The worker restarts again and again",
        "worker",
        "workers",
        f"{total(increase('celery_worker_restarts_total', over='15m'), 'worker')} >= 3",
    ),
    Problem(
        WARNING,
        "Several workers go by the same name",
        "worker",
        "workers",
        f"{most(gauge('celery_worker_instances'), 'worker')} > 1",
    ),
    Problem(
        WARNING,
        "A held message will soon be handed out a second time",
        "visibility timeout",
        "queues",
        f"{most(age('celery_broker_oldest_unacked_timestamp_seconds', how='min'))} "
        f"> 0.8 * {least(gauge('celery_broker_visibility_timeout_seconds'))}",
    ),
    Problem(
        WARNING,
        "The exporter hears no task events",
        "event stream",
        "exporter",
        f"({most(gauge('celery_exporter_event_stream_up'))} == 0) and ({BROKER_ANSWERS})",
    ),
    Problem(
        WARNING,
        "A collector does not give all it can give",
        "collector",
        "exporter",
        f"({most(gauge('celery_scrape_collector_success'), 'collector')} == 0) and on () ({BROKER_ANSWERS})",
    ),
)


def problems() -> str:
    """Everything that is wrong now: severity, problem, where, look (the dashboard that tells more)."""
    rows = "\nor ".join(problem.rows() for problem in PROBLEMS)
    return f"max by (severity, problem, where, look) (\n{rows}\n)"


def verdict() -> str:
    """2 with a critical problem, 1 with a warning, 0 with neither; nothing when nothing is known."""
    nothing = f"0 * max ({of('celery_exporter_build_info')})"
    return f"2 * ({_any(CRITICAL)} > bool 0)\nor 1 * ({_any(WARNING)} > bool 0)\nor {nothing}"


def _any(severity: str) -> str:
    exprs = "\nor ".join(
        f'label_replace({one.expr}, "kind", "{place}", "", "")'
        for place, one in enumerate(PROBLEMS)
        if one.severity == severity
    )
    return f"count (\n{exprs}\n)"
