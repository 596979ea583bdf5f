"""A lane: one probe, one thread at a time, one result for all who ask."""

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
    """Gives 1, 2, 3 ...; hangs while `go` is not set, raises `error` when there is one, and counts who is at work."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.error: BaseException | None = None
        self.calls = 0
        self.most_at_work = 0
        self.told: list[float] = []
        self._at_work = 0
        self._lock = threading.Lock()

    def __call__(self, deadline: Deadline) -> int:
        self.told.append(deadline.remaining)
        with self._lock:
            self.calls += 1
            self._at_work += 1
            self.most_at_work = max(self.most_at_work, self._at_work)
        try:
            self.go.wait(LONG)
            if self.error is not None:
                raise self.error
            return self.calls
        finally:
            with self._lock:
                self._at_work -= 1


@pytest.fixture
def probe() -> Probe:
    return Probe()


def make(
    probe: Callable[[Deadline], int], limit: float = LONG, min_interval: float = 0.0
) -> ProbeRunner[int]:
    return ProbeRunner("test", limit, min_interval, probe)


def ask(runner: ProbeRunner[int], seconds: float = LONG) -> Outcome[int] | None:
    deadline = Deadline.after(seconds)
    return runner.wait(runner.begin(deadline), deadline)


def value(runner: ProbeRunner[int], seconds: float = LONG) -> int | None:
    outcome = ask(runner, seconds)
    return outcome.value if outcome else None


def reason(runner: ProbeRunner[int], seconds: float = LONG) -> Reason | None:
    outcome = ask(runner, seconds)
    assert outcome is not None
    return outcome.reason


def released(runner: ProbeRunner[int], probe: Probe) -> None:
    """Let what hangs end, and wait until its thread has."""
    probe.go.set()
    wait_for(
        lambda: (
            not [one for one in threading.enumerate() if one.name == f"celery-vitals-{runner.name}"]
        )
    )


class TestSharing:
    def test_all_who_ask_during_a_run_get_its_result(self, probe: Probe) -> None:
        runner = make(probe, min_interval=LONG)
        probe.go.clear()
        got: list[int | None] = []
        askers = [threading.Thread(target=lambda: got.append(value(runner))) for _ in range(20)]
        for asker in askers:
            asker.start()
        wait_for(lambda: probe.calls)
        probe.go.set()
        for asker in askers:
            asker.join()
        assert len(got) == 20
        assert set(got) == {1}
        assert probe.calls == 1

    def test_a_run_that_has_just_ended_is_shared_for_min_interval(self, probe: Probe) -> None:
        runner = make(probe, min_interval=0.3)
        assert [value(runner) for _ in range(5)] == [1] * 5
        wait_for(lambda: value(runner) == 2, 5)

    def test_without_min_interval_each_who_asks_afterwards_gets_a_new_run(
        self, probe: Probe
    ) -> None:
        runner = make(probe)
        assert [value(runner) for _ in range(3)] == [1, 2, 3]
        assert probe.most_at_work == 1

    def test_a_failure_is_shared_for_min_interval_as_well(self, probe: Probe) -> None:
        runner = make(probe, min_interval=LONG)
        probe.error = ConnectionRefusedError()
        assert [reason(runner) for _ in range(5)] == [Reason.REFUSED] * 5
        assert probe.calls == 1
        assert runner.failures == {Reason.REFUSED: 1}


class TestDeadlines:
    def test_the_probe_is_told_less_than_there_is(self, probe: Probe) -> None:
        ask(make(probe, limit=10.0))
        assert 8.5 < probe.told[0] < 9.5
        ask(make(probe), seconds=2.0)
        assert 1.5 < probe.told[1] < 1.9

    def test_begin_returns_at_once(self, probe: Probe) -> None:
        runner = make(probe)
        probe.go.clear()
        started = time.monotonic()
        runner.begin(Deadline.after(LONG))
        assert time.monotonic() - started < 1
        released(runner, probe)

    def test_who_has_less_time_than_the_run_gets_nothing_and_the_run_goes_on(
        self, probe: Probe
    ) -> None:
        runner = make(probe)
        probe.go.clear()
        run = runner.begin(Deadline.after(LONG))
        assert runner.wait(run, Deadline.after(SHORT)) is None
        assert runner.failures == {}
        probe.go.set()
        outcome = runner.wait(run, Deadline.after(LONG))
        assert outcome is not None
        assert outcome.value == 1

    def test_a_run_over_its_deadline_is_given_up(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        probe.go.clear()
        started = time.monotonic()
        assert reason(runner) is Reason.TIMEOUT
        assert SHORT <= time.monotonic() - started < 2
        assert not runner.idle
        released(runner, probe)

    def test_no_other_run_begins_while_one_hangs(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        probe.go.clear()
        before = threading.active_count()
        reasons = [reason(runner) for _ in range(20)]
        assert reasons == [Reason.TIMEOUT] + [Reason.STUCK] * 19
        assert threading.active_count() == before + 1
        assert probe.calls == 1
        released(runner, probe)

    def test_after_the_hung_one_has_ended_it_works_again(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        probe.go.clear()
        assert [reason(runner), reason(runner)] == [Reason.TIMEOUT, Reason.STUCK]
        released(runner, probe)
        assert value(runner) == 2
        assert runner.failures == {Reason.TIMEOUT: 1, Reason.STUCK: 1}

    def test_it_is_idle_when_no_thread_is_at_work(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        assert runner.idle
        probe.go.clear()
        for _ in range(3):
            ask(runner)
            assert not runner.idle
        released(runner, probe)
        assert runner.idle  # or what the probe holds in the broker is never taken back

    def test_what_a_run_gives_after_it_was_given_up_is_not_used(self, probe: Probe) -> None:
        runner = make(probe, limit=SHORT)
        probe.go.clear()
        ask(runner)
        released(runner, probe)
        assert runner.last is not None
        assert (runner.last.value, runner.last.reason) == (None, Reason.TIMEOUT)
        assert runner.last_success is None
        assert runner.failures == {Reason.TIMEOUT: 1}


class TestOutcomes:
    def test_a_success(self, probe: Probe) -> None:
        runner = make(probe)
        outcome = ask(runner)
        assert outcome is not None
        assert (outcome.value, outcome.reason, outcome.detail) == (1, None, "")
        assert 0 <= outcome.seconds < 2
        assert abs(outcome.finished_at - time.time()) < 2
        assert runner.last is outcome
        assert runner.last_success is not None

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (RuntimeError("no idea"), Reason.INTERNAL),
            (ProbeError(Reason.TLS, "no"), Reason.TLS),
            (SystemExit(3), Reason.INTERNAL),
        ],
    )
    def test_whatever_a_probe_raises_is_an_outcome_and_the_next_run_is_free_of_it(
        self, probe: Probe, error: BaseException, expected: Reason
    ) -> None:
        runner = make(probe, limit=0.5)
        probe.error = error
        assert reason(runner) is expected
        probe.error = None
        assert value(runner) == 2

    def test_the_last_success_stays_known(self, probe: Probe) -> None:
        runner = make(probe)
        ask(runner)
        at = runner.last_success
        probe.error = OSError("away")
        ask(runner)
        assert runner.last_success == at
        assert runner.last is not None
        assert runner.last.reason is Reason.UNREACHABLE

    def test_failures_are_counted_once_a_run_and_by_reason(self, probe: Probe) -> None:
        runner = make(probe)
        for error in (ConnectionRefusedError(), ConnectionRefusedError(), TimeoutError(), None):
            probe.error = error
            ask(runner)
        assert runner.failures == {Reason.REFUSED: 2, Reason.TIMEOUT: 1}

    def test_the_log_says_when_it_breaks_and_when_it_works_again(
        self, probe: Probe, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner = make(probe)
        with caplog.at_level(logging.INFO, "celery_vitals.probe_runner"):
            refused = ConnectionRefusedError("a"), ConnectionRefusedError("b")
            for error in (None, *refused, TimeoutError("c"), None, None):
                probe.error = error
                ask(runner)
        assert [record.getMessage() for record in caplog.records] == [
            "collector test fails (refused): ConnectionRefusedError: a",
            "collector test fails (timeout): TimeoutError: c",
            "collector test works again",
        ]

    def test_one_that_hangs_is_logged_once(
        self, probe: Probe, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner = make(probe, limit=SHORT)
        probe.go.clear()
        for _ in range(10):
            ask(runner)
        assert len(caplog.records) == 1
        released(runner, probe)
