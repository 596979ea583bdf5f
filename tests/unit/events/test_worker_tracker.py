"""A worker's clock, and the number of its lost events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.events.clock import Clock
from celery_vitals.events.worker_tracker import WorkerTracker
from tests.support.scene import NOW


def count_starts(worker: WorkerTracker, count: int = 1) -> None:
    for _ in range(count):
        worker.count_start()


def settled(processed: int = 100) -> WorkerTracker:
    """Return a worker that sends task events, and whose own count of starts is known."""
    worker = WorkerTracker("w@one", NOW)
    worker.set_process(10)
    count_starts(worker)
    for _ in range(3):
        assert worker.count_missed(processed) == 0
    return worker


# The clock


@pytest.mark.parametrize("skew", [7200, -7200, 6, -6])
def test_skewed_clock_is_corrected(skew: float) -> None:
    clock = Clock()
    clock.observe(NOW + skew, NOW + 0.01)
    assert clock.correction == pytest.approx(-skew, abs=0.1)
    assert clock.behind == pytest.approx(-skew, abs=0.1)


@pytest.mark.parametrize("skew", [0, 4.9, -4.9])
def test_accurate_clock_is_not_corrected(skew: float) -> None:
    clock = Clock()
    clock.observe(NOW + skew, NOW)
    assert clock.correction == 0.0


def test_clock_offset_is_that_of_the_fastest_event() -> None:
    clock = Clock()
    for second, late in enumerate((0.5, 30, 2, 0.1, 60)):
        clock.observe(NOW + second - late, NOW + second)
    assert clock.behind == pytest.approx(0.1, abs=1e-3)
    assert clock.correction == 0.0


def test_clock_set_right_is_detected_within_two_windows() -> None:
    clock = Clock()
    clock.observe(NOW + 100, NOW)
    assert clock.correction == pytest.approx(-100)
    for second in range(0, 700, 2):
        clock.observe(NOW + second, NOW + second + 0.01)
    assert clock.correction == 0.0


def test_clock_set_ahead_is_detected_at_once() -> None:
    clock = Clock()
    clock.observe(NOW, NOW)
    clock.observe(NOW + 7200, NOW + 1)
    assert clock.correction == pytest.approx(-7199)


def test_clock_before_the_first_event() -> None:
    clock = Clock()
    assert clock.correction == 0.0
    assert clock.behind == float("inf")


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e5, 1e5)), min_size=1, max_size=50))
def test_clock_correction_is_an_observed_difference(steps: list[tuple[float, float]]) -> None:
    clock, now, observed = Clock(), NOW, []
    for passed, behind in steps:
        now += passed
        clock.observe(now - behind, now)
        observed.append(now - (now - behind))
        assert clock.behind in observed
        assert clock.correction == 0.0 or abs(clock.correction) > 5


# Loss


def test_no_events_are_missed_when_all_arrive() -> None:
    worker = settled()
    count_starts(worker, 5)
    assert worker.count_missed(105) == 0
    assert worker.count_missed(105) == 0
    assert worker.missed_starts == 0


def test_lost_events_are_counted_at_the_second_heartbeat() -> None:
    worker = settled()
    assert worker.count_missed(133) == 0
    assert worker.count_missed(133) == 33
    assert worker.count_missed(133) == 0
    count_starts(worker, 2)
    assert worker.count_missed(135) == worker.count_missed(135) == 0
    assert worker.missed_starts == 33


def test_events_that_trail_their_heartbeat_are_not_missed() -> None:
    worker = settled()
    for processed in (103, 106, 109, 109, 109, 112, 115, 115, 115):
        late = processed - 100 - (worker.starts - 1)
        assert worker.count_missed(processed) == 0
        count_starts(worker, late)
    assert worker.count_missed(115) == worker.count_missed(115) == 0
    assert worker.missed_starts == 0


def test_a_first_heartbeat_ahead_of_its_events() -> None:
    worker = WorkerTracker("w@one", NOW)
    worker.set_process(10)
    worker.count_missed(50)
    count_starts(worker, 3)
    for processed in (50, 50, 50):
        worker.count_missed(processed)
    count_starts(worker, 4)
    for _ in range(3):
        worker.count_missed(54)
    assert worker.missed_starts == 0


def test_exporter_started_halfway() -> None:
    worker = WorkerTracker("w@one", NOW)
    worker.set_process(10)
    for _ in range(3):
        assert worker.count_missed(1_000_000) == 0
    assert worker.missed_starts == 0
    assert worker.sends_task_events is None


def test_events_that_overtake_their_heartbeat_are_not_missed() -> None:
    """On gevent a heartbeat may be queued behind starts that it does not count yet."""
    worker = settled()
    for processed in range(110, 200, 10):
        count_starts(worker, processed - 100 - (worker.starts - 1) + 2)
        worker.count_missed(processed)
        worker.count_missed(processed + 2)
    for _ in range(3):
        assert worker.count_missed(192) == 0
    assert worker.missed_starts == 0


steps = st.lists(st.tuples(*[st.integers(0, 5)] * 4), max_size=30)


@given(steps)
def test_missed_count_equals_the_lost_events(steps: list[tuple[int, int, int, int]]) -> None:
    """Start events arrive in time for the next heartbeat, or before one that does not count the
    start yet, or after one that counts it, or never."""
    worker = settled()
    processed, lost, behind = 100, 0, 0
    for in_time, early, late, never in steps:
        count_starts(worker, behind + in_time + early)
        processed += in_time + late + never
        lost += never
        behind = late
        worker.count_missed(processed)
        processed += early
        assert worker.missed_starts <= lost
    count_starts(worker, behind + 1)
    for _ in range(3):
        worker.count_missed(processed + 1)
    assert worker.missed_starts == lost


@given(
    st.lists(st.none() | st.integers(-10, 10**25) | st.integers(0, 20), max_size=40),
    st.lists(st.booleans(), max_size=40),
)
def test_any_counts(counts: list[int | None], starts: list[bool]) -> None:
    worker = WorkerTracker("w@one", NOW)
    before = 0
    for count, start in zip(counts, starts, strict=False):
        if start:
            worker.count_start()
        assert worker.count_missed(count) >= 0
        assert worker.missed_starts >= before
        before = worker.missed_starts


def test_heartbeat_without_counts() -> None:
    """As in the reply to the remote control command `heartbeat`."""
    worker = settled()
    assert worker.count_missed(None) == 0
    assert worker.count_missed(100) == 0


def test_events_off_from_the_start() -> None:
    worker = WorkerTracker("w@one", NOW)
    worker.set_process(10)
    for processed in range(0, 50, 5):
        worker.count_missed(processed)
    assert worker.sends_task_events is False
    assert worker.missed_starts == 0
    count_starts(worker)
    assert worker.sends_task_events is True


def test_idle_worker_keeps_its_task_events_state() -> None:
    worker = settled()
    for _ in range(100):
        worker.count_missed(100)
    assert worker.sends_task_events is True


def test_events_switched_off_at_runtime() -> None:
    worker = settled()
    for processed in range(110, 300, 10):
        worker.count_missed(processed)
    assert worker.sends_task_events is False
    missed = worker.missed_starts
    assert missed <= 60
    for processed in range(300, 400, 10):
        worker.count_missed(processed)
    assert worker.missed_starts == missed
    count_starts(worker, 10)
    for processed in (410, 410, 410):
        worker.count_missed(processed)
    assert worker.sends_task_events is True


def test_restart_resets_the_counts() -> None:
    worker = settled(5000)
    worker.set_process(11)
    for processed in (0, 0, 0):
        assert worker.count_missed(processed) == 0
    count_starts(worker, 3)
    assert worker.count_missed(3) == worker.count_missed(3) == 0
    assert worker.missed_starts == 0


def test_unreported_starts_of_a_restarted_worker_are_missed() -> None:
    """It was tracked before, so every start that its new process counts should have an event."""
    worker = settled(5000)
    worker.set_process(11)
    count_starts(worker, 1)
    for _ in range(3):
        worker.count_missed(31)
    assert worker.missed_starts == 30


def test_decreasing_count_shows_a_new_process() -> None:
    """In containers every process has the same pid."""
    worker = settled(5000)
    for processed in (0, 0, 0):
        assert worker.count_missed(processed) == 0
    count_starts(worker, 2)
    for processed in (2, 2, 6, 6):
        worker.count_missed(processed)
    assert worker.missed_starts == 4


def test_events_without_a_pid() -> None:
    worker = settled()
    worker.set_process(None)
    worker.set_process(10)
    assert worker.count_missed(100) == 0
    assert worker.pid == 10


def test_events_after_a_first_heartbeat_do_not_hide_missed_ones() -> None:
    worker = WorkerTracker("w@one", NOW)
    count_starts(worker, 3)
    worker.count_missed(5)
    count_starts(worker, 2)  # those that the heartbeat had counted
    worker.count_missed(5)
    worker.count_missed(5)
    count_starts(worker)
    worker.count_missed(8)
    assert worker.count_missed(8) == 2


def test_clock_keeps_the_fastest_event_of_the_window_before() -> None:
    clock = Clock()
    clock.observe(NOW, NOW + 0.1)
    clock.observe(NOW + 301, NOW + 310)
    assert clock.behind == pytest.approx(0.1)
    assert clock.correction == 0.0


def test_number_of_previous_pids_is_limited() -> None:
    worker = WorkerTracker("w@one", NOW)
    for pid in range(1, 1000):
        worker.set_process(pid)
    assert len(worker._previous_pids) == 8
