"""Fixtures for every test: real brokers, workers, and a check that no process is left running.

`broker`, `module_broker`, `own_broker` and `cluster` run a test twice, on Redis and on RabbitMQ.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import pytest

from tests.support.servers import (
    Broker,
    BrokerServer,
    MissingProgramError,
    RabbitMQServer,
    RedisServer,
    Worker,
)
from tests.support.servers.process_reaper import members, process_reaper

KINDS: dict[str, Callable[[], BrokerServer]] = {"redis": RedisServer, "rabbitmq": RabbitMQServer}
BOTH = tuple(KINDS)
TITLES = {"redis": "Redis", "rabbitmq": "RabbitMQ"}
LOG_LINES = 40

S = TypeVar("S", bound=BrokerServer)


def or_fail(factory: Callable[[], S]) -> S:
    """Start a server; fail the test with one line when its program is missing."""
    try:
        return factory()
    except MissingProgramError as exc:
        pytest.fail(str(exc), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every process that the tests started is gone in the end."""
    before = {one.pid for one in psutil.Process().children()}
    reaper = process_reaper()
    yield
    unexpected = [
        one for one in psutil.Process().children() if one.pid not in before | {reaper.pid}
    ]
    _, left = psutil.wait_procs(unexpected, timeout=3.0)
    left += [one for session in reaper.sessions for one in members(session) if one not in left]
    names = [f"{one.pid} {' '.join(one.cmdline())[:200]}" for one in left if one.is_running()]
    for one in left:
        with suppress(psutil.Error):
            one.kill()
    reaper.close()
    if names:
        pytest.fail("processes left behind by the tests:\n" + "\n".join(names), pytrace=False)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for all tests; they use namespaces of it."""
    with or_fail(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQServer]:
    """One RabbitMQ for all tests; they use namespaces of it."""
    with or_fail(RabbitMQServer) as server:
        yield server


@contextmanager
def namespace_on(kind: str, request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Yield a namespace on the shared server of a kind, after restoring the server."""
    server: BrokerServer = request.getfixturevalue(f"{kind}_server")
    server.heal()
    with server.namespace() as broker:
        yield broker
        server.heal()


@pytest.fixture
def redis_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A Redis database for this test alone."""
    with namespace_on("redis", request) as broker:
        yield broker


@pytest.fixture
def rabbitmq_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A RabbitMQ virtual host for this test alone."""
    with namespace_on("rabbitmq", request) as broker:
        yield broker


@pytest.fixture(params=BOTH)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A namespace of this test, on each of Redis and RabbitMQ; freeze the server, do not kill
    it."""
    with namespace_on(request.param, request) as broker:
        yield broker


@pytest.fixture(scope="module", params=BOTH)
def module_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A namespace for the tests of one module."""
    with namespace_on(request.param, request) as broker:
        yield broker


@pytest.fixture(params=BOTH)
def own_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A namespace on a server that the test may kill and restart; RabbitMQ takes 5 s to start."""
    with or_fail(KINDS[request.param]) as server, server.namespace() as broker:
        yield broker


@dataclass(frozen=True)
class Cluster:
    """A broker and one worker of each pool, by the name of the pool."""

    broker: Broker
    workers: dict[str, Worker]


CLUSTER = {"prefork": 2, "threads": 4, "gevent": 8, "solo": 1}


@pytest.fixture(scope="module")
def cluster(module_broker: Broker) -> Iterator[Cluster]:
    """Four workers `POOL@test` with 2, 4, 8 and 1 slots, on `celery` and a queue named POOL."""
    workers = {
        pool: Worker(module_broker, pool, queues=("celery", pool), concurrency=slots)
        for pool, slots in CLUSTER.items()
    }
    with ExitStack() as stack:
        for worker in workers.values():
            stack.callback(worker.close)
            worker.launch()
        for worker in workers.values():
            worker.wait_ready()
        yield Cluster(module_broker, workers)


@pytest.fixture
def start_worker() -> Iterator[Callable[..., Worker]]:
    """Start workers that end with the test; request this fixture after the broker."""
    with ExitStack() as stack:

        def start(*args: Any, **options: Any) -> Worker:
            worker = Worker(*args, **options)
            stack.callback(worker.close)
            return worker.start()

        yield start


@pytest.hookimpl(tryfirst=True)  # before pytest applies `-m "not server"`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that runs against a server, with the kind of the server."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        params = getattr(getattr(item, "callspec", None), "params", {})
        kinds = {
            value
            for name, value in params.items()
            if name.endswith(("broker", "server")) and value in BOTH
        }
        kinds |= {kind for kind in BOTH if names & {f"{kind}_server", f"{kind}_broker"}}
        item.user_properties += [("server", kind) for kind in sorted(kinds)]
        if kinds:
            item.add_marker("server")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the servers and workers wrote last."""
    report = yield
    if report.failed:
        for child in process_reaper().children:
            if child.log:
                tail = "\n".join(child.log.splitlines()[-LOG_LINES:])
                report.sections.append((f"last lines of {child.name}", tail))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much ran against real servers."""
    counts = dict.fromkeys(BOTH, 0)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.when == "call":
                for name, value in report.user_properties:
                    counts[value] += name == "server"
    parts = ", ".join(f"against {TITLES[kind]}: {count}" for kind, count in counts.items())
    terminalreporter.write_line(f"ran {parts}")
