"""The workers as far as they have been heard of; and what their replies may be, nonsense included."""

from __future__ import annotations

import time
from typing import Any

import pytest

from celery_vitals.fleet import Fleet, Stats, Worker
from tests.fleet.farm import PREFORK, Clock


def pool(implementation: str, **more: Any) -> dict[str, Any]:
    return {**PREFORK, "pool": {"implementation": implementation, **{k.replace("_", "-"): v for k, v in more.items()}}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(worker_timeout=10, forget_after=60)


def replies(fleet: Fleet, *names: str, body: Any = PREFORK, late: bool = False) -> None:
    """A round in which these workers answer."""
    fleet.begin_round(time.monotonic())
    for name in names:
        fleet.stats_replied(name, body, 0.01, late)
    fleet.end_round(None)


def one(fleet: Fleet, name: str = "a@host") -> Worker:
    return next(worker for worker in fleet.workers() if worker.name == name)


def up(fleet: Fleet) -> dict[str, bool]:
    return {worker.name: fleet.is_up(worker) for worker in fleet.workers()}


class TestStats:
    def test_a_whole_reply(self) -> None:
        stats = Stats.parse(PREFORK)
        assert stats == Stats("prefork", 2, 8, 100, 60.0, {"project.add": 3, "project.fail": 2}, 0.5, 0.25, 1_024_000)

    @pytest.mark.parametrize(
        ("body", "name", "slots"),
        [
            (pool("celery.concurrency.prefork:TaskPool", max_concurrency=10, processes=[1, 2, 3]), "prefork", 3),
            (pool("celery.concurrency.prefork:TaskPool", max_concurrency=4, processes=[]), "prefork", 4),
            (pool("celery.concurrency.thread:TaskPool", max_concurrency=8, threads=2), "threads", 8),
            (pool("celery.concurrency.gevent:TaskPool", max_concurrency=50), "gevent", 50),
            (pool("celery.concurrency.eventlet:TaskPool", max_concurrency=5, free_threads=5), "eventlet", 5),
            (pool("celery.concurrency.solo:TaskPool", max_concurrency=1, processes=[7]), "solo", 1),
            (pool("acme.pools:Pool", max_concurrency=3), "acme.pools:Pool", 3),
            (pool(""), "unknown", None),
            # Celery 5.2
            (pool("", max_concurrency=2, processes=[1, 2], put_guarded_by_semaphore=1, writes="N/A"), "prefork", 2),
            (pool("", max_concurrency=1, processes=[7], put_guarded_by_semaphore=True), "solo", 1),
            (pool("", max_concurrency=8, threads=2), "threads", 8),
            (pool("", max_concurrency=5, free_threads=5), "eventlet", 5),
            (pool("", max_concurrency=50), "unknown", 50),
        ],
    )
    def test_slots_of_every_pool(self, body: Any, name: str, slots: int | None) -> None:
        stats = Stats.parse(body)
        assert stats is not None
        assert (stats.pool, stats.slots) == (name, slots)

    @pytest.mark.parametrize("body", [None, 1, "pong", [], {}, {"ok": "pong"}, {"error": "KeyError()"}, {"pool": []}])
    def test_what_is_no_reply_to_stats(self, body: Any) -> None:
        assert Stats.parse(body) is None

    @pytest.mark.parametrize("nonsense", [None, "x", True, [], {}, "12"])
    @pytest.mark.parametrize("key", ["total", "pid", "uptime", "prefetch_count", "rusage"])
    def test_nonsense_in_one_place_leaves_the_rest(self, key: str, nonsense: Any) -> None:
        stats = Stats.parse({**PREFORK, key: nonsense})
        assert stats is not None
        assert stats.slots == 2
        nothing = {
            "total": stats.accepted == {},
            "pid": stats.pid is None,
            "uptime": stats.uptime is None,
            "prefetch_count": stats.prefetch is None,
            "rusage": (stats.cpu_user, stats.cpu_system, stats.max_resident) == (None, None, None),
        }
        assert nothing[key]

    def test_a_count_that_is_no_number_is_left_out(self) -> None:
        stats = Stats.parse({**PREFORK, "total": {"good": 1, "bad": "many", "worse": None}})
        assert stats is not None
        assert stats.accepted == {"good": 1}


class TestUpAndDown:
    def test_two_workers_of_the_same_host_are_two(self, fleet: Fleet) -> None:
        replies(fleet, "a@host", "b@host")
        assert up(fleet) == {"a@host": True, "b@host": True}

    def test_silence_makes_down_after_the_timeout_and_then_forgotten(self, fleet: Fleet, clock: Clock) -> None:
        replies(fleet, "a@host", "b@host")
        seen = []
        for _ in range(14):
            clock.pass_by(5)
            replies(fleet, "b@host")
            seen.append(up(fleet).get("a@host"))
        assert seen[:11] == [True] * 2 + [False] * 9
        assert seen[-1] is None
        assert up(fleet) == {"b@host": True}

    def test_no_more_than_the_most_are_known_whatever_they_say_first(self) -> None:
        fleet = Fleet(worker_timeout=10, forget_after=60, most=1)
        replies(fleet, "a@host", "b@host")
        fleet.queues_replied("c@host", [{"name": "x"}])
        assert not fleet.heartbeat("d@host", "5.7.0", 0)
        assert set(up(fleet)) == {"a@host"}
        assert fleet.full

    def test_as_many_as_may_be_are_not_too_many(self, clock: Clock) -> None:
        fleet = Fleet(worker_timeout=10, forget_after=60, most=2)
        replies(fleet, "a@host", "b@host")
        assert not fleet.full
        replies(fleet, "a@host", "c@host")
        assert fleet.full
        for _ in range(3):  # seen to be gone, forgotten, replaced
            clock.pass_by(70)
            replies(fleet, "a@host", "c@host")
        assert set(up(fleet)) == {"a@host", "c@host"}
        assert not fleet.full

    def test_one_who_comes_back_is_up_at_once(self, fleet: Fleet, clock: Clock) -> None:
        replies(fleet, "a@host")
        clock.pass_by(30)
        replies(fleet)
        assert up(fleet) == {"a@host": False}
        replies(fleet, "a@host")
        assert up(fleet) == {"a@host": True}

    def test_while_nobody_is_asked_everybody_stays_what_they_were(self, fleet: Fleet, clock: Clock) -> None:
        replies(fleet, "a@host", "b@host")
        clock.pass_by(30)
        replies(fleet, "b@host")
        for _ in range(3):
            clock.pass_by(1000)
            assert up(fleet) == {"a@host": False, "b@host": True}

    def test_a_late_answer_is_a_sign_of_life_but_no_reply_of_this_round(self, fleet: Fleet, clock: Clock) -> None:
        replies(fleet, "a@host")
        clock.pass_by(30)
        replies(fleet, "a@host", late=True)
        assert up(fleet) == {"a@host": True}
        assert not one(fleet).replied

    def test_an_error_in_place_of_stats_keeps_a_known_worker_up_and_makes_no_new_one(self, fleet: Fleet) -> None:
        replies(fleet, "a@host")
        replies(fleet, "a@host", "celerybeat@host", body={"error": "KeyError('stats')"})
        assert up(fleet) == {"a@host": True}
        worker = one(fleet)
        assert worker.stats is not None
        assert worker.stats.slots == 2


class TestExpected:
    def test_who_has_been_silent_for_three_rounds_is_waited_for_no_longer(self, fleet: Fleet) -> None:
        replies(fleet, "a@host", "b@host")
        expected = []
        for _ in range(4):
            replies(fleet, "b@host")
            expected.append("a@host" in fleet.expected())
        assert expected == [True, True, False, False]
        replies(fleet, "a@host", late=True)
        assert fleet.expected() == {"a@host", "b@host"}

    def test_queues_are_asked_for_once_and_again_when_they_are_old(self, fleet: Fleet, clock: Clock) -> None:
        replies(fleet, "a@host")
        assert fleet.queues_wanted() == {"a@host"}
        fleet.queues_replied("a@host", [{"name": "celery"}])
        assert fleet.queues_wanted() == set()
        clock.pass_by(31)
        assert fleet.queues_wanted() == {"a@host"}

    def test_queues_of_a_new_process_are_asked_for_at_once(self, fleet: Fleet) -> None:
        replies(fleet, "a@host")
        fleet.queues_replied("a@host", [{"name": "celery"}])
        replies(fleet, "a@host", body={**PREFORK, "pid": 200})
        assert fleet.queues_wanted() == {"a@host"}


class TestStart:
    def test_it_does_not_wander_with_the_whole_seconds_of_uptime(self, fleet: Fleet, clock: Clock) -> None:
        replies(fleet, "a@host")
        first = one(fleet).started_at
        clock.pass_by(10.9)
        replies(fleet, "a@host", body={**PREFORK, "uptime": 70})
        assert one(fleet).started_at == first == 1e9 + 1000 - 60

    def test_it_moves_with_the_process(self, fleet: Fleet, clock: Clock) -> None:
        replies(fleet, "a@host")
        clock.pass_by(10)
        replies(fleet, "a@host", body={**PREFORK, "pid": 200, "uptime": 2})
        assert one(fleet).started_at == 1e9 + 1008

    def test_it_moves_in_a_container_where_every_process_has_the_same_pid(self, fleet: Fleet, clock: Clock) -> None:
        replies(fleet, "a@host")
        clock.pass_by(10)
        replies(fleet, "a@host", body={**PREFORK, "uptime": 2, "total": {}})
        assert one(fleet).started_at == 1e9 + 1008


class TestQueues:
    def test_workers_and_slots_of_queues(self, fleet: Fleet, clock: Clock) -> None:
        replies(fleet, "a@host", "b@host", "gone@host")
        for name, queues in {"a@host": ["x", "y"], "b@host": ["x"], "gone@host": ["x", "z"]}.items():
            fleet.queues_replied(name, [{"name": queue} for queue in queues])
        clock.pass_by(11)
        replies(fleet, "a@host", "b@host")
        assert fleet.queues() == {"x", "y", "z"}
        serving = {"x": (2, 4), "y": (1, 2), "z": (0, 0), "orphan": (0, 0)}
        assert fleet.consumers_of(serving) == serving

    def test_slots_are_unknown_when_one_worker_does_not_tell(self, fleet: Fleet) -> None:
        replies(fleet, "a@host")
        fleet.stats_replied("b@host", pool("acme.pools:Pool"), 0.01, False)
        for name in ("a@host", "b@host"):
            fleet.queues_replied(name, [{"name": "x"}])
        assert fleet.consumers_of(["x"]) == {"x": (2, None)}

    @pytest.mark.parametrize("body", [None, {"error": "no"}, "celery", 1])
    def test_what_is_no_reply_to_active_queues(self, fleet: Fleet, body: Any) -> None:
        replies(fleet, "a@host")
        fleet.queues_replied("a@host", body)
        fleet.queues_replied("b@host", body)
        assert one(fleet).queues is None
        assert set(up(fleet)) == {"a@host"}

    def test_nonsense_among_queues_is_left_out(self, fleet: Fleet) -> None:
        replies(fleet, "a@host")
        fleet.queues_replied("a@host", [{"name": "x"}, None, "y", {}, {"name": None}, {"name": ""}])
        assert one(fleet).queues == frozenset({"x"})

    def test_a_cancelled_consumer_is_no_queue_and_not_an_unknown(self, fleet: Fleet) -> None:
        replies(fleet, "a@host")
        fleet.queues_replied("a@host", [])
        assert one(fleet).queues == frozenset()
