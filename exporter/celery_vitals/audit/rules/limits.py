"""Limits: time, rate and prefetch."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, counted, names, seconds
from celery_vitals.audit.findings import Problem, rule

_LONG = 300.0
"""Seconds: above, a task that waits behind another one inside a worker waits for long."""
_FEW_SLOTS = 16
_NO_LIMITS = ("threads", "solo")
"""Pools that cannot interrupt a task."""
_LIMITS_PAGE = "https://docs.celeryq.dev/en/stable/userguide/workers.html#time-limits"
_PREFETCH_PAGE = "https://docs.celeryq.dev/en/stable/userguide/optimizing.html#prefetch-limits"
_UNITS = {"s": 1, "m": 60, "h": 3600}


def _pools(facts: Facts) -> set[str]:
    return {one.pool for one in facts.workers}


@rule(
    "no_time_limit",
    Severity.WARNING,
    Source.TASKS,
    Source.SETTINGS,
    risk="A task that hangs (a socket without a timeout, a lock) occupies its slot for ever; as"
    " many of them as there are slots stop the worker.",
    link=_LIMITS_PAGE,
)
def no_time_limit(facts: Facts) -> Iterator[Problem]:
    """Tasks have no hard time limit."""
    if _pools(facts) and _pools(facts) <= set(_NO_LIMITS):
        return
    found = [one.name for one in facts.tasks.values() if not facts.time_limit(one)]
    if found and facts.conf is not None:
        soft = facts.conf.number("task_soft_time_limit")
        hard = int(soft * 1.2) if soft else 1800
        count = "no task has" if len(found) == len(facts.tasks) else f"{names(found)}:"
        yield Problem(
            "task_time_limit",
            f"{count} {'a' if count.startswith('no') else 'no'} hard time limit",
            facts.conf.line("task_time_limit", hard),
            facts.conf.evidence("task_time_limit"),
        )


@rule(
    "soft_limit_not_below_hard",
    Severity.ERROR,
    Source.TASKS,
    Source.SETTINGS,
    risk="The process is killed before the soft limit can raise its exception, so that the task"
    " never cleans up.",
    link=_LIMITS_PAGE,
)
def soft_limit_not_below_hard(facts: Facts) -> Iterator[Problem]:
    """A soft time limit is not below the hard one."""
    default = facts.conf.number("task_soft_time_limit") if facts.conf else None
    found = {
        one.name: (one.soft_time_limit or default, facts.time_limit(one))
        for one in facts.tasks.values()
    }
    wrong = {
        name: (soft, hard) for name, (soft, hard) in found.items() if soft and hard and soft >= hard
    }
    if not wrong and facts.conf is not None and not facts.tasks:
        hard = facts.conf.number("task_time_limit")
        if default and hard and default >= hard:
            wrong = {"task_soft_time_limit": (default, hard)}
    if wrong:
        name, (soft, hard) = sorted(wrong.items())[0]
        source = facts.tasks[name].source if name in facts.tasks else "settings"
        yield Problem(
            name,
            f"{names(wrong)}: soft limit {seconds(soft or 0)}, hard limit {seconds(hard or 0)}",
            f"@app.task(name={name!r}, soft_time_limit={int((hard or 0) * 0.9)})"
            if name in facts.tasks and facts.tasks[name].soft_time_limit
            else facts.line("task_soft_time_limit", int((hard or 0) * 0.9)),
            (
                Evidence("soft_time_limit", f"{soft:g}", source),
                Evidence("time_limit", f"{hard:g}", source),
            ),
        )


@rule(
    "time_limit_without_effect",
    Severity.WARNING,
    Source.WORKERS,
    Source.TASKS,
    risk="The pool cannot interrupt a task, so that a task that hangs is never stopped.",
    link=_LIMITS_PAGE,
)
def time_limit_without_effect(facts: Facts) -> Iterator[Problem]:
    """Time limits are set, and the pool of a worker does not apply them."""
    limited = [one for one in facts.tasks.values() if facts.time_limit(one)]
    for worker in facts.workers:
        if limited and worker.pool in _NO_LIMITS:
            task = min(limited, key=lambda one: one.name)
            yield Problem(
                worker.name,
                f"{worker.name} has the pool {worker.pool}, which applies no time limit",
                f"celery -A {facts.app} worker -n {worker.name} -P prefork",
                (
                    Evidence("pool", worker.pool, f"worker {worker.name}"),
                    Evidence("time_limit", f"{facts.time_limit(task):g}", task.source),
                ),
            )


@rule(
    "prefetch_of_long_tasks",
    Severity.WARNING,
    Source.WORKERS,
    Source.TASKS,
    Source.SETTINGS,
    risk="Tasks wait inside a busy worker while another one is free, and all of them are lost or"
    " repeated with it.",
    link=_PREFETCH_PAGE,
)
def prefetch_of_long_tasks(facts: Facts) -> Iterator[Problem]:
    """A worker reserves more tasks than it has slots, and tasks may run for long."""
    long = [
        one
        for one in facts.tasks.values()
        if max(one.time_limit or 0, one.soft_time_limit or 0) >= _LONG
    ]
    multiplier = facts.conf.number("worker_prefetch_multiplier") if facts.conf else None
    for worker in facts.workers:
        slots, prefetch = worker.slots, worker.prefetch
        if not long or not slots or not prefetch or not multiplier or multiplier <= 1:
            continue
        if prefetch >= slots * multiplier > slots:
            task = max(long, key=lambda one: max(one.time_limit or 0, one.soft_time_limit or 0))
            yield Problem(
                worker.name,
                f"{worker.name} reserves {prefetch} tasks for {counted(slots, 'slot')}, and"
                f" {names(one.name for one in long)} may run for"
                f" {seconds(max(task.time_limit or 0, task.soft_time_limit or 0))}",
                facts.line("worker_prefetch_multiplier", 1),
                (
                    Evidence("prefetch_count", str(prefetch), f"worker {worker.name}"),
                    Evidence("slots", str(slots), f"worker {worker.name}"),
                    *task.evidence("time_limit"),
                ),
            )


@rule(
    "prefetch_unlimited",
    Severity.WARNING,
    Source.SETTINGS,
    risk="One worker takes all waiting messages into its memory; the others get none, and with it"
    " all of them are lost or repeated.",
    link="worker_prefetch_multiplier",
)
def prefetch_unlimited(facts: Facts) -> Iterator[Problem]:
    """The prefetch limit is off."""
    for conf in facts.configurations:
        if conf.number("worker_prefetch_multiplier") == 0:
            yield Problem(
                "worker_prefetch_multiplier",
                "workers reserve an unlimited number of messages",
                conf.line("worker_prefetch_multiplier", 1),
                conf.evidence("worker_prefetch_multiplier"),
            )


@rule(
    "disable_prefetch_without_effect",
    Severity.WARNING,
    Source.SETTINGS,
    Source.BROKER,
    risk="The worker ignores the setting on this broker, and reserves tasks for its slots all the"
    " same.",
    link="worker_disable_prefetch",
)
def disable_prefetch_without_effect(facts: Facts) -> Iterator[Problem]:
    """worker_disable_prefetch is set on a broker other than Redis."""
    for conf in facts.configurations:
        if conf.get("worker_disable_prefetch") is True and not _on_redis(facts):
            yield Problem(
                "worker_disable_prefetch",
                f"worker_disable_prefetch has no effect on {facts.broker and facts.broker.kind}",
                conf.line("worker_prefetch_multiplier", 1),
                conf.evidence("worker_disable_prefetch"),
            )


def _on_redis(facts: Facts) -> bool:
    return facts.broker is not None and facts.broker.kind in ("redis", "sentinel")


def _per_second(limit: str) -> float | None:
    amount, _, unit = limit.partition("/")
    try:
        return float(amount) / _UNITS[unit or "s"]
    except (ValueError, KeyError):
        return None


@rule(
    "rate_limit_per_worker",
    Severity.INFO,
    Source.WORKERS,
    Source.TASKS,
    risk="A rate limit applies to each worker by itself: all together exceed it by their number.",
    link="https://docs.celeryq.dev/en/stable/userguide/tasks.html#Task.rate_limit",
)
def rate_limit_per_worker(facts: Facts) -> Iterator[Problem]:
    """A task with a rate limit runs on several workers."""
    for task in facts.tasks.values():
        limit = _per_second(task.rate_limit or "")
        workers = sum(task.name in (one.tasks or ()) for one in facts.workers)
        if limit and workers > 1:
            amount, _, unit = str(task.rate_limit).partition("/")
            total = f"{float(amount) * workers:g}/{unit or 's'}"
            yield Problem(
                task.name,
                f"{task.name}: {task.rate_limit} on each of {workers} workers is {total} in all",
                f"celery -A {facts.app} control rate_limit {task.name}"
                f" {float(amount) / workers:g}/{unit or 's'}",
                (
                    *task.evidence("rate_limit"),
                    Evidence("workers", str(workers), "replies to registered"),
                ),
            )


@rule(
    "rate_limits_disabled",
    Severity.WARNING,
    Source.SETTINGS,
    Source.TASKS,
    risk="Rate limits are ignored, and what they protect gets the full load.",
    link="worker_disable_rate_limits",
)
def rate_limits_disabled(facts: Facts) -> Iterator[Problem]:
    """Tasks have a rate limit, and rate limits are disabled."""
    limited = [one for one in facts.tasks.values() if one.rate_limit]
    for conf in facts.configurations:
        if limited and conf.get("worker_disable_rate_limits") is True:
            yield Problem(
                "worker_disable_rate_limits",
                f"{names(one.name for one in limited)}: rate limit without effect",
                conf.line("worker_disable_rate_limits", False),
                (
                    *conf.evidence("worker_disable_rate_limits"),
                    *limited[0].evidence("rate_limit"),
                ),
            )
