"""The registry of workers, and the replies it accepts, malformed ones included."""

from __future__ import annotations

import time
from typing import Any

import pytest

from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.stats import Stats
from celery_vitals.workers.worker import Worker
from tests.support.worker_farm import PREFORK, Clock


def pool(implementation: str, **more: Any) -> dict[str, Any]:
    return {
        **PREFORK,
        "pool": {
            "implementation": implementation,
            **{k.replace("_", "-"): v for k, v in more.items()},
        },
    }


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def registry() -> WorkerRegistry:
    return WorkerRegistry(worker_timeout=10, forget_after=60)


def replies(registry: WorkerRegistry, *names: str, body: Any = PREFORK, late: bool = False) -> None:
    """Run a round to which these workers reply."""
    registry.begin_round(time.monotonic())
    for name in names:
        registry.stats_replied(name, body, 0.01, late)
    registry.end_round(None)


def one(registry: WorkerRegistry, name: str = "a@host") -> Worker:
    return next(worker for worker in registry.workers() if worker.name == name)


def up(registry: WorkerRegistry) -> dict[str, bool]:
    return {worker.name: registry.is_up(worker) for worker in registry.workers()}


class TestStats:
    def test_parse_a_complete_reply(self) -> None:
        stats = Stats.parse(PREFORK)
        assert stats == Stats(
            "prefork", 2, 8, 100, 60.0, {"project.add": 3, "project.fail": 2}, 0.5, 0.25, 1_024_000
        )

    @pytest.mark.parametrize(
        ("body", "name", "slots"),
        [
            (
                pool(
                    "celery.concurrency.prefork:TaskPool", max_concurrency=10, processes=[1, 2, 3]
                ),
                "prefork",
                3,
            ),
            (
                pool("celery.concurrency.prefork:TaskPool", max_concurrency=4, processes=[]),
                "prefork",
                4,
            ),
            (
                pool("celery.concurrency.thread:TaskPool", max_concurrency=8, threads=2),
                "threads",
                8,
            ),
            (pool("celery.concurrency.gevent:TaskPool", max_concurrency=50), "gevent", 50),
            (
                pool("celery.concurrency.eventlet:TaskPool", max_concurrency=5, free_threads=5),
                "eventlet",
                5,
            ),
            (pool("celery.concurrency.solo:TaskPool", max_concurrency=1, processes=[7]), "solo", 1),
            (pool("acme.pools:Pool", max_concurrency=3), "acme.pools:Pool", 3),
            (pool(""), "unknown", None),
            # Celery 5.2
            (
                pool(
                    "",
                    max_concurrency=2,
                    processes=[1, 2],
                    put_guarded_by_semaphore=1,
                    writes="N/A",
                ),
                "prefork",
                2,
            ),
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

    @pytest.mark.parametrize(
        "body", [None, 1, "pong", [], {}, {"ok": "pong"}, {"error": "KeyError()"}, {"pool": []}]
    )
    def test_parse_returns_none_for_anything_but_a_reply_to_stats(self, body: Any) -> None:
        assert Stats.parse(body) is None

    @pytest.mark.parametrize("malformed", [None, "x", True, [], {}, "12"])
    @pytest.mark.parametrize("key", ["total", "pid", "uptime", "prefetch_count", "rusage"])
    def test_a_malformed_value_leaves_the_others(self, key: str, malformed: Any) -> None:
        stats = Stats.parse({**PREFORK, key: malformed})
        assert stats is not None
        assert stats.slots == 2
        absent = {
            "total": stats.accepted == {},
            "pid": stats.pid is None,
            "uptime": stats.uptime is None,
            "prefetch_count": stats.prefetch is None,
            "rusage": (stats.cpu_user, stats.cpu_system, stats.max_resident) == (None, None, None),
        }
        assert absent[key]

    def test_a_malformed_task_count_is_ignored(self) -> None:
        stats = Stats.parse({**PREFORK, "total": {"good": 1, "bad": "many", "worse": None}})
        assert stats is not None
        assert stats.accepted == {"good": 1}


class TestUpAndDown:
    def test_two_workers_of_one_host_are_two(self, registry: WorkerRegistry) -> None:
        replies(registry, "a@host", "b@host")
        assert up(registry) == {"a@host": True, "b@host": True}

    def test_a_silent_worker_is_down_after_the_timeout_and_later_removed(
        self, registry: WorkerRegistry, clock: Clock
    ) -> None:
        replies(registry, "a@host", "b@host")
        seen = []
        for _ in range(14):
            clock.advance(5)
            replies(registry, "b@host")
            seen.append(up(registry).get("a@host"))
        assert seen[:11] == [True] * 2 + [False] * 9
        assert seen[-1] is None
        assert up(registry) == {"b@host": True}

    def test_workers_are_limited_whichever_message_comes_first(self) -> None:
        registry = WorkerRegistry(worker_timeout=10, forget_after=60, max_workers=1)
        replies(registry, "a@host", "b@host")
        registry.queues_replied("c@host", [{"name": "x"}])
        assert not registry.heartbeat("d@host", "5.7.0", 0)
        assert set(up(registry)) == {"a@host"}
        assert registry.limit_reached

    def test_the_limit_is_reached_only_by_one_worker_too_many(self, clock: Clock) -> None:
        registry = WorkerRegistry(worker_timeout=10, forget_after=60, max_workers=2)
        replies(registry, "a@host", "b@host")
        assert not registry.limit_reached
        replies(registry, "a@host", "c@host")
        assert registry.limit_reached
        for _ in range(3):  # found gone, removed, replaced
            clock.advance(70)
            replies(registry, "a@host", "c@host")
        assert set(up(registry)) == {"a@host", "c@host"}
        assert not registry.limit_reached

    def test_a_worker_that_comes_back_is_up_at_once(
        self, registry: WorkerRegistry, clock: Clock
    ) -> None:
        replies(registry, "a@host")
        clock.advance(30)
        replies(registry)
        assert up(registry) == {"a@host": False}
        replies(registry, "a@host")
        assert up(registry) == {"a@host": True}

    def test_without_rounds_each_worker_keeps_its_state(
        self, registry: WorkerRegistry, clock: Clock
    ) -> None:
        replies(registry, "a@host", "b@host")
        clock.advance(30)
        replies(registry, "b@host")
        for _ in range(3):
            clock.advance(1000)
            assert up(registry) == {"a@host": False, "b@host": True}

    def test_a_late_reply_is_a_sign_of_life_but_no_reply_of_this_round(
        self, registry: WorkerRegistry, clock: Clock
    ) -> None:
        replies(registry, "a@host")
        clock.advance(30)
        replies(registry, "a@host", late=True)
        assert up(registry) == {"a@host": True}
        assert not one(registry).replied

    def test_an_error_in_place_of_stats_keeps_a_known_worker_up_and_makes_no_new_one(
        self, registry: WorkerRegistry
    ) -> None:
        replies(registry, "a@host")
        replies(registry, "a@host", "celerybeat@host", body={"error": "KeyError('stats')"})
        assert up(registry) == {"a@host": True}
        worker = one(registry)
        assert worker.stats is not None
        assert worker.stats.slots == 2


class TestExpected:
    def test_a_worker_silent_for_three_rounds_is_not_expected_to_reply(
        self, registry: WorkerRegistry
    ) -> None:
        replies(registry, "a@host", "b@host")
        expected = []
        for _ in range(4):
            replies(registry, "b@host")
            expected.append("a@host" in registry.expected())
        assert expected == [True, True, False, False]
        replies(registry, "a@host", late=True)
        assert registry.expected() == {"a@host", "b@host"}

    def test_queues_are_requested_once_and_again_when_stale(
        self, registry: WorkerRegistry, clock: Clock
    ) -> None:
        replies(registry, "a@host")
        assert registry.with_stale_queues() == {"a@host"}
        registry.queues_replied("a@host", [{"name": "celery"}])
        assert registry.with_stale_queues() == set()
        clock.advance(31)
        assert registry.with_stale_queues() == {"a@host"}

    def test_queues_of_a_new_process_are_requested_at_once(self, registry: WorkerRegistry) -> None:
        replies(registry, "a@host")
        registry.queues_replied("a@host", [{"name": "celery"}])
        replies(registry, "a@host", body={**PREFORK, "pid": 200, "uptime": 0})
        assert registry.with_stale_queues() == {"a@host"}


class TestStart:
    def test_start_time_does_not_drift_with_uptime_in_whole_seconds(
        self, registry: WorkerRegistry, clock: Clock
    ) -> None:
        replies(registry, "a@host")
        first = one(registry).started_at
        clock.advance(10.9)
        replies(registry, "a@host", body={**PREFORK, "uptime": 70})
        assert one(registry).started_at == first == 1e9 + 1000 - 60

    def test_start_time_changes_with_the_process(
        self, registry: WorkerRegistry, clock: Clock
    ) -> None:
        replies(registry, "a@host")
        clock.advance(10)
        replies(registry, "a@host", body={**PREFORK, "pid": 200, "uptime": 2})
        assert one(registry).started_at == 1e9 + 1008

    def test_start_time_changes_in_a_container_where_every_process_has_the_same_pid(
        self, registry: WorkerRegistry, clock: Clock
    ) -> None:
        replies(registry, "a@host")
        clock.advance(10)
        replies(registry, "a@host", body={**PREFORK, "uptime": 2, "total": {}})
        assert one(registry).started_at == 1e9 + 1008


class TestQueues:
    def test_workers_and_slots_of_queues(self, registry: WorkerRegistry, clock: Clock) -> None:
        replies(registry, "a@host", "b@host", "gone@host")
        for name, queues in {
            "a@host": ["x", "y"],
            "b@host": ["x"],
            "gone@host": ["x", "z"],
        }.items():
            registry.queues_replied(name, [{"name": queue} for queue in queues])
        clock.advance(11)
        replies(registry, "a@host", "b@host")
        assert registry.queues() == {"x", "y", "z"}
        consumed = {"x": (2, 4), "y": (1, 2), "z": (0, 0), "orphan": (0, 0)}
        assert registry.consumers_of(consumed) == consumed

    def test_slots_are_unknown_when_one_worker_does_not_report_them(
        self, registry: WorkerRegistry
    ) -> None:
        replies(registry, "a@host")
        registry.stats_replied("b@host", pool("acme.pools:Pool"), 0.01, False)
        for name in ("a@host", "b@host"):
            registry.queues_replied(name, [{"name": "x"}])
        assert registry.consumers_of(["x"]) == {"x": (2, None)}

    @pytest.mark.parametrize("body", [None, {"error": "no"}, "celery", 1])
    def test_anything_but_a_reply_to_active_queues_is_ignored(
        self, registry: WorkerRegistry, body: Any
    ) -> None:
        replies(registry, "a@host")
        registry.queues_replied("a@host", body)
        registry.queues_replied("b@host", body)
        assert one(registry).queues is None
        assert set(up(registry)) == {"a@host"}

    def test_malformed_queues_are_ignored(self, registry: WorkerRegistry) -> None:
        replies(registry, "a@host")
        registry.queues_replied(
            "a@host", [{"name": "x"}, None, "y", {}, {"name": None}, {"name": ""}]
        )
        assert one(registry).queues == frozenset({"x"})

    def test_without_consumers_the_queues_are_empty_and_not_unknown(
        self, registry: WorkerRegistry
    ) -> None:
        replies(registry, "a@host")
        registry.queues_replied("a@host", [])
        assert one(registry).queues == frozenset()
