"""The state of a worker: each state with its evidence, and `up` without any."""

from __future__ import annotations

from typing import Any

import pytest

from celery_vitals.workers.registered_tasks import RegisteredTask
from celery_vitals.workers.state import State
from tests.support.worker_farm import CONFIRMED_AFTER, PREFORK, SOLO, STEP, TIMEOUT, Counts, Farm, W

UP, BUSY, GONE = State.UP, State.BUSY, State.GONE
NOT_CONSUMING, STALLED = State.NOT_CONSUMING, State.STALLED

REDIS_WAITING = Counts(ready=302, unacked=0)
"""On Redis: messages wait, and none is unacknowledged."""


def started(count: int, **more: Any) -> dict[str, Any]:
    return {**PREFORK, "total": {"project.add": count}, **more}


class TestUp:
    def test_idle(self, farm: Farm) -> None:
        farm.add()
        assert set(farm.scrape(Counts(), rounds=100)) == {UP}

    def test_tasks_start_while_a_backlog_waits(self, farm: Farm) -> None:
        farm.add()
        for count in range(6, 30):
            assert farm.scrape(Counts(1000, 8), active=1, body=started(count)) == [UP]

    def test_tasks_with_an_eta_are_held_and_nothing_waits(self, farm: Farm) -> None:
        farm.add()
        assert set(farm.scrape(Counts(0, 500), rounds=20)) == {UP}

    def test_free_slots_are_unknown_without_heartbeats(self, farm: Farm) -> None:
        farm.add(active=None)
        assert set(farm.scrape(REDIS_WAITING, rounds=20, active=None)) == {UP}

    def test_free_slots_are_unknown_when_heartbeats_have_stopped(self, farm: Farm) -> None:
        """It reported a free slot, then started tasks, and its heartbeats have stopped."""
        farm.add()
        assert set(farm.scrape(REDIS_WAITING, rounds=20, active=None, body=started(7))) == {UP}

    def test_heartbeats_alone(self, farm: Farm) -> None:
        for _ in range(20):
            farm.clock.advance(STEP)
            farm.heartbeat()
            farm.observe(q=REDIS_WAITING)
            assert farm.state() is UP

    def test_queues_are_not_observed(self, farm: Farm) -> None:
        farm.add()
        farm.observe(q=REDIS_WAITING)
        for _ in range(20):
            farm.clock.advance(STEP)
            farm.round(W)
            farm.heartbeat()
            assert farm.state() is UP


