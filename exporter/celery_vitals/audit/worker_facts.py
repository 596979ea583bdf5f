"""The facts of workers, from their replies to remote control."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from celery_vitals.audit.facts import TaskFacts, WorkerFacts, number
from celery_vitals.metrics.base import label_text
from celery_vitals.remote_control import Answer, Command
from celery_vitals.workers.consumed_queues import consumed_queues
from celery_vitals.workers.stats import Stats

_BUILT_IN = "celery."
_ITEMS = (
    "acks_late",
    "reject_on_worker_lost",
    "acks_on_failure_or_timeout",
    "acks_on_failure",
    "acks_on_timeout",
    "retry_on_worker_lost",
    "ignore_result",
    "max_retries",
    "default_retry_delay",
    "time_limit",
    "soft_time_limit",
    "rate_limit",
    "priority",
)
_ENTRY = re.compile(r"(?P<name>.*?)(?: \[(?P<items>.*)\])?", re.DOTALL)
_VERSIONS = re.compile(r"celery:(?P<celery>[\w.]+).*?py:(?P<python>[\w.]+)", re.DOTALL)
COMMANDS = (
    Command("stats"),
    Command("active_queues"),
    Command("registered", arguments={"taskinfoitems": list(_ITEMS), "builtins": False}),
    Command("report"),
)
CONF = Command("conf")
VisibilityTimeout = Callable[[Mapping[str, Any]], float | None]


def replies_of(answers: Iterable[Answer], method: str) -> dict[str, Any]:
    """Return the replies to a command by worker; errors are left out."""
    return {
        label_text(one.worker): one.body
        for one in answers
        if one.method == method and not (isinstance(one.body, dict) and "error" in one.body)
    }


def workers_of(
    answers: Iterable[Answer], visibility_timeout: VisibilityTimeout
) -> tuple[WorkerFacts, ...]:
    """Combine the replies of each worker.

    `visibility_timeout` returns the one that transport options cause, if the broker has any.
    """
    answers = list(answers)
    pids: defaultdict[str, set[int]] = defaultdict(set)
    for one in answers:
        pid = one.body.get("pid") if isinstance(one.body, dict) else None
        if one.method == "stats" and isinstance(pid, int):
            pids[label_text(one.worker)].add(pid)
    queues, tasks = replies_of(answers, "active_queues"), replies_of(answers, "registered")
    reports = replies_of(answers, "report")
    found: list[WorkerFacts] = []
    for name, body in sorted(replies_of(answers, "stats").items()):
        worker = _of_stats(name, body, visibility_timeout)
        if worker is not None:
            worker = _with_queues(worker, queues.get(name))
            worker = _with_tasks(worker, tasks.get(name))
            worker = _with_versions(worker, reports.get(name))
            found.append(replace(worker, pids=frozenset(pids[name])))
    return tuple(found)


def _of_stats(name: str, body: Any, visibility_timeout: VisibilityTimeout) -> WorkerFacts | None:
    stats = Stats.parse(body)
    if stats is None:
        return None
    pool, options = body["pool"], stats.transport_options
    limits = pool.get("timeouts")
    hard = limits[1] if isinstance(limits, (list, tuple)) and len(limits) == 2 else None
    return WorkerFacts(
        name=name,
        pool=stats.pool,
        slots=stats.slots,
        prefetch=stats.prefetch,
        time_limit=number(hard),
        max_tasks_per_child=number(pool.get("max-tasks-per-child")),
        autoscales=isinstance(body.get("autoscaler"), dict),
        visibility_timeout=visibility_timeout(options) if options is not None else None,
        accepted=stats.accepted,
    )


def _with_queues(worker: WorkerFacts, body: Any) -> WorkerFacts:
    if not isinstance(body, list):
        return worker
    consumed, _ = consumed_queues(body)
    quorum: set[str] = set()
    direct: set[str] = set()
    for queue in body:
        if isinstance(queue, dict):
            name = label_text(queue.get("name") or "")
            arguments, exchange = queue.get("queue_arguments"), queue.get("exchange")
            if isinstance(arguments, dict) and arguments.get("x-queue-type") == "quorum":
                quorum.add(name)
            if isinstance(exchange, dict) and exchange.get("type") == "direct":
                direct.add(name)
    return replace(
        worker,
        queues=consumed,
        quorum_queues=frozenset(quorum),
        direct_queues=frozenset(direct),
    )


def _with_tasks(worker: WorkerFacts, body: Any) -> WorkerFacts:
    if not isinstance(body, list):
        return worker
    parsed = (_ENTRY.fullmatch(text) for text in body if isinstance(text, str))
    return replace(worker, tasks=frozenset(label_text(one["name"]) for one in parsed if one))


def _with_versions(worker: WorkerFacts, body: Any) -> WorkerFacts:
    report = body.get("ok") if isinstance(body, dict) else None
    found = _VERSIONS.search(report) if isinstance(report, str) else None
    if found is None:
        return worker
    return replace(worker, celery=found["celery"], python=found["python"])


def registered_task_facts(answers: Iterable[Answer]) -> dict[str, TaskFacts]:
    """Return the tasks that workers report, each by the first worker in order of names."""
    tasks: dict[str, TaskFacts] = {}
    for worker, body in sorted(replies_of(answers, "registered").items()):
        for text in body if isinstance(body, list) else ():
            entry = _ENTRY.fullmatch(text) if isinstance(text, str) else None
            if entry is not None and not entry["name"].startswith(_BUILT_IN):
                name = label_text(entry["name"])
                tasks.setdefault(name, _task(name, worker, _items(entry["items"] or "")))
    return tasks


def _items(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(" "))
    return {name: value for name, _, value in pairs if name in _ITEMS}


def _task(name: str, worker: str, items: Mapping[str, str]) -> TaskFacts:
    def flag(*names: str) -> bool | None:
        for one in names:
            if one in items:
                return items[one] not in ("False", "0", "")
        return None

    def amount(one: str) -> float | None:
        try:
            return float(items[one])
        except (KeyError, ValueError):
            return None

    known = "acks_late" in items  # no task is without it; attributes that are None are left out
    return TaskFacts(
        name=name,
        source=f"worker {worker}",
        acks_late=flag("acks_late"),
        reject_on_worker_lost=bool(flag("reject_on_worker_lost")) if known else None,
        acks_on_failure=flag("acks_on_failure", "acks_on_failure_or_timeout"),
        acks_on_timeout=flag("acks_on_timeout", "acks_on_failure_or_timeout"),
        retry_on_worker_lost=bool(flag("retry_on_worker_lost")) if known else None,
        ignore_result=flag("ignore_result"),
        max_retries=amount("max_retries") if "max_retries" in items or not known else math.inf,
        default_retry_delay=amount("default_retry_delay"),
        time_limit=amount("time_limit"),
        soft_time_limit=amount("soft_time_limit"),
        rate_limit=items.get("rate_limit"),
        priority=amount("priority"),
    )
