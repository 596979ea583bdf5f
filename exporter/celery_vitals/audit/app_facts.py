"""The facts of an app: its tasks, queues, routes and schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from celery import Celery

from celery_vitals.audit.evidence import Source
from celery_vitals.audit.facts import Facts, ScheduleEntry, TaskFacts, number
from celery_vitals.queue_names import is_internal
from celery_vitals.secrets import Redactor
from celery_vitals.settings.app_configuration import static_routes

_BUILT_IN = "celery."


def import_tasks(app: Celery) -> str:
    """Import the modules of the tasks, as a worker does; return what failed, if anything did."""
    try:
        app.loader.import_default_modules()
        app.finalize()
    except (Exception, SystemExit) as error:  # noqa: BLE001  user code may raise anything
        text = " ".join(Redactor()(f"{type(error).__name__}: {error}").split())
        return f"not every task of the app can be imported: {text}"
    return ""


def _own(task: Any, attribute: str, default: Any) -> float | None:
    """Return a limit of a task; None where it is the one of the settings."""
    value = getattr(task, attribute, None)
    return None if value is None or value == default else number(value)


def task_facts(app: Celery) -> dict[str, TaskFacts]:
    """Return the tasks of an app, without Celery's own."""
    return {
        name: _task(name, task, app.conf)
        for name, task in sorted(app.tasks.items())
        if not name.startswith(_BUILT_IN)
    }


def _task(name: str, task: Any, conf: Any) -> TaskFacts:
    def value(attribute: str) -> Any:
        return getattr(task, attribute, None)

    retry = value("retry_kwargs") if isinstance(value("retry_kwargs"), Mapping) else {}
    retries = retry.get("max_retries", value("max_retries"))
    countdown = number(retry.get("countdown"))
    backoff = value("retry_backoff") if value("autoretry_for") else None
    delay = number(value("default_retry_delay")) if countdown is None else countdown
    return TaskFacts(
        name=name,
        source=f"task {name}",
        acks_late=_flag(value("acks_late")),
        reject_on_worker_lost=bool(value("reject_on_worker_lost")),
        acks_on_failure=_acks(task, "acks_on_failure"),
        acks_on_timeout=_acks(task, "acks_on_timeout"),
        retry_on_worker_lost=bool(value("retry_on_worker_lost")),
        ignore_result=_flag(value("ignore_result")),
        max_retries=math.inf if retries is None else number(retries),
        default_retry_delay=delay,
        retry_backoff_max=number(value("retry_backoff_max") or 600) if backoff else None,
        retries_automatically=bool(value("autoretry_for")),
        time_limit=_own(task, "time_limit", conf.task_time_limit),
        soft_time_limit=_own(task, "soft_time_limit", conf.task_soft_time_limit),
        rate_limit=str(value("rate_limit")) if value("rate_limit") else None,
        priority=number(value("priority")),
    )


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _acks(task: Any, name: str) -> bool | None:
    """Return the attribute of Celery 5.7, else that which older versions have for both."""
    value = getattr(task, name, None)
    return _flag(getattr(task, "acks_on_failure_or_timeout", None) if value is None else value)


def routes_of(routes: Any) -> dict[str, str]:
    """Return the queue of each task or pattern that static routes name; the first one applies."""
    found: dict[str, str] = {}
    for task, queue in static_routes(routes):
        found.setdefault(task, queue if isinstance(queue, str) else str(queue.name))
    return found


def schedule_of(
    schedule: Any, routes: Mapping[str, str], default: str
) -> tuple[ScheduleEntry, ...]:
    """Return the entries of a beat schedule; their arguments are not read."""
    entries = schedule.items() if isinstance(schedule, Mapping) else ()
    return tuple(
        _entry(str(name), one, routes, default)
        for name, one in entries
        if isinstance(one, Mapping) and isinstance(one.get("task"), str)
    )


def _entry(
    name: str, entry: Mapping[str, Any], routes: Mapping[str, str], default: str
) -> ScheduleEntry:
    options = entry.get("options") if isinstance(entry.get("options"), Mapping) else {}
    options = options or {}
    task = str(entry["task"])
    queue = options.get("queue") or routes.get(task)
    if queue is None and not routes and "routing_key" not in options and "exchange" not in options:
        queue = default
    return ScheduleEntry(
        name=name,
        task=task,
        interval=_interval(entry.get("schedule")),
        queue=getattr(queue, "name", queue),
        expires=options.get("expires") is not None,
        delay=number(options.get("countdown")) or 0.0,
    )


def _interval(schedule: Any) -> float | None:
    """Return the seconds of a constant interval; None for crontab and the like."""
    every = getattr(schedule, "run_every", schedule)
    if isinstance(every, (int, float, timedelta)):
        return number(every)
    minute, hour = getattr(schedule, "minute", None), getattr(schedule, "hour", None)
    sets = isinstance(minute, (set, frozenset)) and isinstance(hour, (set, frozenset))
    every_minute = sets and len(minute or ()) == 60 and len(hour or ()) == 24
    return 60.0 if every_minute else None


def app_part(app: Celery, facts: Facts) -> dict[str, Any]:
    """Return the fields of `Facts` that the app determines."""
    conf = app.conf
    routes = routes_of(conf.task_routes)
    problem = import_tasks(app)
    queues = {
        str(name): queue for name, queue in app.amqp.queues.items() if not is_internal(str(name))
    }
    default = str(conf.task_default_queue)
    return {
        "tasks": task_facts(app),
        "routes": routes,
        "schedule": schedule_of(conf.beat_schedule, routes, default),
        "declared_queues": {
            name: dict(queue.queue_arguments or {}) for name, queue in queues.items()
        },
        "direct_queues": frozenset(
            name
            for name, queue in queues.items()
            if queue.exchange is not None and queue.exchange.type == "direct"
        ),
        "gaps": {**facts.gaps, **({Source.ALL_TASKS: problem} if problem else {})},
    }
