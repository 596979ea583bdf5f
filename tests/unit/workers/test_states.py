"""The state of a worker: each one with its proof, and nothing but `up` without."""

from __future__ import annotations

from typing import Any

import pytest

from celery_vitals.workers import State
from tests.support.worker_farm import PATIENCE, PREFORK, SOLO, STEP, TIMEOUT, Farm, Numbers, W

UP, BUSY, GONE = State.UP, State.BUSY, State.GONE
NOT_CONSUMING, STALLED = State.NOT_CONSUMING, State.STALLED

REDIS_WAITING = Numbers(ready=302, unacked=0)
"""On Redis: much waits, and nobody holds anything."""


def begun(count: int, **more: Any) -> dict[str, Any]:
    return {**PREFORK, "total": {"project.add": count}, **more}


class TestUp:
    def test_idle_at_night(self, farm: Farm) -> None:
        farm.joins()
        assert set(farm.goes_on(Numbers(), rounds=100)) == {UP}

    def test_work_that_goes_on_with_a_backlog(self, farm: Farm) -> None:
        farm.joins()
        for count in range(6, 30):
            assert farm.goes_on(Numbers(1000, 8), active=1, body=begun(count)) == [UP]

    def test_tasks_with_an_eta_are_held_and_nothing_waits(self, farm: Farm) -> None:
        farm.joins()
        assert set(farm.goes_on(Numbers(0, 500), rounds=20)) == {UP}

    def test_without_heartbeats_nobody_knows_of_free_slots(self, farm: Farm) -> None:
        farm.joins(active=None)
        assert set(farm.goes_on(REDIS_WAITING, rounds=20, active=None)) == {UP}

    def test_free_slots_of_long_ago_are_not_known_now(self, farm: Farm) -> None:
        """It told of a free slot, then began tasks, and its heartbeats have stopped."""
        farm.joins()
        assert set(farm.goes_on(REDIS_WAITING, rounds=20, active=None, body=begun(7))) == {UP}

    def test_one_heard_by_heartbeats_alone(self, farm: Farm) -> None:
        for _ in range(20):
            farm.clock.pass_by(STEP)
            farm.beats()
            farm.looks(q=REDIS_WAITING)
            assert farm.state() is UP

    def test_while_the_queues_are_not_seen(self, farm: Farm) -> None:
        farm.joins()
        farm.looks(q=REDIS_WAITING)
        for _ in range(20):
            farm.clock.pass_by(STEP)
            farm.round(W)
            farm.beats()
            assert farm.state() is UP


