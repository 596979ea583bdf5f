"""The event stream: messages that cannot be processed, and the command that enables events."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest

from celery_vitals.brokers.base import EventReceiver
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.target import target_of
from celery_vitals.events import stream as module
from celery_vitals.events.stream import Stream, _StreamListener
from celery_vitals.secrets import Secret
from celery_vitals.settings import Settings


class Sink:
    """Records the calls; `feed` raises `error` if set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.fed: list[bytes] = []
        self.counted: list[tuple[str, int]] = []

    def feed(self, bodies: Sequence[bytes], arrived: float) -> None:
        if self.error is not None:
            raise self.error
        self.fed += bodies

    def rejected(self, reason: str, count: int = 1) -> None:
        self.counted.append((reason, count))

    def connected(self) -> None: ...

    def idle(self) -> None: ...


class Receiver:
    """Records the published messages."""

    def __init__(self) -> None:
        self.blocked = False
        self.published: list[str] = []

    def publish(self, exchange: str, routing_key: str, body: bytes, *content: str) -> None:
        self.published.append("canary" if routing_key else "enable")


def test_messages_that_cannot_be_processed_are_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Sink()
    listener = _StreamListener(sink)
    sink.error = RuntimeError("a defect")
    listener.deliver([b"{}", b"[]"], 0.0)
    listener.deliver([b"{}"], 0.0)
    assert sink.counted == [("internal", 2), ("internal", 1)]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    sink.error = None
    listener.deliver([b"{}"], 0.0)
    assert sink.fed == [b"{}"]


def test_own_canary_returns_and_is_not_processed() -> None:
    sink = Sink()
    listener = _StreamListener(sink)
    assert not listener.canary_returned
    listener.deliver([listener.canary.body(), b"{}"], 0.0)
    assert listener.canary_returned
    assert sink.fed == [b"{}"]


def test_canary_of_another_exporter_does_not_show_that_the_stream_is_live() -> None:
    sink = Sink()
    listener, other = _StreamListener(sink), _StreamListener(Sink())
    listener.deliver([other.canary.body()], 0.0)
    assert not listener.canary_returned
    assert listener.canary.lag is None
    assert sink.fed == []


class Clock:
    """The monotonic clock of the stream's module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def stream(**options: Any) -> Stream:
    target = target_of(Settings(broker_url=Secret("redis://localhost/0")), None)
    return Stream(BrokerClient(target, 1.0), Sink(), **options)


def published(stream: Stream, clock: Clock, seconds: int, receiver: Receiver) -> list[int]:
    """The seconds from now at which the command is published."""
    found = []
    for second in range(seconds):
        before = receiver.published.count("enable")
        stream._publish_due(cast(EventReceiver, receiver))
        if receiver.published.count("enable") > before:
            found.append(second)
        clock.now += 1
    return found


def test_command_is_published_soon_and_once_more_when_a_worker_comes_online(clock: Clock) -> None:
    events, receiver = stream(enable_events=True), Receiver()
    assert published(events, clock, 150, receiver) == [0, 60, 120]
    events.enable_now()
    assert published(events, clock, 70, receiver) == [0, 3, 63]


def test_many_new_workers_cause_one_command_per_second(clock: Clock) -> None:
    events, receiver = stream(enable_events=True), Receiver()
    events._publish_due(cast(EventReceiver, receiver))
    for _ in range(10):
        events.enable_now()
        events._publish_due(cast(EventReceiver, receiver))
        clock.now += 0.1
    assert receiver.published.count("enable") == 1


def test_nothing_is_published_while_the_broker_accepts_no_messages(clock: Clock) -> None:
    events, receiver = stream(enable_events=True), Receiver()
    receiver.blocked = True
    assert published(events, clock, 5, receiver) == []
    assert receiver.published == []
    receiver.blocked = False
    assert published(events, clock, 5, receiver) == [0]


def test_without_enable_events_only_canaries_are_published(clock: Clock) -> None:
    events, receiver = stream(), Receiver()
    events.enable_now()
    assert published(events, clock, 7, receiver) == []
    assert receiver.published == ["canary"] * 3
