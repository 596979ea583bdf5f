"""A worker's clock, and how many of its events never arrived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.events.worker_tracker import Clock, WorkerTracker
from tests.support.scene import NOW


def started(host: WorkerTracker, count: int = 1) -> None:
    for _ in range(count):
        host.saw_start()


def settled(processed: int = 100) -> WorkerTracker:
    """One that tells of its tasks, and whose count is known."""
    host = WorkerTracker("w@one", NOW)
    host.process(10)
    started(host)
    for _ in range(3):
        assert host.heartbeat(processed) == 0
    return host


# The clock


@pytest.mark.parametrize("skew", [7200, -7200, 6, -6])
def test_a_clock_that_is_off_is_corrected(skew: float) -> None:
    clock = Clock()
    clock.heard(NOW + skew, NOW + 0.01)
    assert clock.correction == pytest.approx(-skew, abs=0.1)
    assert clock.behind == pytest.approx(-skew, abs=0.1)


@pytest.mark.parametrize("skew", [0, 4.9, -4.9])
def test_a_clock_that_is_right_is_left_alone(skew: float) -> None:
    clock = Clock()
    clock.heard(NOW + skew, NOW)
    assert clock.correction == 0.0


def test_the_fastest_event_tells_best() -> None:
    clock = Clock()
    for second, late in enumerate((0.5, 30, 2, 0.1, 60)):
        clock.heard(NOW + second - late, NOW + second)
    assert clock.behind == pytest.approx(0.1, abs=1e-3)
    assert clock.correction == 0.0


def test_a_clock_set_right_is_believed_within_two_windows() -> None:
    clock = Clock()
    clock.heard(NOW + 100, NOW)
    assert clock.correction == pytest.approx(-100)
    for second in range(0, 700, 2):
        clock.heard(NOW + second, NOW + second + 0.01)
    assert clock.correction == 0.0


def test_a_clock_set_back_is_believed_at_once() -> None:
    clock = Clock()
    clock.heard(NOW, NOW)
    clock.heard(NOW + 7200, NOW + 1)
    assert clock.correction == pytest.approx(-7199)


def test_a_clock_before_anything_is_heard() -> None:
    clock = Clock()
    assert clock.correction == 0.0
    assert clock.behind == float("inf")


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e5, 1e5)), min_size=1, max_size=50))
def test_the_correction_is_one_that_was_seen(steps: list[tuple[float, float]]) -> None:
    clock, now, seen = Clock(), NOW, []
    for passed, behind in steps:
        now += passed
        clock.heard(now - behind, now)
        seen.append(now - (now - behind))
        assert clock.behind in seen
        assert clock.correction == 0.0 or abs(clock.correction) > 5


# Loss


def test_nothing_is_missed_of_what_is_told() -> None:
    host = settled()
    started(host, 5)
    assert host.heartbeat(105) == 0
    assert host.heartbeat(105) == 0
    assert host.missed == 0


def test_a_gap_is_missed_exactly_when_a_second_heartbeat_shows_it() -> None:
    host = settled()
    assert host.heartbeat(133) == 0
    assert host.heartbeat(133) == 33
    assert host.heartbeat(133) == 0
    started(host, 2)
    assert host.heartbeat(135) == host.heartbeat(135) == 0
    assert host.missed == 33


def test_events_that_trail_their_heartbeat_are_not_missed() -> None:
    host = settled()
    for processed in (103, 106, 109, 109, 109, 112, 115, 115, 115):
        late = processed - 100 - (host.started - 1)
        assert host.heartbeat(processed) == 0
        started(host, late)
    assert host.heartbeat(115) == host.heartbeat(115) == 0
    assert host.missed == 0


def test_a_first_heartbeat_ahead_of_its_events() -> None:
    host = WorkerTracker("w@one", NOW)
    host.process(10)
    host.heartbeat(50)
    started(host, 3)
    for processed in (50, 50, 50):
        host.heartbeat(processed)
    started(host, 4)
    for _ in range(3):
        host.heartbeat(54)
    assert host.missed == 0


def test_exporter_started_halfway() -> None:
    host = WorkerTracker("w@one", NOW)
    host.process(10)
    for _ in range(3):
        assert host.heartbeat(1_000_000) == 0
    assert host.missed == 0
    assert host.tells_tasks is None


def test_events_that_overtake_their_heartbeat_are_not_missed() -> None:
    """On gevent a heartbeat may stand in line behind the starts that it does not count yet."""
    host = settled()
    for processed in range(110, 200, 10):
        started(host, processed - 100 - (host.started - 1) + 2)
        host.heartbeat(processed)
        host.heartbeat(processed + 2)
    for _ in range(3):
        assert host.heartbeat(192) == 0
    assert host.missed == 0


steps = st.lists(st.tuples(*[st.integers(0, 5)] * 4), max_size=30)


@given(steps)
def test_what_is_missed_is_what_was_lost(steps: list[tuple[int, int, int, int]]) -> None:
    """Of the starts, some are told in time for the next heartbeat, some before one that does not count them yet, some
    after one that counts them, and some never."""
    host = settled()
    processed, lost, behind = 100, 0, 0
    for in_time, early, late, never in steps:
        started(host, behind + in_time + early)
        processed += in_time + late + never
        lost += never
        behind = late
        host.heartbeat(processed)
        processed += early
        assert host.missed <= lost
    started(host, behind + 1)
    for _ in range(3):
        host.heartbeat(processed + 1)
    assert host.missed == lost


@given(
    st.lists(st.none() | st.integers(-10, 10**25) | st.integers(0, 20), max_size=40),
    st.lists(st.booleans(), max_size=40),
)
def test_any_counts(counts: list[int | None], starts: list[bool]) -> None:
    host = WorkerTracker("w@one", NOW)
    before = 0
    for count, start in zip(counts, starts, strict=False):
        if start:
            host.saw_start()
        assert host.heartbeat(count) >= 0
        assert host.missed >= before
        before = host.missed


def test_a_heartbeat_that_counts_nothing() -> None:
    """The reply to remote control's `heartbeat`."""
    host = settled()
    assert host.heartbeat(None) == 0
    assert host.heartbeat(100) == 0


