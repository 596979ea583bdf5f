"""ProbeRunner: single-flight, deadlines, reuse of results, abandoned runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.probe_runner import Outcome, ProbeRunner
from tests.support.servers import wait_for

LONG = 30.0
SHORT = 0.1


class Probe:
    """Returns 1, 2, 3 ...; hangs while `go` is not set, raises `error` if set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.error: BaseException | None = None
        self.calls = 0
        self.max_running = 0
        self.remaining: list[float] = []
        self._running = 0
        self._lock = threading.Lock()

    def __call__(self, deadline: Deadline) -> int:
        self.remaining.append(deadline.remaining)
        with self._lock:
            self.calls += 1
            self._running += 1
            self.max_running = max(self.max_running, self._running)
        try:
            self.go.wait(LONG)
            if self.error is not None:
                raise self.error
            return self.calls
        finally:
            with self._lock:
                self._running -= 1


@pytest.fixture
def probe() -> Probe:
    return Probe()


def make(
    probe: Callable[[Deadline], int], limit: float = LONG, name: str = "test"
) -> ProbeRunner[int]:
    return ProbeRunner(name, limit, probe)


def probed(
    runner: ProbeRunner[int], seconds: float = LONG, max_age: float = 0.0
) -> Outcome[int] | None:
    deadline = Deadline.after(seconds)
    return runner.wait(runner.start_or_join(deadline, max_age), deadline)


def value(runner: ProbeRunner[int], seconds: float = LONG, max_age: float = 0.0) -> int | None:
    outcome = probed(runner, seconds, max_age)
    return outcome.value if outcome else None