class TestBusy:
    def test_all_slots_in_long_tasks_and_much_waits(self, farm: Farm) -> None:
        farm.joins()
        assert set(farm.goes_on(Numbers(1000, 8), rounds=100, active=2)) == {BUSY}

    def test_no_longer_when_the_heartbeats_have_stopped(self, farm: Farm) -> None:
        farm.joins(active=2)
        assert farm.state() is BUSY
        rounds = int(TIMEOUT // STEP) + 1
        assert farm.goes_on(Numbers(), rounds=rounds, active=None)[-1] is UP

    @pytest.mark.parametrize(
        ("body", "active"), [({**PREFORK, "pool": {}}, 9), (PREFORK, None), (PREFORK, 1)]
    )
    def test_not_without_slots_that_are_known_and_taken(
        self, farm: Farm, body: Any, active: int | None
    ) -> None:
        farm.joins(body=body, active=active)
        assert farm.state() is UP

    def test_a_silent_solo_worker_that_is_still_connected(self, farm: Farm) -> None:
        farm.joins(body=SOLO)
        farm.round(W, body=SOLO, silent=0)
        farm.clock.pass_by(STEP)
        farm.round(silent=1)  # its mailbox listens
        assert farm.state() is BUSY
        farm.clock.pass_by(STEP)
        farm.round(W, body=SOLO, silent=0)
        assert farm.state() is UP
        farm.clock.pass_by(STEP)
        farm.round(silent=0)  # nobody listens: killed, and not yet down
        assert farm.state() is UP

    def test_a_mailbox_that_is_none_of_a_worker_proves_nothing(self, farm: Farm) -> None:
        """Beat has one, and answers ping only."""
        farm.joins(body=SOLO)
        farm.round(W, body=SOLO, silent=1)
        farm.clock.pass_by(STEP)
        farm.round(silent=1)
        assert farm.state() is UP

    @pytest.mark.parametrize(("consumers", "state"), [(1, BUSY), (0, UP), (None, UP)])
    def test_a_silent_solo_worker_on_rabbitmq(
        self, farm: Farm, consumers: int | None, state: State
    ) -> None:
        farm.joins(body=SOLO)
        farm.clock.pass_by(STEP)
        farm.round()
        farm.looks(q=Numbers(4, None, consumers))
        assert farm.state() is state

    def test_a_silent_worker_of_another_pool_is_not_busy(self, farm: Farm) -> None:
        farm.joins()
        farm.clock.pass_by(STEP)
        farm.round(silent=1)
        assert farm.state() is UP


class TestNotConsuming:
    def test_at_once_when_it_says_so(self, farm: Farm) -> None:
        farm.joins()
        farm.registry.queues_replied(W, [])
        assert farm.state() is NOT_CONSUMING
        farm.clock.pass_by(STEP)
        farm.round(W)
        farm.registry.queues_replied(W, [{"name": "q"}])
        assert farm.state() is UP

    def test_though_it_ends_what_it_is_at(self, farm: Farm) -> None:
        farm.joins(active=2)
        farm.registry.queues_replied(W, [])
        assert farm.state() is NOT_CONSUMING

    def test_not_before_it_has_said_anything_of_queues(self, farm: Farm) -> None:
        farm.round(W)
        assert farm.state() is UP

    def test_when_the_broker_counts_no_consumer(self, farm: Farm) -> None:
        farm.joins()
        states = farm.goes_on(Numbers(0, 0, consumers=0), rounds=PATIENCE)
        assert states[:2] == [UP, UP]  # it may be connecting again
        assert states[-1] is NOT_CONSUMING
        assert farm.goes_on(Numbers(0, 0, consumers=1)) == [UP]

    def test_not_when_one_of_its_queues_has_a_consumer_or_is_not_seen(self, farm: Farm) -> None:
        farm.joins(W, "q", "r")
        for _ in range(PATIENCE):
            farm.clock.pass_by(STEP)
            farm.round(W)
            farm.looks(q=Numbers(0, 0, 0), r=Numbers(0, 0, 1))
            assert farm.state() is UP
        assert set(farm.goes_on(Numbers(0, 0, 0), rounds=PATIENCE)) == {UP}

    def test_on_redis_when_messages_wait_and_it_takes_none(self, farm: Farm) -> None:
        farm.joins()
        states = farm.goes_on(REDIS_WAITING, rounds=PATIENCE)
        assert states[0] is UP
        assert states[-1] is NOT_CONSUMING

    def test_on_redis_after_a_reconnect_it_only_beats_its_heart(self, farm: Farm) -> None:
        """Celery 5.2 to 5.4: no answer to ping, heartbeats, nothing consumed."""
        farm.joins()
        for _ in range(PATIENCE + 1):
            farm.clock.pass_by(STEP)
            farm.round()
            farm.beats()
            farm.looks(q=REDIS_WAITING)
        assert farm.state() is NOT_CONSUMING

    def test_it_has_room_for_more_than_it_holds(self, farm: Farm) -> None:
        """A few tasks with an ETA, from before it lost its consumer."""
        farm.joins()
        assert farm.goes_on(Numbers(50, 3), rounds=PATIENCE)[-1] is NOT_CONSUMING

    def test_no_longer_once_it_begins_a_task(self, farm: Farm) -> None:
        farm.joins()
        assert farm.goes_on(REDIS_WAITING, rounds=PATIENCE)[-1] is NOT_CONSUMING
        farm.beats(active=1, processed=6)
        assert farm.state() is UP

    def test_no_longer_when_nothing_waits(self, farm: Farm) -> None:
        farm.joins()
        assert farm.goes_on(REDIS_WAITING, rounds=PATIENCE)[-1] is NOT_CONSUMING
        assert farm.goes_on(Numbers()) == [UP]

    def test_a_killed_one_does_not_answer_and_is_not_accused(self, farm: Farm) -> None:
        farm.joins()
        for numbers in (REDIS_WAITING, Numbers(9, 0, 0)):
            for _ in range(PATIENCE):
                farm.clock.pass_by(STEP)
                farm.round()
                farm.looks(q=numbers)
                assert farm.state() in {UP, GONE}

    @pytest.mark.parametrize("numbers", [REDIS_WAITING, Numbers(9, 0, consumers=0)])
    def test_of_two_under_one_name_nobody_knows_which_to_accuse(
        self, farm: Farm, numbers: Numbers
    ) -> None:
        farm.joins()
        for _ in range(PATIENCE + 4):
            farm.clock.pass_by(STEP)
            farm.registry.begin_round(farm.clock.now)
            for pid in (100, 200):
                body = {**PREFORK, "pid": pid, "uptime": farm.clock.now - 940}
                farm.registry.stats_replied(W, body, 0.01, False)
            farm.registry.queues_replied(W, [{"name": "q"}])
            farm.registry.end_round(None)
            farm.beats()
            farm.looks(q=numbers)
            assert farm.state() is UP

    def test_not_by_queues_that_it_may_consume_no_longer(self, farm: Farm) -> None:
        """What it consumes was told before the doubt."""
        farm.joins()
        for _ in range(PATIENCE):
            farm.clock.pass_by(STEP)
            farm.registry.begin_round(farm.clock.now)
            farm.registry.stats_replied(W, PREFORK, 0.01, False)
            farm.registry.end_round(None)
            farm.beats()
            farm.looks(q=REDIS_WAITING)
            assert W in farm.registry.queues_wanted()
            assert farm.state() is UP

    def test_who_drops_what_has_expired_is_not_accused(self, farm: Farm) -> None:
        """It begins nothing, but its queue gets shorter, and it is the only one there."""
        farm.joins()
        shrinking = [Numbers(100_000 - 1000 * step, 8) for step in range(20)]
        assert set(farm.goes_on(*shrinking)) == {UP}


class TestStalled:
    def test_its_children_are_frozen(self, farm: Farm) -> None:
        """It has taken as much as it may hold, and begins none."""
        farm.joins()
        states = farm.goes_on(Numbers(12, 8), rounds=PATIENCE)
        assert states[0] is UP
        assert states[-1] is STALLED

    def test_on_rabbitmq_a_consumer_with_messages_in_its_queue(self, farm: Farm) -> None:
        farm.joins()
        assert farm.goes_on(Numbers(12, None, 1), rounds=PATIENCE)[-1] is STALLED

    def test_beside_one_that_works(self, farm: Farm) -> None:
        """The queue gets shorter, but that is the other's work."""
        farm.joins("other@host")
        farm.joins()
        for step in range(PATIENCE):
            farm.clock.pass_by(STEP)
            farm.round(W, "other@host")
            farm.beats()
            farm.beats("other@host", 2, 10 + step)
            farm.looks(q=Numbers(1000 - step, 16))
        assert farm.state() is STALLED
        assert farm.state("other@host") is BUSY

    def test_not_when_it_keeps_to_a_rate_limit(self, farm: Farm) -> None:
        farm.joins()
        for _ in range(3):
            farm.goes_on(Numbers(12, 8))
            farm.registry.limits_replied(W, ["project.add", "project.limited [rate_limit=10/h]"])
        assert set(farm.goes_on(Numbers(12, 8), rounds=20)) == {UP}
        assert (
            farm.goes_on(Numbers(12, 8), rounds=10)[-1] is STALLED
        )  # six minutes and more without a start

    def test_not_while_it_does_not_tell_its_rate_limits(self, farm: Farm) -> None:
        farm.joins()
        for _ in range(20):
            farm.clock.pass_by(STEP)
            farm.beats()
            farm.registry.begin_round(farm.clock.now)
            farm.registry.stats_replied(W, PREFORK, 0.01, False)
            farm.registry.queues_replied(W, [{"name": "q"}])
            farm.registry.end_round(None)
            farm.looks(q=Numbers(12, 8))
            assert farm.state() is UP

    def test_its_rate_limits_are_asked_for_once_in_doubt(self, farm: Farm) -> None:
        farm.joins()
        farm.goes_on(Numbers(12, 8))
        assert not farm.registry.limits_wanted()
        farm.goes_on(Numbers(12, 8))
        assert farm.registry.limits_wanted() == {W}
        farm.goes_on(Numbers(12, 8))
        assert not farm.registry.limits_wanted()
