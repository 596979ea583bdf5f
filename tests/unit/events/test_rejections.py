"""Rejected events are logged once for each reason, and reported while they are recent."""

from __future__ import annotations

import logging

import pytest

from celery_vitals.events.rejections import _RECENT
from tests.support.scene import Scene


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_reason_is_logged_once_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    for _ in range(3):
        scene.processor.rejected("content_type", 2)
        scene.feed(b"{")
        scene.now += _RECENT / 2
    assert warnings(caplog) == [
        "events are rejected (content_type): their serializer is unknown",
        "events are rejected (not_json): they are not valid JSON",
    ]
    scene.now += _RECENT * 2
    scene.feed(b"{")
    assert len(warnings(caplog)) == 3


def test_recent_rejections_are_a_blind_spot() -> None:
    scene = Scene()
    assert scene.processor.blind_spots() == []
    scene.processor.rejected("content_type", 3)
    scene.feed(b"{")
    (spot,) = scene.processor.blind_spots()
    assert (spot.subject, spot.setting) == ("rejected_events", "--app")
    assert "3 because their serializer is unknown, 1 because they are not valid JSON" in spot.reason
    scene.now += _RECENT + 1
    assert scene.processor.blind_spots() == []
    assert scene.rejected == {"content_type": 3, "not_json": 1}


def test_events_of_an_application_s_own_are_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.send("order-paid", "u")
    assert scene.rejected == {"unknown_type": 1}
    assert scene.processor.blind_spots() == []
    assert warnings(caplog) == []
