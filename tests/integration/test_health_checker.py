"""HealthChecker and its checks on real brokers, in threads and forked processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from celery_vitals import (
    BackendCheck,
    BrokerCheck,
    HealthChecker,
    HealthResult,
    RedisCache,
    WorkersCheck,
)
from tests.support.broker_inventory import broadcasts_on, inventory
from tests.support.servers import (
    Broker,
    RedisServer,
    Worker,
    free_port,
    project_environment,
    publish,
    wait_for,
)

ROOT = Path(__file__).parents[2]
CHILD = ROOT / "tests/support/checker_child.py"
CHECKS = (BrokerCheck, BackendCheck, WorkersCheck)
QUICK: dict[str, Any] = {"worker_timeout": 1.0, "timeout": 2.0}
SLACK = 2.0
"""Seconds: what a busy machine may add to a deadline."""


def app_of(broker: Broker) -> Celery:
    app = Celery("proj", broker=broker.url, backend=broker.backend_url, set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True
    return app


@contextmanager
def checking(broker: Broker, **arguments: Any) -> Iterator[HealthChecker]:
    checker = HealthChecker(app_of(broker), **{**QUICK, **arguments})
    try:
        yield checker
    finally:
        checker.stop()


def codes(result: HealthResult) -> list[str]:
    return [one["code"] for one in result.findings]


def same(found: dict[str, Any], before: dict[str, Any]) -> bool:
    assert found == before
    return True


def processes(broker: Broker, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """Run the forked processes; return what each printed, and the log."""
    done = subprocess.run(
        [sys.executable, str(CHILD), *arguments],
        env=project_environment(broker),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *found, codes = map(json.loads, done.stdout.splitlines())
    assert set(codes["codes"]) == {0}, done.stderr
    return found, done.stderr


def test_verdict_follows_the_cluster(broker: Broker, start_worker: Callable[..., Worker]) -> None:
    with checking(broker, queue_limits={"celery": 10}) as checker:
        result = checker.check()
        assert result.status == "unhealthy"
        assert codes(result) == ["workers_missing"]
        assert result.checks["workers"].ok is False
        assert result.checks["broker"].ok is True
        worker = start_worker(broker, "threads", "w")
        wait_for(lambda: checker.check().status == "healthy")
        result = checker.check()
        assert all(one.ok for one in result.checks.values())
        assert all(0 < (one.latency or 0) < 2 + SLACK for one in result.checks.values())
        assert result.as_dict()["workers"]["names"] == ["w@test"]
        worker.freeze()
        publish(broker, "add", 1, 2, count=20)
        wait_for(lambda: "queue_over_limit" in codes(checker.check()))
        assert checker.check().status in ("degraded", "unhealthy")
        worker.thaw()
        wait_for(lambda: checker.check().status == "healthy")


def test_broker_that_hangs_is_unhealthy_within_the_timeout(broker: Broker) -> None:
    with checking(broker, timeout=1.0) as checker:
        checker.check()
        with broker.server.paused():
            started = time.monotonic()
            result = checker.check()
            assert time.monotonic() - started < 1 + SLACK
            assert result.status == "unhealthy"
            assert result.checks["broker"].ok is False
            assert "is down: timeout" in str(result.checks["broker"].error)
        wait_for(lambda: checker.check().checks["broker"].ok)


def test_single_checks_work_alone_and_leave_nothing_behind(
    broker: Broker, start_worker: Callable[..., Worker]
) -> None:
    start_worker(broker, "threads", "w", heartbeat=False)
    before = inventory(broker)
    for kind in CHECKS:
        with kind(app_of(broker), timeout=2) as check:
            for _ in range(2):
                result = check.check()
                assert (result.ok, result.error) == (True, None), kind
                assert 0 < (result.latency or 0) < 2 + SLACK
    wait_for(lambda: same(inventory(broker), before))


def test_single_checks_fail_within_their_timeout(broker: Broker) -> None:
    checks = [kind(app_of(broker), timeout=1) for kind in CHECKS]
    with broker.server.paused():
        for check in checks:
            started = time.monotonic()
            result = check.check()
            assert not result.ok, check
            assert "timeout" in str(result.error)
            assert time.monotonic() - started < 1 + SLACK
    for check in checks:
        check.close()


def test_single_checks_report_what_is_missing(redis_broker: Broker) -> None:
    app = app_of(redis_broker)
    with WorkersCheck(app, health_min_workers=2) as check:
        assert "fewer than the minimum of 2" in str(check.check().error)
    app.conf.result_backend = None
    with BackendCheck(app) as check:
        result = check.check()
        assert (result.ok, result.error) == (None, "No result backend is configured.")
    with BrokerCheck(broker_url=f"redis://:hunter2@127.0.0.1:{free_port()}/0") as check:
        result = check.check()
        assert result.ok is False
        assert "connection refused" in str(result.error)
        assert "hunter2" not in str(result)


def test_threads_share_connections_and_rounds(broker: Broker) -> None:
    with checking(broker) as checker, ThreadPoolExecutor(20) as pool:
        checker.check()
        before = inventory(broker)
        with broadcasts_on(broker) as broadcasts:
            sent = broadcasts()
            results = list(pool.map(lambda _: checker.check().status, range(20)))
            assert len(set(results)) == 1
            assert broadcasts() - sent < 15
        assert inventory(broker).get("clients") == before.get("clients")
        assert threading.active_count() < 40


def test_forked_processes_have_their_own_connections_and_threads(
    broker: Broker, start_worker: Callable[..., Worker]
) -> None:
    start_worker(broker, "threads", "w", heartbeat=False)
    before = inventory(broker)
    found, log = processes(broker, "--processes", "2")
    assert len(found) == 3
    for one in found:
        assert one["first"], one
        assert one["healthy"], one
        assert (one["check"], one["status"], one["running"]) == ("healthy", "healthy", True)
        assert one["rounds"]["probed"] > one["before"]["probed"]
        assert one["rounds"]["failed"] == 0
    assert "Traceback" not in log
    assert "fails" not in log
    wait_for(lambda: same(inventory(broker), before))


def test_processes_with_a_redis_share_one_prober(
    redis_broker: Broker, start_worker: Callable[..., Worker]
) -> None:
    start_worker(redis_broker, "threads", "w", heartbeat=False)
    with broadcasts_on(redis_broker) as broadcasts:
        sent = broadcasts()
        found, _ = processes(redis_broker, "--cache", redis_broker.url)
        sent = broadcasts() - sent
    assert all(one["healthy"] and one["check"] == "healthy" for one in found)
    assert all(one["cache"] == {"kind": "redis", "error": None} for one in found)
    *children, parent = found
    begins, ends = zip(*(one["span"] for one in children), strict=True)
    probed = sum(one["rounds"]["probed"] for one in children)
    # A round in each interval of 0.5 s, and one for each of the four calls of `check`.
    assert probed <= (max(ends) - min(begins)) / 0.5 + 5
    assert sum(one["rounds"]["shared"] for one in children) > 0
    assert sent <= 2 * (probed + parent["rounds"]["probed"])


def test_redis_cache_that_dies_is_reported_and_used_again(redis_broker: Broker) -> None:
    with RedisServer() as server:
        cache = RedisCache(server.url, timeout=0.3)
        with checking(redis_broker, cache=cache, interval=0.2) as checker:
            other = HealthChecker(app_of(redis_broker), server.url, 0.2, **QUICK)
            assert checker.check().error is None
            assert other.read().shared
            server.kill()
            result = checker.check()
            assert result.checks["broker"].ok
            assert "the cache does not work: connection" in str(result.error)
            assert "connection" in checker.stats()["cache"]["error"]
            server.start()
            wait_for(lambda: checker.check().error is None)
            with server.paused():
                started = time.monotonic()
                result = checker.check()
                assert time.monotonic() - started < 2 + SLACK
                assert result.checks["broker"].ok
                assert "timeout" in str(result.error)
            wait_for(lambda: checker.check().error is None)
            assert other.check().error is None
            other.stop()


def test_prober_that_dies_in_its_round_is_replaced(redis_broker: Broker) -> None:
    cache = RedisCache(redis_broker.url)
    with checking(redis_broker, cache=cache, timeout=0.5) as checker:
        assert cache.claim(checker._rounds._key, 2.5)  # and never released
        started = time.monotonic()
        assert checker.check().checks["broker"].ok
        assert time.monotonic() - started < 3 + SLACK
