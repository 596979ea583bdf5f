"""Which queues are looked at: the names that are known, the patterns that choose among them, and how long they stay."""

from __future__ import annotations

import pytest

from celery_vitals import Settings
from celery_vitals import queue_registry as known
from celery_vitals.brokers.queue_readers import (
    QueueRegistry,
    is_control_reply,
    is_delayed,
    is_internal,
    shown_by,
    stamp,
)

UUID = "0f4a6b6e-2d0c-3b1e-9a4f-5d1c6f7e8a9b"


def test_patterns_choose_and_a_queue_that_is_named_is_always_shown() -> None:
    shows = shown_by(
        Settings(
            queues=("tmp-1",), queue_include=("shop-*", "tmp-?"), queue_exclude=("*-1", "shop-x")
        )
    )
    queues = ["tmp-1", "tmp-2", "tmp-22", "shop-", "shop-x", "shop-1", "Shop-a", "other"]
    assert [name for name in queues if shows(name)] == ["tmp-1", "tmp-2", "shop-"]


def test_without_patterns_everything_is_shown_and_dots_are_only_dots() -> None:
    assert shown_by(Settings())("any\nthing")
    shows = shown_by(Settings(queue_exclude=("a.b",)))
    assert (shows("a.b"), shows("axb")) == (False, True)


def test_patterns_hold_for_every_source_of_names() -> None:
    queues = QueueRegistry(
        {"tmp-app", "named"}, shown_by(Settings(queues=("named",), queue_exclude=("tmp-*",)))
    )
    queues.found(["tmp-found", "found"])
    queues.told = lambda: ["tmp-told", "told"]
    assert queues.names() == {"named", "found", "told"}
    assert queues.shown(["tmp-consumed", "consumed"]) == {"consumed"}


@pytest.mark.parametrize(
    "name",
    [
        "celeryev",
        f"celeryev.{UUID}",
        "worker@host.celery.pidbox",
        f"{UUID}.reply.celery.pidbox",
        UUID,
        "celery_delayed_27",
        "shop_celery_delayed_3",
        "celery-vitals.x.reply",
        "amq.gen-x",
        f"bcast.{UUID}",
    ],
)
def test_celery_s_own_queues_are_nobody_s_work(name: str) -> None:
    queues = QueueRegistry(())
    queues.found([name])
    queues.told = lambda: [name]
    assert is_internal(name)
    assert queues.names() == set()


def test_which_of_them_is_what() -> None:
    assert is_control_reply(f"{UUID}.reply.celery.pidbox")
    assert not is_control_reply(UUID)
    assert is_delayed("celery_delayed_0")
    assert not is_delayed("celery_delayed_delivery")


def test_what_two_looks_through_the_broker_have_not_shown_is_gone() -> None:
    queues = QueueRegistry(())
    queues.found(["a", "b"])
    for _ in range(2):
        queues.pass_ended()
        queues.found(["b"])
        assert "a" in queues.names()
    queues.pass_ended()
    assert queues.names() == {"b"}


def test_what_only_events_tell_is_not_looked_for_each_time_when_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queues = QueueRegistry({"configured"})
    queues.told = lambda: ["configured", "told", "found"]
    queues.missing(["configured", "told", "found"])
    assert queues.names() == {"configured"}
    queues.found(["found"])
    assert queues.names() == {"configured", "found"}
    monkeypatch.setattr(known, "_MISSING_FOR", -1.0)
    queues.missing(["told"])  # as if it had been long ago
    assert queues.names() == {"configured", "found", "told"}


def test_what_was_found_and_is_missing_is_gone_until_it_is_found_again() -> None:
    queues = QueueRegistry({"configured"})
    queues.found(["found", "configured"])
    queues.missing(["found", "configured"])
    assert queues.names() == {"configured"}
    queues.found(["found"])
    assert queues.names() == {"configured", "found"}


def test_a_flood_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_MOST", 10)
    queues = QueueRegistry({"configured"})
    assert not queues.full
    queues.found(f"found-{n}" for n in range(100))
    assert queues.full
    queues.told = lambda: [f"told-{n}" for n in range(100)]
    assert len(queues.names()) == 21


@pytest.mark.parametrize("value", [None, "", "soon", 0, -5, "1e400", "nan", 1795167270123])
def test_a_stamp_that_can_be_no_time_is_none(value: float | str | None) -> None:
    assert stamp(value) is None


def test_a_stamp_is_unix_time() -> None:
    assert stamp("1695167270.123") == 1695167270.123
    assert stamp(1695167270) == 1695167270