def test_events_off_from_the_start() -> None:
    host = WorkerTracker("w@one", NOW)
    host.process(10)
    for processed in range(0, 50, 5):
        host.heartbeat(processed)
    assert host.tells_tasks is False
    assert host.missed == 0
    started(host)
    assert host.tells_tasks is True


def test_an_idle_worker_says_nothing_of_its_events() -> None:
    host = settled()
    for _ in range(100):
        host.heartbeat(100)
    assert host.tells_tasks is True


def test_events_switched_off_at_runtime() -> None:
    host = settled()
    for processed in range(110, 300, 10):
        host.heartbeat(processed)
    assert host.tells_tasks is False
    missed = host.missed
    assert missed <= 60
    for processed in range(300, 400, 10):
        host.heartbeat(processed)
    assert host.missed == missed
    started(host, 10)
    for processed in (410, 410, 410):
        host.heartbeat(processed)
    assert host.tells_tasks is True


def test_a_restart_begins_anew() -> None:
    host = settled(5000)
    host.process(11)
    for processed in (0, 0, 0):
        assert host.heartbeat(processed) == 0
    started(host, 3)
    assert host.heartbeat(3) == host.heartbeat(3) == 0
    assert host.missed == 0


def test_what_a_restarted_worker_did_unheard_is_missed() -> None:
    """It was followed before, so all that its new process has counted should have been told."""
    host = settled(5000)
    host.process(11)
    started(host, 1)
    for _ in range(3):
        host.heartbeat(31)
    assert host.missed == 30


def test_a_count_that_goes_back_is_another_process() -> None:
    """In containers every process has the same number."""
    host = settled(5000)
    for processed in (0, 0, 0):
        assert host.heartbeat(processed) == 0
    started(host, 2)
    for processed in (2, 2, 6, 6):
        host.heartbeat(processed)
    assert host.missed == 4


def test_the_pid_is_not_always_told() -> None:
    host = settled()
    host.process(None)
    host.process(10)
    assert host.heartbeat(100) == 0
    assert host.pid == 10