class TestBusy:
    def test_all_slots_run_long_tasks_while_messages_wait(self, farm: Farm) -> None:
        farm.add()
        assert set(farm.scrape(Counts(1000, 8), rounds=100, active=2)) == {BUSY}

    def test_not_when_heartbeats_have_stopped(self, farm: Farm) -> None:
        farm.add(active=2)
        assert farm.state() is BUSY
        rounds = int(TIMEOUT // STEP) + 1
        assert farm.scrape(Counts(), rounds=rounds, active=None)[-1] is UP

    @pytest.mark.parametrize(
        ("body", "active"), [({**PREFORK, "pool": {}}, 9), (PREFORK, None), (PREFORK, 1)]
    )
    def test_not_without_known_and_occupied_slots(
        self, farm: Farm, body: Any, active: int | None
    ) -> None:
        farm.add(body=body, active=active)
        assert farm.state() is UP

    def test_a_silent_solo_worker_that_is_still_connected(self, farm: Farm) -> None:
        farm.add(body=SOLO)
        farm.round(W, body=SOLO, silent=0)
        farm.clock.advance(STEP)
        farm.round(silent=1)  # its mailbox is subscribed
        assert farm.state() is BUSY
        farm.clock.advance(STEP)
        farm.round(W, body=SOLO, silent=0)
        assert farm.state() is UP
        farm.clock.advance(STEP)
        farm.round(silent=0)  # no mailbox: killed, and not yet down
        assert farm.state() is UP

    def test_a_mailbox_of_another_program_is_no_evidence(self, farm: Farm) -> None:
        """Beat has one, and replies to ping only."""
        farm.add(body=SOLO)
        farm.round(W, body=SOLO, silent=1)
        farm.clock.advance(STEP)
        farm.round(silent=1)
        assert farm.state() is UP

    @pytest.mark.parametrize(("consumers", "state"), [(1, BUSY), (0, UP), (None, UP)])
    def test_a_silent_solo_worker_on_rabbitmq(
        self, farm: Farm, consumers: int | None, state: State
    ) -> None:
        farm.add(body=SOLO)
        farm.clock.advance(STEP)
        farm.round()
        farm.observe(q=Counts(4, None, consumers))
        assert farm.state() is state

    def test_a_silent_worker_of_another_pool_is_not_busy(self, farm: Farm) -> None:
        farm.add()
        farm.clock.advance(STEP)
        farm.round(silent=1)
        assert farm.state() is UP


class TestNotConsuming:
    def test_at_once_when_the_worker_reports_no_queue(self, farm: Farm) -> None:
        farm.add()
        farm.registry.queues_replied(W, [])
        assert farm.state() is NOT_CONSUMING
        farm.clock.advance(STEP)
        farm.round(W)
        farm.registry.queues_replied(W, [{"name": "q"}])
        assert farm.state() is UP

    def test_while_running_tasks_complete(self, farm: Farm) -> None:
        farm.add(active=2)
        farm.registry.queues_replied(W, [])
        assert farm.state() is NOT_CONSUMING

    def test_not_before_the_worker_has_reported_its_queues(self, farm: Farm) -> None:
        farm.round(W)
        assert farm.state() is UP

    def test_when_the_broker_counts_no_consumer(self, farm: Farm) -> None:
        farm.add()
        states = farm.scrape(Counts(0, 0, consumers=0), rounds=CONFIRMED_AFTER)
        assert states[:2] == [UP, UP]  # a reconnect may be in progress
        assert states[-1] is NOT_CONSUMING
        assert farm.scrape(Counts(0, 0, consumers=1)) == [UP]

    def test_not_when_one_of_its_queues_has_a_consumer_or_is_not_observed(self, farm: Farm) -> None:
        farm.add(W, "q", "r")
        for _ in range(CONFIRMED_AFTER):
            farm.clock.advance(STEP)
            farm.round(W)
            farm.observe(q=Counts(0, 0, 0), r=Counts(0, 0, 1))
            assert farm.state() is UP
        assert set(farm.scrape(Counts(0, 0, 0), rounds=CONFIRMED_AFTER)) == {UP}

    def test_on_redis_when_messages_wait_and_the_worker_takes_none(self, farm: Farm) -> None:
        farm.add()
        states = farm.scrape(REDIS_WAITING, rounds=CONFIRMED_AFTER)
        assert states[0] is UP
        assert states[-1] is NOT_CONSUMING

    def test_on_redis_when_only_heartbeats_remain_after_a_reconnect(self, farm: Farm) -> None:
        """Celery 5.2 to 5.4: no reply to ping, heartbeats, nothing consumed."""
        farm.add()
        for _ in range(CONFIRMED_AFTER + 1):
            farm.clock.advance(STEP)
            farm.round()
            farm.heartbeat()
            farm.observe(q=REDIS_WAITING)
        assert farm.state() is NOT_CONSUMING

    def test_when_it_holds_fewer_messages_than_its_prefetch_limit(self, farm: Farm) -> None:
        """A few tasks with an ETA, received before it lost its consumer."""
        farm.add()
        assert farm.scrape(Counts(50, 3), rounds=CONFIRMED_AFTER)[-1] is NOT_CONSUMING

    def test_no_longer_once_a_task_starts(self, farm: Farm) -> None:
        farm.add()
        assert farm.scrape(REDIS_WAITING, rounds=CONFIRMED_AFTER)[-1] is NOT_CONSUMING
        farm.heartbeat(active=1, processed=6)
        assert farm.state() is UP

    def test_no_longer_when_no_message_waits(self, farm: Farm) -> None:
        farm.add()
        assert farm.scrape(REDIS_WAITING, rounds=CONFIRMED_AFTER)[-1] is NOT_CONSUMING
        assert farm.scrape(Counts()) == [UP]

    def test_not_when_the_worker_was_killed(self, farm: Farm) -> None:
        farm.add()
        for counts in (REDIS_WAITING, Counts(9, 0, 0)):
            for _ in range(CONFIRMED_AFTER):
                farm.clock.advance(STEP)
                farm.round()
                farm.observe(q=counts)
                assert farm.state() in {UP, GONE}

    @pytest.mark.parametrize("counts", [REDIS_WAITING, Counts(9, 0, consumers=0)])
    def test_not_when_two_processes_share_the_name(self, farm: Farm, counts: Counts) -> None:
        farm.add()
        for _ in range(CONFIRMED_AFTER + 4):
            farm.clock.advance(STEP)
            farm.registry.begin_round(farm.clock.now)
            for pid in (100, 200):
                body = {**PREFORK, "pid": pid, "uptime": farm.clock.now - 940}
                farm.registry.stats_replied(W, body, 0.01, False)
            farm.registry.queues_replied(W, [{"name": "q"}])
            farm.registry.end_round(None)
            farm.heartbeat()
            farm.observe(q=counts)
            assert farm.state() is UP

    def test_not_by_queues_reported_before_the_suspicion(self, farm: Farm) -> None:
        """Its queues were reported before the suspicion."""
        farm.add()
        for _ in range(CONFIRMED_AFTER):
            farm.clock.advance(STEP)
            farm.registry.begin_round(farm.clock.now)
            farm.registry.stats_replied(W, PREFORK, 0.01, False)
            farm.registry.end_round(None)
            farm.heartbeat()
            farm.observe(q=REDIS_WAITING)
            assert W in farm.registry.with_stale_queues()
            assert farm.state() is UP

    def test_not_when_the_worker_discards_expired_tasks(self, farm: Farm) -> None:
        """It starts no task, but its queue gets shorter, and it is the only consumer."""
        farm.add()
        shrinking = [Counts(100_000 - 1000 * step, 8) for step in range(20)]
        assert set(farm.scrape(*shrinking)) == {UP}


class TestStalled:
    def test_when_its_pool_processes_are_frozen(self, farm: Farm) -> None:
        """It holds as many messages as its prefetch limit, and starts none."""
        farm.add()
        states = farm.scrape(Counts(12, 8), rounds=CONFIRMED_AFTER)
        assert states[0] is UP
        assert states[-1] is STALLED

    def test_on_rabbitmq_when_a_consumer_leaves_messages_in_its_queue(self, farm: Farm) -> None:
        farm.add()
        assert farm.scrape(Counts(12, None, 1), rounds=CONFIRMED_AFTER)[-1] is STALLED

    def test_beside_a_worker_that_consumes_the_same_queue(self, farm: Farm) -> None:
        """The queue gets shorter, by the work of the other."""
        farm.add("other@host")
        farm.add()
        for step in range(CONFIRMED_AFTER):
            farm.clock.advance(STEP)
            farm.round(W, "other@host")
            farm.heartbeat()
            farm.heartbeat("other@host", 2, 10 + step)
            farm.observe(q=Counts(1000 - step, 16))
        assert farm.state() is STALLED
        assert farm.state("other@host") is BUSY

    def test_not_within_the_interval_of_a_rate_limit(self, farm: Farm) -> None:
        farm.add()
        for _ in range(3):
            farm.scrape(Counts(12, 8))
            farm.registry.rate_limits_replied(
                W, [RegisteredTask(False, 3), RegisteredTask(False, 3, "10/h")]
            )
        assert set(farm.scrape(Counts(12, 8), rounds=20)) == {UP}
        assert (
            farm.scrape(Counts(12, 8), rounds=10)[-1] is STALLED
        )  # over six minutes without a start

    def test_not_while_rate_limits_are_unknown(self, farm: Farm) -> None:
        farm.add()
        for _ in range(20):
            farm.clock.advance(STEP)
            farm.heartbeat()
            farm.registry.begin_round(farm.clock.now)
            farm.registry.stats_replied(W, PREFORK, 0.01, False)
            farm.registry.queues_replied(W, [{"name": "q"}])
            farm.registry.end_round(None)
            farm.observe(q=Counts(12, 8))
            assert farm.state() is UP

    def test_rate_limits_are_requested_once_per_suspicion(self, farm: Farm) -> None:
        farm.add()
        farm.scrape(Counts(12, 8))
        assert not farm.registry.with_missing_rate_limits()
        farm.scrape(Counts(12, 8))
        assert farm.registry.with_missing_rate_limits() == {W}
        farm.scrape(Counts(12, 8))
        assert not farm.registry.with_missing_rate_limits()
