"""The rows of the matrix: what is set up for each, and which tests run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import debian, environments

LIVE = ("tests/integration",)
# The live tests that depend on the behaviour of a worker.  ALL_WORKERS adds those with task events
# of the pool `threads`, which Celery before 5.7 loses: one row is enough to show that.
ANY_WORKERS = (
    "tests/integration/test_cluster.py",
    "tests/integration/test_faults.py::test_a_broker_killed_and_started_again_is_found_again",
    "tests/integration/test_harm.py",
    "tests/integration/test_queues.py",
    "tests/integration/test_task_outcomes.py",
    "tests/integration/test_workers.py",
)
ALL_WORKERS = (
    *ANY_WORKERS,
    "tests/integration/test_event_loss.py",
    "tests/integration/test_event_stream.py",
    "tests/integration/test_stream.py",
    "tests/integration/test_task_labels.py",
    "tests/integration/test_task_times.py",
)
# Enough to see another Python under the exporter with real brokers and workers.
SOME_LIVE = tuple(
    f"tests/integration/test_{name}.py"
    for name in ("cluster", "queues", "stream", "task_outcomes", "workers")
)
_WORKER_TESTS = "integration: all that depend on the worker"
NOT_LIVE = ("tests", "--ignore=tests/integration")


@dataclass(frozen=True)
class Setup:
    """What a row runs with."""

    title: str
    """What is tested, with its version."""
    python: Path = Path(sys.executable)
    """Runs the tests and the exporter."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    name: str
    tests: Sequence[str]
    """Arguments of pytest."""
    what: str
    """The description on the page."""
    set_up: Callable[[], Setup]
    """May raise NotHereError."""


def _server(name: str, title: str, kind: str, package: str) -> Row:
    def set_up() -> Setup:
        program = debian.program(package)
        variable = f"CELERY_VITALS_TEST_{kind.upper()}_SERVER"
        return Setup(f"{title} {debian.version(package)}", env={variable: str(program)})

    return Row(name, (*LIVE, "--matrix-server", kind), "integration: all on this server", set_up)


def _workers(series: str, *also: str, everything: bool = False) -> Row:
    def set_up() -> Setup:
        python = environments.with_celery(series, also)
        celery, kombu, redis = environments.versions(python, "celery", "kombu", "redis")
        title = f"Workers of Celery {celery} with kombu {kombu}, redis-py {redis}"
        return Setup(title, env={"CELERY_VITALS_TEST_WORKER_PYTHON": str(python)})

    if everything:
        return Row(f"celery-{series}", ALL_WORKERS, _WORKER_TESTS, set_up)
    return Row(
        f"celery-{series}",
        ANY_WORKERS,
        f"{_WORKER_TESTS}, except events of the pool `threads`",
        set_up,
    )


def _python(series: str, *, live: bool) -> Row:
    def set_up() -> Setup:
        python = environments.with_python(series)
        return Setup(f"Python {environments.release(python)}", python)

    if live:
        return Row(
            f"python-{series}-live",
            SOME_LIVE,
            "integration: cluster, queues, stream, outcomes, workers",
            set_up,
        )
    return Row(f"python-{series}", NOT_LIVE, "all but integration", set_up)


def _sqlalchemy(series: str) -> Row:
    def set_up() -> Setup:
        name = f"sqlalchemy-{series}"
        # psycopg2: this series does not know psycopg 3.
        python = environments.with_packages(name, f"sqlalchemy=={series}.*", "psycopg2-binary")
        return Setup(f"SQLAlchemy {environments.versions(python, 'sqlalchemy')[0]}", python)

    tests = (
        "tests/unit/brokers/test_brokers_input.py",
        "tests/integration/test_backends.py",
        "tests/integration/test_backends_pooler.py",
        "tests/integration/test_backends_servers.py",
    )
    return Row(f"sqlalchemy-{series}", tests, "unit, integration: result backends", set_up)


def _oldest(series: str) -> Row:
    def set_up() -> Setup:
        python = environments.with_oldest(series)
        names = ("celery", "kombu", "redis", "amqp", "uvicorn")
        found = ", ".join(
            f"{name} {version}"
            for name, version in zip(names, environments.versions(python, *names), strict=True)
        )
        title = f"Oldest libraries on Python {environments.release(python)}: {found}"
        # Workers of the newest Celery: an old one loses events itself, which other rows show.
        return Setup(title, python, {"CELERY_VITALS_TEST_WORKER_PYTHON": sys.executable})

    return Row(
        "oldest-libraries",
        ("tests/unit", *SOME_LIVE),
        "unit; integration as in `python-3.13-live`",
        set_up,
    )


ROWS = {
    row.name: row
    for row in (
        _server("redis-8", "Redis", "redis", "redis-server"),
        _server("valkey-8", "Valkey", "redis", "valkey-server"),
        _server("rabbitmq-4", "RabbitMQ", "rabbitmq", "rabbitmq-server"),
        # Its kombu breaks with the redis-py of today, which it does not refuse.
        _workers("5.2", "redis<5"),
        _workers("5.3"),
        _workers("5.4", everything=True),
        _workers("5.5"),
        _workers("5.6"),
        _workers("5.7", everything=True),
        *(_python(series, live=False) for series in ("3.10", "3.12", "3.13")),
        _python("3.13", live=True),
        _oldest("3.10"),
        _sqlalchemy("1.4"),
    )
}
