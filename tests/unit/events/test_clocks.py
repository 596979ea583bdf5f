"""Times of events: clock skew, ETAs, time zones."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from celery_vitals.events.decode import parse_eta
from tests.support.scene import NOW, PRODUCER, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("hours", [2, -2, 0])
def test_skewed_worker_clock_is_corrected(scene: Scene, hours: float) -> None:
    skew = hours * 3600
    scene.heartbeat(0, 0, timestamp=scene.now + skew)
    scene.sent("u")
    scene.send("task-received", "u", name="add", timestamp=scene.now + skew)
    scene.send("task-started", "u", after=3, timestamp=scene.now + 3 + skew)
    count, total = scene.waits()
    assert count == 1
    assert 2.9 < total < 3.2
    assert scene.value("task_oldest_running_start_timestamp_seconds", task="add") == pytest.approx(
        scene.now, abs=0.1
    )
    scene.send("task-failed", "u", exception="E()", after=2, timestamp=scene.now + 2 + skew)
    assert scene.total("task_failed_runtime_seconds_sum") == pytest.approx(2, abs=0.1)
    assert scene.value("task_last_failed_timestamp_seconds", task="add") == pytest.approx(
        scene.now, abs=0.1
    )


@pytest.mark.parametrize("hours", [2, -2])
def test_skewed_producer_clock_is_corrected(scene: Scene, hours: float) -> None:
    scene.heartbeat(0, 0)
    for number in range(3):
        scene.send(
            "task-sent",
            f"u{number}",
            name="add",
            queue="q",
            hostname=PRODUCER,
            timestamp=scene.now + hours * 3600,
        )
    scene.started("u0", after=3)
    count, total = scene.waits()
    assert count == 1
    assert 2.9 < total < 3.2
    assert scene.value("task_last_sent_timestamp_seconds", task="add") == pytest.approx(NOW, abs=1)
    assert dict(scene.tasks.waiting.oldest())["q"] == pytest.approx(NOW, abs=1)


def test_event_times_in_the_future_are_capped_at_the_arrival_time(scene: Scene) -> None:
    """No event happens after its arrival, also before a heartbeat shows the clock skew."""
    scene.sent("u")
    scene.send("task-started", "u", after=3, timestamp=scene.now + 7203)
    assert scene.waits()[1] == pytest.approx(3, abs=0.1)
    scene.send("task-succeeded", "u", timestamp=4e9)
    assert (scene.value("task_last_succeeded_timestamp_seconds", task="add") or 0) <= scene.now


def test_start_of_a_running_task_is_shifted_when_clock_skew_is_detected(scene: Scene) -> None:
    scene.received("u")
    scene.send("task-started", "u", timestamp=scene.now - 7200)
    scene.heartbeat(1, 1, timestamp=scene.now - 7200)
    scene.send("task-failed", "u", exception="E()", after=2, timestamp=scene.now + 2 - 7200)
    assert scene.total("task_failed_runtime_seconds_sum") == pytest.approx(2, abs=0.1)


def test_time_until_the_eta_is_not_queue_wait(scene: Scene) -> None:
    due = datetime.fromtimestamp(scene.now + 100, timezone.utc).isoformat()
    scene.sent("u", eta=due)
    assert list(scene.tasks.waiting.oldest()) == []
    scene.received("u")
    scene.started("u", after=103)
    assert scene.waits()[1] == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("offset", [0, 5, -5.5])
def test_eta_without_time_zone_is_in_the_senders_local_time(scene: Scene, offset: float) -> None:
    """`utcoffset` is in hours west of UTC, as Celery sends it."""
    local = timezone(timedelta(hours=-offset))
    due = datetime.fromtimestamp(scene.now + 100, local).replace(tzinfo=None).isoformat()
    scene.sent("u", eta=due, utcoffset=offset)
    scene.started("u", after=103)
    assert scene.waits()[1] == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(
    "eta",
    [
        "",
        "tomorrow",
        "2026-13-01",
        "\ud800",
        "9" * 10_000,
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59",
    ],
)
@pytest.mark.parametrize("offset", [None, 0.0, 1e308, -1e308, float("nan")])
def test_parse_eta_accepts_any_text(eta: str, offset: float | None) -> None:
    assert isinstance(parse_eta(eta, offset, 0.0), float)
    assert parse_eta(None, offset, 0.0) == 0.0


@pytest.mark.parametrize("offset", [1e308, -1e308, 1e5])
def test_invalid_utcoffset_gives_finite_wait(scene: Scene, offset: float) -> None:
    scene.sent("u", eta="2027-01-15T08:00:00", utcoffset=offset)
    scene.started("u")
    assert 0 <= scene.waits()[1] < 1e6


def test_exporter_clock_set_back_does_not_delay_deferred_events() -> None:
    scene = Scene()
    scene.sent("x", "other")  # so that task-sent events are expected
    scene.run("before")
    scene.now -= 3600
    scene.run("after")
    scene.idle(3)
    assert scene.task(queue="unknown") == {"received": 2, "started": 2, "succeeded": 2}
    scene.idle(6)
    assert scene.tracked_tasks == 1


def test_first_fresh_event_ends_the_delivery_of_old_ones() -> None:
    """From then on an old timestamp shows a slow clock again."""
    scene = Scene()
    scene.processor.connected()
    scene.heartbeat(0, 0, timestamp=scene.now - 60, hostname="slow@h")
    assert scene.tracker("slow@h").clock.correction == 0
    scene.heartbeat(0, 0)
    scene.heartbeat(0, 0, timestamp=scene.now - 60, hostname="slow@h")
    assert scene.tracker("slow@h").clock.correction == pytest.approx(60, abs=1)
