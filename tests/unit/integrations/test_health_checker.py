"""HealthChecker with checks of the test: rounds, threads, failures, its life."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from celery_vitals import CheckResult, ConfigError, HealthChecker, MemoryCache
from celery_vitals.integrations.caches import CacheError
from tests.support.servers import wait_for


class Fake:
    """A check whose result the test sets."""

    def __init__(self, name: str = "broker", result: CheckResult | None = None) -> None:
        self.name = name
        self.result: CheckResult | Exception = result or CheckResult(True)
        self.calls = 0
        self.closed = 0
        self.go = threading.Event()
        self.go.set()

    def check(self) -> CheckResult:
        self.calls += 1
        found = self.result
        self.go.wait(20)
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        self.closed += 1


class Broken(MemoryCache):
    """A cache that does not work while `error` is set."""

    error = "connection refused"

    def read(self, key: str) -> tuple[bytes, float] | None:
        if self.error:
            raise CacheError(self.error)
        return super().read(key)


@contextmanager
def running(**arguments: object) -> Iterator[HealthChecker]:
    checker = HealthChecker(**arguments)  # type: ignore[arg-type]
    try:
        yield checker
    finally:
        checker.stop()


def threads(name: str = "celery-vitals-health") -> int:
    return sum(one.name == name for one in threading.enumerate())


def test_result_shows_what_the_checks_found() -> None:
    broker = Fake("broker", CheckResult(True, 0.5))
    backend = Fake("backend", CheckResult(False, error="no disk", severity="degraded"))
    with running(checks=[broker, backend]) as checker:
        result = checker.check()
    assert (result.status, result.healthy, result.shared) == ("degraded", True, False)
    assert result.checks["broker"] == CheckResult(True, 0.5)
    assert [one["message"] for one in result.findings] == ["no disk"]
    document = result.as_dict()
    assert document["checks"]["broker"] == "healthy"
    assert document["checks"]["backend"] == "degraded"
    assert document["checks"]["workers"] == "not_configured"
    assert document["age_seconds"] == pytest.approx(result.age, abs=1)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([CheckResult(True), CheckResult(None)], "unknown"),
        ([CheckResult(False, severity="degraded"), CheckResult(None)], "degraded"),
        ([CheckResult(False), CheckResult(False, severity="degraded")], "unhealthy"),
        ([CheckResult(False, severity="info")], "healthy"),
    ],
)
def test_status_is_the_worst(results: list[CheckResult], expected: str) -> None:
    checks = [Fake(str(number), result) for number, result in enumerate(results)]
    with running(checks=checks) as checker:
        assert checker.check().status == expected


def test_check_that_raises_has_failed_without_its_secret() -> None:
    fake = Fake()
    fake.result = OSError("cannot reach redis://user:hunter2@host/0")
    with running(checks=[fake]) as checker:
        result = checker.check()
    assert result.status == "unhealthy"
    error = result.checks["broker"].error or ""
    assert error.startswith("OSError: cannot reach redis://***@host/0")


def test_check_that_hangs_is_abandoned_and_not_repeated_meanwhile() -> None:
    fake, other = Fake("broker"), Fake("workers")
    fake.go.clear()
    with running(checks=[fake, other], timeout=0.2) as checker:
        results = [checker.check() for _ in range(3)]
        assert {one.status for one in results} == {"unhealthy"}
        assert all(one.checks["workers"].ok for one in results)
        assert fake.calls == 1
        fake.go.set()
        wait_for(lambda: checker.check().status == "healthy")


def test_check_sees_what_changed_before_it() -> None:
    fake = Fake()
    with running(checks=[fake]) as checker:
        assert checker.check().status == "healthy"
        fake.result = CheckResult(False, error="down")
        assert checker.is_healthy  # the last result is young
        assert checker.check().status == "unhealthy"
        assert not checker.is_healthy


def test_check_during_a_round_waits_for_the_next_one() -> None:
    fake = Fake()
    fake.go.clear()
    with running(checks=[fake]) as checker, ThreadPoolExecutor() as pool:
        first = pool.submit(checker.check)
        wait_for(lambda: fake.calls == 1)
        fake.result = CheckResult(False, error="down")
        second = pool.submit(checker.check)
        time.sleep(0.1)
        fake.go.set()
        assert first.result().status == "healthy"
        assert second.result().status == "unhealthy"


def test_threads_share_rounds() -> None:
    fake = Fake()
    fake.go.clear()
    with running(checks=[fake]) as checker, ThreadPoolExecutor(20) as pool:
        results = [pool.submit(checker.check) for _ in range(20)]
        wait_for(lambda: fake.calls == 1)
        time.sleep(0.2)
        fake.go.set()
        assert {one.result().status for one in results} == {"healthy"}
        assert fake.calls <= 3


def test_is_healthy_does_not_wait_and_checks_in_the_background() -> None:
    fake = Fake()
    fake.go.clear()
    with running(checks=[fake]) as checker:
        started = time.monotonic()
        assert not any(checker.is_healthy for _ in range(100))
        assert time.monotonic() - started < 1
        assert checker.last is None
        fake.go.set()
        wait_for(lambda: checker.is_healthy)
        assert fake.calls == 1


def test_old_result_is_unknown_and_keeps_its_findings() -> None:
    fake = Fake(result=CheckResult(False, error="down", severity="degraded"))
    with running(checks=[fake], interval=0.05, timeout=0.1) as checker:
        assert checker.check().status == "degraded"
        fake.go.clear()
        wait_for(lambda: not checker.is_healthy)
        result = checker.last
        assert result is not None
        assert result.status == "unknown"
        assert [one["message"] for one in result.findings] == ["down"]
        assert result.as_dict()["age_seconds"] > 0.1
        assert checker.stats()["status"] == "unknown"
        fake.go.set()


def test_monitor_checks_again_and_again() -> None:
    fake = Fake()
    with running(checks=[fake], interval=0.05) as checker:
        assert checker.start() is checker
        wait_for(lambda: fake.calls >= 3)
        fake.result = CheckResult(False, error="down")
        wait_for(lambda: not checker.is_healthy)
        assert checker.stats()["running"]


def test_started_twice_it_has_one_thread() -> None:
    with running(checks=[Fake()]) as checker:
        checker.start()
        checker.start()
        assert threads() == 1
        assert checker.stop()
        assert threads() == 0


def test_stop_without_start_and_twice() -> None:
    fake = Fake()
    checker = HealthChecker(checks=[fake])
    assert checker.stop()
    assert checker.stop()
    assert checker.stats()["stopped"]


def test_after_stop_it_answers_and_keeps_nothing_open(caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake()
    with HealthChecker(checks=[fake]) as checker:
        wait_for(lambda: checker.is_healthy)
    assert fake.closed == 1
    with caplog.at_level(logging.WARNING):
        assert checker.check().status == "healthy"
    assert "after stop()" in caplog.text
    assert fake.closed == 2
    assert checker.is_healthy
    assert not checker.stats()["running"]
    with checker:
        assert checker.stats()["running"]
        assert not checker.stats()["stopped"]


def test_stop_does_not_wait_for_a_check_that_hangs() -> None:
    fake = Fake()
    fake.go.clear()
    checker = HealthChecker(checks=[fake]).start()
    wait_for(lambda: fake.calls == 1)
    started = time.monotonic()
    assert not checker.stop(0.2)
    assert time.monotonic() - started < 2
    fake.go.set()


def test_acheck_leaves_the_event_loop_free() -> None:
    fake = Fake()
    fake.go.clear()

    async def main() -> tuple[str, int]:
        check = asyncio.ensure_future(checker.acheck())
        turns = 0
        while turns < 20:
            await asyncio.sleep(0.005)
            turns += 1
        assert not check.done()
        fake.go.set()
        return (await check).status, turns

    with running(checks=[fake]) as checker:
        assert asyncio.run(main()) == ("healthy", 20)


def test_aread_of_a_recent_result_uses_no_thread() -> None:
    with running(checks=[Fake()]) as checker:
        checker.check()
        before = threading.active_count()

        async def main() -> list[str]:
            results = await asyncio.gather(*(checker.aread() for _ in range(100)))
            assert threading.active_count() <= before
            return [one.status for one in results]

        assert set(asyncio.run(main())) == {"healthy"}


def test_broken_cache_is_reported_and_checks_go_on(caplog: pytest.LogCaptureFixture) -> None:
    cache = Broken()
    with running(checks=[Fake()], cache=cache) as checker, caplog.at_level(logging.INFO):
        results = [checker.check() for _ in range(3)]
        assert {one.status for one in results} == {"healthy"}
        assert results[0].error == "the cache does not work: connection refused"
        assert checker.stats()["cache"]["error"] == "connection refused"
        cache.error = ""
        assert checker.check().error is None
        assert checker.stats()["cache"]["error"] is None
    assert caplog.text.count("does not work") == 1
    assert caplog.text.count("works again") == 1


def test_cache_of_an_application_may_raise_any_error() -> None:
    class Foreign(Broken):
        def read(self, key: str) -> tuple[bytes, float] | None:
            raise LookupError("redis://:hunter2@host")

    with running(checks=[Fake()], cache=Foreign()) as checker:
        result = checker.check()
    assert result.status == "healthy"
    assert result.error == "the cache does not work: LookupError: redis://***@host"


@pytest.mark.parametrize(
    "value", [b"", b"null", b"[]", b"{}", b"\xff", b'{"document": {"status": "fine"}}']
)
def test_value_of_another_program_in_the_cache_is_an_error(value: bytes) -> None:
    cache = MemoryCache()
    with running(checks=[Fake()], cache=cache) as checker:
        checker.check()
        (key,) = cache._values
        cache.write(key, value, 60)
        result = checker.check()
        assert result.status == "healthy"
        assert "invalid value" in str(result.error)


def test_checkers_with_one_cache_share_results() -> None:
    cache, one, other = MemoryCache(), Fake(), Fake()
    one.result = CheckResult(False, error="down")
    with running(checks=[one], cache=cache) as first, running(checks=[other], cache=cache) as next_:
        assert first.check().status == "unhealthy"
        result = next_.read()
        assert (result.status, result.shared, other.calls) == ("unhealthy", True, 0)
        assert result.checks["broker"].error == "down"
        assert next_.stats()["rounds"] == {"probed": 0, "shared": 1, "failed": 0}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"interval": 0}, "interval must be a number of seconds above 0, not 0"),
        ({"interval": "30"}, "interval must be"),
        ({"interval": float("nan")}, "interval must be"),
        ({"interval": True}, "interval must be"),
        ({"cache": 5}, "cache must be"),
        ({"cache": "http://host"}, "RedisCache: "),
        ({"cache": "redis://:hunter2@host:port/0"}, "RedisCache: "),
        ({"checks": []}, "checks must not be empty"),
        ({"checks": [Fake()], "queues": ["a"]}, "queues has no effect with checks"),
        ({"app": 5}, "app must be a Celery app"),
        ({"app": "no.such:app"}, "cannot import no.such:app"),
        ({"broker_url": "redis://localhost", "quues": ["a"]}, "unknown option 'quues'"),
        ({"broker_url": "redis://localhost", "log_level": "debug"}, "log_level has no effect"),
        ({}, "no broker"),
    ],
)
def test_bad_arguments_are_one_line(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HealthChecker(**arguments)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_beginning_of_a_finding_survives_another_prober() -> None:
    cache, fakes = MemoryCache(), [Fake(), Fake()]
    for fake in fakes:
        fake.result = CheckResult(False, error="down")
    began: list[str] = []
    look: Callable[[HealthChecker], str] = lambda checker: str(checker.check().findings[0]["since"])  # noqa: E731
    with running(checks=[fakes[0]], cache=cache) as one:
        began.append(look(one))
    time.sleep(1.1)
    with running(checks=[fakes[1]], cache=cache) as other:
        began.append(look(other))
    assert began[0] == began[1]