def reason(runner: ProbeRunner[int], max_age: float = 0.0) -> Reason | None:
    outcome = probed(runner, max_age=max_age)
    assert outcome is not None
    return outcome.reason


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of the runner `logged`; a thread of another test may still be logging."""
    lines = (record.getMessage() for record in caplog.records)
    return [line for line in lines if line.startswith("collector logged ")]


def released(runner: ProbeRunner[int], probe: Probe) -> None:
    """Let the hanging run end, and wait for the end of its thread."""
    probe.go.set()
    wait_for(
        lambda: (
            not [one for one in threading.enumerate() if one.name == f"celery-vitals-{runner.name}"]
        )
    )


class TestSharing:
    def test_concurrent_callers_share_one_run(self, probe: Probe) -> None:
        runner = make(probe)
        probe.go.clear()
        got: list[int | None] = []

        def call() -> None:
            got.append(value(runner, max_age=LONG))

        callers = [threading.Thread(target=call) for _ in range(20)]
        for caller in callers:
            caller.start()
        wait_for(lambda: probe.calls)
        probe.go.set()
        for caller in callers:
            caller.join()
        assert len(got) == 20
        assert set(got) == {1}
        assert probe.calls == 1

    def test_a_result_is_reused_by_callers_that_accept_its_age(self, probe: Probe) -> None:
        runner = make(probe)
        assert [value(runner, max_age=0.3) for _ in range(5)] == [1] * 5
        wait_for(lambda: value(runner, max_age=0.3) == 2, 5)
        time.sleep(0.1)
        assert value(runner, max_age=LONG) == 2
        assert value(runner, max_age=0.1) == 3

    def test_each_later_caller_that_accepts_no_age_starts_a_new_run(self, probe: Probe) -> None:
        runner = make(probe)
        assert [value(runner) for _ in range(3)] == [1, 2, 3]
        assert probe.max_running == 1

    def test_a_failure_is_reused(self, probe: Probe) -> None:
        runner = make(probe)
        probe.error = ConnectionRefusedError()
        assert [reason(runner, max_age=LONG) for _ in range(5)] == [Reason.REFUSED] * 5
        assert probe.calls == 1
        assert runner.failures == {Reason.REFUSED: 1}


class TestDeadlines:
    def test_probe_receives_less_time_than_its_run_has(self, probe: Probe) -> None:
        probed(make(probe, limit=10.0))
        assert 8.5 < probe.remaining[0] < 9.5
        probed(make(probe), seconds=2.0)
        assert 1.5 < probe.remaining[1] < 1.9

    def test_start_does_not_block(self, probe: Probe) -> None:
        runner = make(probe)
        probe.go.clear()
        started = time.monotonic()
        runner.start_or_join(Deadline.after(LONG), 0.0)
        assert time.monotonic() - started < 1
        released(runner, probe)

    def test_a_caller_with_less_time_gets_no_outcome_and_the_run_continues(
        self, probe: Probe
    ) -> None:
        runner = make(probe)
        probe.go.clear()
        run = runner.start_or_join(Deadline.after(LONG), 0.0)
        assert runner.wait(run, Deadline.after(SHORT)) is None
        assert runner.failures == {}
        probe.go.set()
        outcome = runner.wait(run, Deadline.after(LONG))
        assert outcome is not None
        assert outcome.value == 1

    def test_a_run_over_its_deadline_is_abandoned(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        probe.go.clear()
        started = time.monotonic()
        assert reason(runner) is Reason.TIMEOUT
        assert SHORT <= time.monotonic() - started < 2
        assert not runner.idle
        released(runner, probe)

    def test_no_other_run_starts_while_one_hangs(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        probe.go.clear()
        before = threading.active_count()
        reasons = [reason(runner) for _ in range(20)]
        assert reasons == [Reason.TIMEOUT] + [Reason.STUCK] * 19
        assert threading.active_count() == before + 1
        assert probe.calls == 1
        released(runner, probe)

    def test_runner_recovers_when_the_hanging_thread_has_ended(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        probe.go.clear()
        assert [reason(runner), reason(runner)] == [Reason.TIMEOUT, Reason.STUCK]
        released(runner, probe)
        assert value(runner) == 2
        assert runner.failures == {Reason.TIMEOUT: 1, Reason.STUCK: 1}

    def test_runner_is_idle_only_while_no_thread_runs(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        assert runner.idle
        probe.go.clear()
        for _ in range(3):
            probed(runner)
            assert not runner.idle
        released(runner, probe)
        assert runner.idle  # else nothing would remove what the probe declared in the broker

    def test_the_result_of_an_abandoned_run_is_discarded(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        probe.go.clear()
        probed(runner)
        released(runner, probe)
        assert runner.last_outcome is not None
        assert (runner.last_outcome.value, runner.last_outcome.reason) == (None, Reason.TIMEOUT)
        assert runner.last_success is None
        assert runner.failures == {Reason.TIMEOUT: 1}


class TestOutcomes:
    def test_a_success(self, probe: Probe) -> None:
        runner = make(probe)
        outcome = probed(runner)
        assert outcome is not None
        assert (outcome.value, outcome.reason, outcome.detail) == (1, None, "")
        assert 0 <= outcome.seconds < 2
        assert abs(outcome.finished_at - time.time()) < 2
        assert runner.last_outcome is outcome
        assert runner.last_success is not None

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (RuntimeError("no idea"), Reason.INTERNAL),
            (ProbeError(Reason.TLS, "no"), Reason.TLS),
            (SystemExit(3), Reason.INTERNAL),
        ],
    )
    def test_an_exception_is_an_outcome_and_does_not_affect_the_next_run(
        self, probe: Probe, error: BaseException, expected: Reason
    ) -> None:
        runner = make(probe, limit=0.5)
        probe.error = error
        assert reason(runner) is expected
        probe.error = None
        assert value(runner) == 2

    def test_credentials_are_redacted_in_the_error(
        self, probe: Probe, caplog: pytest.LogCaptureFixture
    ) -> None:
        probe.error = ConnectionRefusedError("redis://user:hidden@broker:6379 refused")
        outcome = probed(make(probe))
        assert outcome is not None
        assert "broker:6379" in outcome.detail
        assert "hidden" not in outcome.detail + caplog.text

    def test_a_thread_that_cannot_start_is_a_failure(
        self, probe: Probe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        runner = make(probe)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert reason(runner) is Reason.INTERNAL
        assert runner.idle
        assert value(runner) == 1

    def test_last_success_is_kept_after_a_failure(self, probe: Probe) -> None:
        runner = make(probe)
        probed(runner)
        at = runner.last_success
        probe.error = OSError("away")
        probed(runner)
        assert runner.last_success == at
        assert runner.last_outcome is not None
        assert runner.last_outcome.reason is Reason.UNREACHABLE

    def test_failures_are_counted_once_per_run_and_by_reason(self, probe: Probe) -> None:
        runner = make(probe)
        for error in (ConnectionRefusedError(), ConnectionRefusedError(), TimeoutError(), None):
            probe.error = error
            probed(runner)
        assert runner.failures == {Reason.REFUSED: 2, Reason.TIMEOUT: 1}

    def test_failure_and_recovery_are_logged_once(
        self, probe: Probe, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner = make(probe, name="logged")
        expected = [
            "collector logged fails (refused): ConnectionRefusedError: a",
            "collector logged fails (timeout): TimeoutError: c",
            "collector logged works again",
        ]
        with caplog.at_level(logging.INFO, "celery_vitals.probe_runner"):
            refused = ConnectionRefusedError("a"), ConnectionRefusedError("b")
            for error in (None, *refused, TimeoutError("c"), None, None):
                probe.error = error
                probed(runner)
            wait_for(lambda: len(logged(caplog)) == len(expected), what="all lines logged")
        assert logged(caplog) == expected

    def test_a_hanging_probe_is_logged_once(
        self, probe: Probe, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner = make(probe, limit=SHORT, name="logged")
        probe.go.clear()
        for _ in range(10):
            probed(runner)
        assert len(logged(caplog)) == 1
        released(runner, probe)
