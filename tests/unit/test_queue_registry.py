"""The names of queues: their sources, the patterns that select them, how long they are kept."""

from __future__ import annotations

import pytest

from celery_vitals import Settings, queue_registry
from celery_vitals.brokers.kombu_message import producer_timestamp
from celery_vitals.queue_names import broadcast_name, is_control_reply, is_delayed, is_internal
from celery_vitals.queue_registry import QueueRegistry, queue_filter

UUID = "0f4a6b6e-2d0c-3b1e-9a4f-5d1c6f7e8a9b"


def test_patterns_select_queues_and_a_configured_queue_is_always_included() -> None:
    includes = queue_filter(
        Settings(
            queues=("tmp-1",), queue_include=("shop-*", "tmp-?"), queue_exclude=("*-1", "shop-x")
        )
    )
    queues = ["tmp-1", "tmp-2", "tmp-22", "shop-", "shop-x", "shop-1", "Shop-a", "other"]
    assert [name for name in queues if includes(name)] == ["tmp-1", "tmp-2", "shop-"]


def test_without_patterns_all_queues_are_included_and_dots_are_literal() -> None:
    assert queue_filter(Settings())("any\nthing")
    includes = queue_filter(Settings(queue_exclude=("a.b",)))
    assert (includes("a.b"), includes("axb")) == (False, True)


def test_patterns_apply_to_every_source_of_names() -> None:
    queues = QueueRegistry(
        {"tmp-app", "named"},
        queue_filter(Settings(queues=("named",), queue_exclude=("tmp-*",))),
        lambda: ["tmp-observed", "observed"],
    )
    queues.add(["tmp-discovered", "discovered"])
    assert queues.names() == {"named", "discovered", "observed"}
    assert queues.included(["tmp-consumed", "consumed"]) == {"consumed"}


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
        f"bcast-{UUID}",
        "worker-host-celery-pidbox",
        f"celeryev-{UUID}",
    ],
)
def test_celerys_own_queues_are_not_read(name: str) -> None:
    queues = QueueRegistry((), observed=lambda: [name])
    queues.add([name])
    assert is_internal(name)
    assert queues.names() == set()


def test_direct_queues_of_workers_are_read_only_where_one_is_named() -> None:
    queues = QueueRegistry(("a@host.dq2",), observed=lambda: ["b@host.dq2"])
    queues.add(["c@host.dq2", "team@orders", "orders.dq2"])
    assert queues.names() == {"a@host.dq2", "team@orders", "orders.dq2"}


@pytest.mark.parametrize(
    "name", [f"tenant.{UUID}", f"{UUID}.tenant", "tenant.2026-11-27", "x@y", "bcast.news", "bcast"]
)
def test_a_queue_of_an_application_may_have_any_other_name(name: str) -> None:
    queues = QueueRegistry(())
    queues.add([name])
    assert queues.names() == {name}
    assert broadcast_name(name, "exchange") is None


def test_the_queue_of_a_broadcast_counts_as_its_exchange() -> None:
    assert broadcast_name(f"bcast.{UUID}", "news") == "news"
    assert broadcast_name(f"bcast.{UUID}", "") == "bcast"
    assert broadcast_name(f"unique.{UUID}", "news") is None
    assert broadcast_name(f"unique.{UUID}", "news", {"news"}) == "news"
    assert broadcast_name("fixed", "news", {"news"}) is None


def test_kinds_of_celerys_own_queues_are_recognized() -> None:
    assert is_control_reply(f"{UUID}.reply.celery.pidbox")
    assert not is_control_reply(UUID)
    assert is_delayed("celery_delayed_0")
    assert not is_delayed("celery_delayed_delivery")


def test_a_queue_missing_in_two_scans_is_forgotten() -> None:
    queues = QueueRegistry(())
    queues.add(["a", "b"])
    for _ in range(2):
        queues.end_scan()
        queues.add(["b"])
        assert "a" in queues.names()
    queues.end_scan()
    assert queues.names() == {"b"}


def test_a_missing_queue_that_only_events_name_is_not_read_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queues = QueueRegistry(
        {"configured"}, observed=lambda: ["configured", "observed", "discovered"]
    )
    queues.mark_missing(["configured", "observed", "discovered"])
    assert queues.names() == {"configured"}
    queues.add(["discovered"])
    assert queues.names() == {"configured", "discovered"}
    monkeypatch.setattr(queue_registry, "_MISSING_FOR", -1.0)
    queues.mark_missing(["observed"])  # as if it had been long ago
    assert queues.names() == {"configured", "discovered", "observed"}


def test_a_missing_queue_is_forgotten_until_it_is_discovered_again() -> None:
    queues = QueueRegistry({"configured"})
    queues.add(["discovered", "configured"])
    queues.mark_missing(["discovered", "configured"])
    assert queues.names() == {"configured"}
    queues.add(["discovered"])
    assert queues.names() == {"configured", "discovered"}


def test_the_number_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_registry, "_MAX_DISCOVERED", 10)
    queues = QueueRegistry({"configured"}, observed=lambda: [f"observed-{n}" for n in range(100)])
    assert not queues.full
    queues.add(f"discovered-{n}" for n in range(100))
    assert queues.full
    assert len(queues.names()) == 21


@pytest.mark.parametrize("value", [None, "", "soon", 0, -5, "1e400", "nan", 1795167270123])
def test_an_impossible_producer_timestamp_is_none(value: float | str | None) -> None:
    assert producer_timestamp(value) is None


def test_a_producer_timestamp_is_unix_time() -> None:
    assert producer_timestamp("1695167270.123") == 1695167270.123
    assert producer_timestamp(1695167270) == 1695167270


def test_evidence_is_the_strongest_one() -> None:
    names = ["named", "consumed", "observed", "bound"]
    queues = QueueRegistry({"named"}, observed=lambda: ["named", "consumed", "observed"])
    queues.add(names, bound=True)
    queues.mark_consumed(frozenset({"named", "consumed"}))
    queues.mark_consumed(frozenset())
    assert [*map(queues.evidence(), names)] == ["setting", "worker", "event", "binding"]


def test_queue_that_a_worker_has_consumed_stays_proved() -> None:
    queues = QueueRegistry(())
    for name in ("mail", "orders"):
        queues.mark_consumed(frozenset({name}))
    assert [*map(queues.evidence(), ("mail", "orders"))] == ["worker", "worker"]


def test_queue_that_the_broker_lists_is_not_proved_to_be_celerys() -> None:
    queues = QueueRegistry({"named"})
    queues.add(["named", "invoices"])
    assert [*map(queues.evidence(), ("named", "invoices"))] == ["setting", ""]


def test_evidence_of_consumed_queues_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_registry, "_MAX_DISCOVERED", 3)
    queues = QueueRegistry(())
    for number in range(9):
        queues.mark_consumed(frozenset({f"q{number}"}))
    evidence = queues.evidence()
    assert evidence("q8") == "worker"
    assert sum(evidence(f"q{number}") == "worker" for number in range(9)) <= 3
