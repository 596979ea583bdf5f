"""Workers: their names, pools, versions and events."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, counted, names
from celery_vitals.audit.findings import Problem, rule
from celery_vitals.audit.rules.delays import version

_WORKERS_PAGE = "https://docs.celeryq.dev/en/stable/userguide/workers.html"
_FORKING = ("prefork",)
_SHOWN = 4
_STALLS_BEFORE = (5, 5)
"""Celery before it may stop to consume after a reconnection to Redis."""


@rule(
    "worker_name_shared",
    Severity.ERROR,
    Source.WORKERS,
    risk="Commands reach both and their replies are mixed up; numbers, events and the state of each"
    " are those of the other.",
    link=f"{_WORKERS_PAGE}#starting-the-worker",
)
def worker_name_shared(facts: Facts) -> Iterator[Problem]:
    """Several workers have the same node name."""
    for worker in facts.workers:
        if len(worker.pids) > 1:
            yield Problem(
                worker.name,
                f"{len(worker.pids)} workers reply as {worker.name}",
                f"celery -A {facts.app} worker -n {worker.name.partition('@')[0]}2@%h",
                tuple(
                    Evidence("pid", str(pid), f"worker {worker.name}")
                    for pid in sorted(worker.pids)[:_SHOWN]
                ),
            )


def _versions(facts: Facts, name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for worker in facts.workers:
        value = getattr(worker, name)
        if value:
            found.setdefault(value, []).append(worker.name)
    return found


@rule(
    "celery_versions_mixed",
    Severity.WARNING,
    Source.VERSIONS,
    risk="Versions differ in the messages and results that they write: a task may be rejected, or"
    " behave differently, depending on which worker gets it.",
    link="https://docs.celeryq.dev/en/stable/history/",
)
def celery_versions_mixed(facts: Facts) -> Iterator[Problem]:
    """Workers, or workers and the app, run different versions of Celery."""
    found = _versions(facts, "celery")
    if facts.own_celery and found and facts.own_celery not in found:
        found[facts.own_celery] = [f"app {facts.app}"]
    if len(found) > 1:
        newest = max(found, key=version)
        yield Problem(
            "celery",
            "; ".join(f"{one}: {names(found[one])}" for one in sorted(found, key=version)),
            f"pip install 'celery=={newest}'",
            tuple(Evidence("celery", one, names(who)) for one, who in found.items()),
        )


@rule(
    "python_versions_mixed",
    Severity.WARNING,
    Source.VERSIONS,
    risk="A task works or fails depending on which worker gets it, and pickled results of one"
    " cannot always be read by the other.",
    link=_WORKERS_PAGE,
)
def python_versions_mixed(facts: Facts) -> Iterator[Problem]:
    """Workers run different versions of Python."""
    found: dict[str, list[str]] = {}
    for patch, who in _versions(facts, "python").items():
        found.setdefault(".".join(patch.split(".")[:2]), []).extend(who)
    if len(found) > 1:
        newest = max(found, key=version)
        yield Problem(
            "python",
            "; ".join(f"Python {one}: {names(found[one])}" for one in sorted(found, key=version)),
            f"python{newest} -m celery -A {facts.app} worker",
            tuple(Evidence("python", one, names(who)) for one, who in found.items()),
        )


@rule(
    "redis_reconnect_stall",
    Severity.WARNING,
    Source.VERSIONS,
    Source.REDIS,
    risk="After a reconnection to Redis the worker may send heartbeats and consume nothing, until"
    " it is restarted.",
    link="https://github.com/celery/celery/issues/8030",
)
def redis_reconnect_stall(facts: Facts) -> Iterator[Problem]:
    """A worker runs a Celery that may stall after a reconnection to Redis."""
    for found, who in _versions(facts, "celery").items():
        if version(found) and version(found) < _STALLS_BEFORE:
            yield Problem(
                "celery",
                f"{names(who)}: Celery {found}, repaired in 5.5",
                "pip install -U 'celery>=5.5'",
                tuple(Evidence("celery", found, f"worker {one}") for one in sorted(who)[:_SHOWN]),
            )


@rule(
    "child_limits_without_effect",
    Severity.WARNING,
    Source.WORKERS,
    Source.SETTINGS,
    risk="Only a prefork pool replaces its processes: memory that a task leaks grows until the"
    " worker is killed.",
    link="worker_max_tasks_per_child",
)
def child_limits_without_effect(facts: Facts) -> Iterator[Problem]:
    """A limit per child process is set, and the pool has no child processes."""
    limits = ("worker_max_tasks_per_child", "worker_max_memory_per_child")
    given = [name for name in limits if facts.conf is not None and facts.conf.number(name)]
    for worker in facts.workers:
        if given and facts.conf is not None and worker.pool not in _FORKING:
            yield Problem(
                worker.name,
                f"{worker.name} has the pool {worker.pool}: {' and '.join(given)} without effect",
                f"celery -A {facts.app} worker -n {worker.name} -P prefork",
                (
                    Evidence("pool", worker.pool, f"worker {worker.name}"),
                    *facts.conf.evidence(*given),
                ),
            )


@rule(
    "autoscale_without_effect",
    Severity.ERROR,
    Source.WORKERS,
    risk="The pool cannot grow: each attempt fails, and the worker stays at its minimum of slots.",
    link=f"{_WORKERS_PAGE}#autoscaling",
)
def autoscale_without_effect(facts: Facts) -> Iterator[Problem]:
    """A worker is started with --autoscale, and its pool cannot change its size."""
    for worker in facts.workers:
        if worker.autoscales and worker.pool in ("threads", "solo"):
            yield Problem(
                worker.name,
                f"{worker.name}: --autoscale with the pool {worker.pool}",
                f"celery -A {facts.app} worker -n {worker.name} -P {worker.pool}"
                + (f" -c {worker.slots}" if worker.pool == "threads" else ""),
                (Evidence("pool", worker.pool, f"worker {worker.name}"),),
            )


@rule(
    "pool_setting_of_greenlets",
    Severity.WARNING,
    Source.SETTINGS,
    risk="The libraries are patched too late, and blocking calls stop the whole worker.",
    link="worker_pool",
)
def pool_setting_of_greenlets(facts: Facts) -> Iterator[Problem]:
    """The pool gevent or eventlet is chosen by the setting instead of -P."""
    for conf in facts.configurations:
        pool = conf.get("worker_pool")
        if pool in ("gevent", "eventlet"):
            yield Problem(
                "worker_pool",
                f"worker_pool = {pool!r} in the settings",
                f"celery -A {facts.app} worker -P {pool}",
                conf.evidence("worker_pool"),
            )


@rule(
    "task_events_off",
    Severity.INFO,
    Source.SETTINGS,
    risk="Unless workers are started with -E, failures, runtimes and lost tasks cannot be"
    " monitored.",
    link="worker_send_task_events",
)
def task_events_off(facts: Facts) -> Iterator[Problem]:
    """Workers send no task events."""
    for conf in facts.configurations:
        if conf.get("worker_send_task_events") is False:
            yield Problem(
                "worker_send_task_events",
                "worker_send_task_events is off",
                conf.line("worker_send_task_events", True),
                conf.evidence("worker_send_task_events"),
            )


@rule(
    "sent_events_off",
    Severity.INFO,
    Source.SETTINGS,
    risk="Without the events of producers, the waiting time of tasks and tasks that never started"
    " cannot be monitored.",
    link="task_send_sent_event",
)
def sent_events_off(facts: Facts) -> Iterator[Problem]:
    """Producers send no task-sent events."""
    for conf in facts.configurations:
        if conf.get("task_send_sent_event") is False:
            yield Problem(
                "task_send_sent_event",
                "producers send no task-sent events",
                conf.line("task_send_sent_event", True),
                conf.evidence("task_send_sent_event"),
            )


@rule(
    "remote_control_off",
    Severity.INFO,
    Source.SETTINGS,
    risk="Workers cannot be inspected, and tasks that run cannot be revoked.",
    link="worker_enable_remote_control",
)
def remote_control_off(facts: Facts) -> Iterator[Problem]:
    """Remote control of workers is off."""
    for conf in facts.configurations:
        if conf.get("worker_enable_remote_control") is False:
            yield Problem(
                "worker_enable_remote_control",
                "workers answer no commands",
                conf.line("worker_enable_remote_control", True),
                conf.evidence("worker_enable_remote_control"),
            )


@rule(
    "tasks_registered_differently",
    Severity.WARNING,
    Source.WORKERS,
    risk="A worker that gets a task that it does not know discards the message: the task is lost"
    " with a NotRegistered error.",
    link="imports",
)
def tasks_registered_differently(facts: Facts) -> Iterator[Problem]:
    """Workers of one queue do not know the same tasks."""
    by_queue: dict[str, list[tuple[str, frozenset[str]]]] = {}
    for worker in facts.workers:
        for queue in worker.queues or ():
            if worker.tasks is not None:
                by_queue.setdefault(queue, []).append((worker.name, worker.tasks))
    for queue, known in sorted(by_queue.items()):
        union = frozenset().union(*(tasks for _, tasks in known))
        for name, tasks in known:
            if missing := union - tasks:
                other = next(who for who, has in known if has & missing)
                yield Problem(
                    name,
                    f"{name} consumes {queue} and does not know {names(missing)}, which"
                    f" {other} does",
                    f"celery -A {facts.app} worker -n {name} -Q {queue}"
                    "  # with the code of the other worker, or on a queue of its own",
                    (
                        Evidence("registered", counted(len(tasks), "task"), f"worker {name}"),
                        Evidence("queue", queue, f"worker {name}"),
                    ),
                )
