"""The result backend."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, counted
from celery_vitals.audit.findings import Problem, rule

_BACKENDS_PAGE = "https://docs.celeryq.dev/en/stable/userguide/tasks.html#result-backends"
_CHORDS_PAGE = "https://docs.celeryq.dev/en/stable/userguide/canvas.html#chord-important-notes"
_UNLOCK = "celery.chord_unlock"
_DATABASES = ("db", "database", "sqlalchemy", "django-db", "django_celery_results.backends")
_OWN_EXPIRY = ("", "rpc", "amqp", "cache", "memory", "s3", "file", "django-cache")


@rule(
    "results_never_expire",
    Severity.WARNING,
    Source.SETTINGS,
    risk="Results accumulate until the memory or disk of the backend is full.",
    link="result_expires",
)
def results_never_expire(facts: Facts) -> Iterator[Problem]:
    """Results are kept for ever."""
    for conf in facts.configurations:
        if facts.backend in _OWN_EXPIRY or conf.get("task_ignore_result") is True:
            continue
        if not conf.get("result_expires"):
            yield Problem(
                "result_expires",
                f"results in {facts.backend_address or facts.backend} never expire",
                conf.line("result_expires", 86400),
                conf.evidence("result_expires"),
            )


@rule(
    "results_expire_by_beat_only",
    Severity.INFO,
    Source.SETTINGS,
    risk="A database deletes expired results only when beat runs celery.backend_cleanup once a day;"
    " without beat its table grows without a limit.",
    link="result_expires",
)
def results_expire_by_beat_only(facts: Facts) -> Iterator[Problem]:
    """Results are in a database, and only beat deletes expired ones."""
    for conf in facts.configurations:
        if facts.backend in _DATABASES and conf.get("result_expires"):
            yield Problem(
                "result_backend",
                f"results in {facts.backend_address or facts.backend} are deleted by beat only",
                f"celery -A {facts.app} beat",
                conf.evidence("result_expires"),
            )


@rule(
    "results_of_all_tasks_kept",
    Severity.INFO,
    Source.SETTINGS,
    Source.TASKS,
    risk="Each execution writes a result, whether anything reads it or not.",
    link="task_ignore_result",
)
def results_of_all_tasks_kept(facts: Facts) -> Iterator[Problem]:
    """There is a result backend, and no task ignores its result."""
    for conf in facts.configurations:
        keeps = conf.get("task_ignore_result") is False
        if facts.backend and facts.tasks and keeps:
            if any(one.ignore_result for one in facts.tasks.values()):
                continue
            task = min(facts.tasks)
            yield Problem(
                "task_ignore_result",
                f"{counted(len(facts.tasks), 'task')}: every result is stored",
                f"@app.task(name={task!r}, ignore_result=True)  # where results are not read",
                conf.evidence("task_ignore_result"),
            )


@rule(
    "rpc_results",
    Severity.WARNING,
    Source.SETTINGS,
    risk="A result can be read once, by the process that sent the task: another web process, or the"
    " same one after a restart, waits for ever; chords do not work.",
    link=_BACKENDS_PAGE,
)
def rpc_results(facts: Facts) -> Iterator[Problem]:
    """Results are sent as messages to the process that sent the task."""
    if facts.backend in ("rpc", "amqp"):
        yield Problem(
            "result_backend",
            f"the result backend is {facts.backend}://",
            facts.line("result_backend", "redis://HOST:6379/1"),
            (Evidence("result_backend", facts.backend, _source(facts)),),
        )


@rule(
    "results_in_one_process",
    Severity.ERROR,
    Source.SETTINGS,
    risk="Workers write results into their own memory, where no other process can read them.",
    link=_BACKENDS_PAGE,
)
def results_in_one_process(facts: Facts) -> Iterator[Problem]:
    """Results are kept in the memory of one process."""
    if facts.backend == "cache" and facts.backend_detail == "memory":
        yield Problem(
            "result_backend",
            "the result backend is cache+memory://",
            facts.line("result_backend", "redis://HOST:6379/1"),
            (Evidence("result_backend", "cache+memory", _source(facts)),),
        )


@rule(
    "sqlite_results",
    Severity.WARNING,
    Source.SETTINGS,
    risk="SQLite admits one writer at a time: workers wait for each other, and fail with `database"
    " is locked`.",
    link=_BACKENDS_PAGE,
)
def sqlite_results(facts: Facts) -> Iterator[Problem]:
    """Results are stored in SQLite."""
    if facts.backend in _DATABASES and facts.backend_detail.startswith("sqlite"):
        yield Problem(
            "result_backend",
            "the result backend is SQLite",
            facts.line("result_backend", "redis://HOST:6379/1"),
            (Evidence("result_backend", "sqlite", _source(facts)),),
        )


@rule(
    "memcached_results",
    Severity.INFO,
    Source.SETTINGS,
    risk="memcached drops results when its memory is full, and all of them when it restarts: a"
    " caller that waits for one waits for ever.",
    link=_BACKENDS_PAGE,
)
def memcached_results(facts: Facts) -> Iterator[Problem]:
    """Results are stored in memcached."""
    if facts.backend == "cache" and facts.backend_detail in ("memcached", "pylibmc", "pymemcache"):
        yield Problem(
            "result_backend",
            "the result backend is memcached",
            facts.line("result_backend", "redis://HOST:6379/1"),
            (Evidence("result_backend", facts.backend_detail, _source(facts)),),
        )


@rule(
    "results_in_broker",
    Severity.INFO,
    Source.SETTINGS,
    Source.BROKER,
    risk="Results compete with messages for the memory of Redis: when it is full, no task can be"
    " sent.",
    link=_BACKENDS_PAGE,
)
def results_in_broker(facts: Facts) -> Iterator[Problem]:
    """Results are stored in the Redis of the broker."""
    here, there = facts.backend_address, facts.broker.address if facts.broker else ""
    if facts.backend in ("redis", "rediss") and _server(here) and _server(here) == _server(there):
        yield Problem(
            "result_backend",
            f"broker and results share Redis at {_server(here)}",
            facts.line("result_backend", "redis://ANOTHER-HOST:6379/0"),
            (
                Evidence("result_backend", here, _source(facts)),
                Evidence("broker_url", there, _source(facts)),
            ),
        )


def _server(address: str) -> str:
    host = address.partition("://")[2].partition("/")[0]
    return host if ":" in host or not host else f"{host}:6379"


@rule(
    "chord_polls",
    Severity.INFO,
    Source.SETTINGS,
    Source.WORKERS,
    risk="With this backend a task polls once a second until all tasks of a chord have ended, and"
    " occupies slots of workers.",
    link=_CHORDS_PAGE,
)
def chord_polls(facts: Facts) -> Iterator[Problem]:
    """Chords are used, and the backend waits for them by polling."""
    for worker in facts.workers:
        count = worker.accepted.get(_UNLOCK, 0)
        if count and facts.conf is not None and facts.backend not in ("", "rpc", "amqp"):
            yield Problem(
                worker.name,
                f"{worker.name} has run {_UNLOCK} {count} times",
                facts.conf.line("result_chord_retry_interval", 10),
                (
                    Evidence(_UNLOCK, str(count), f"worker {worker.name}, stats"),
                    Evidence("result_backend", facts.backend, facts.conf.source),
                ),
            )
            return


@rule(
    "chords_with_ignored_results",
    Severity.ERROR,
    Source.SETTINGS,
    Source.WORKERS,
    risk="A chord waits for the results of its tasks: with ignored results its body never runs.",
    link=_CHORDS_PAGE,
)
def chords_with_ignored_results(facts: Facts) -> Iterator[Problem]:
    """Chords are used, and the results of tasks are ignored."""
    used = [one for one in facts.workers if one.accepted.get(_UNLOCK)]
    for conf in facts.configurations:
        if used and conf.get("task_ignore_result") is True:
            yield Problem(
                "task_ignore_result",
                f"chords are used (worker {used[0].name}), and results are ignored",
                conf.line("task_ignore_result", False),
                (
                    *conf.evidence("task_ignore_result"),
                    Evidence(_UNLOCK, str(used[0].accepted[_UNLOCK]), f"worker {used[0].name}"),
                ),
            )


@rule(
    "result_names_missing",
    Severity.INFO,
    Source.SETTINGS,
    risk="Stored results do not have the name of their task, its worker and queue.",
    link="result_extended",
)
def result_names_missing(facts: Facts) -> Iterator[Problem]:
    """Results in a database are stored without the name of the task."""
    for conf in facts.configurations:
        if facts.backend in _DATABASES and conf.get("result_extended") is False:
            yield Problem(
                "result_extended",
                "results are stored without the name of their task",
                conf.line("result_extended", True),
                conf.evidence("result_extended"),
            )


def _source(facts: Facts) -> str:
    return facts.conf.source if facts.conf else ""
