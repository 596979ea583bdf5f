"""Workers that say that they go, and workers that only fall silent."""

from __future__ import annotations

import pytest

from celery_vitals.workers import State
from tests.support.worker_farm import PATIENCE, PREFORK, STEP, TIMEOUT, Farm, Numbers, W

UP, BUSY, DRAINING, GONE = State.UP, State.BUSY, State.DRAINING, State.GONE


def test_it_says_that_it_goes_while_tasks_run(farm: Farm) -> None:
    farm.joins(active=2)
    farm.registry.offline(W, 2)
    assert farm.state() is DRAINING
    assert not farm.registry.is_up(farm.worker())
    farm.registry.finished(W)
    assert farm.state() is GONE


def test_an_answer_under_way_does_not_bring_it_back(farm: Farm) -> None:
    farm.joins(active=2)
    farm.registry.offline(W, 2)
    for late in (False, True):  # the answer may lie there for a while before it is looked at
        farm.clock.pass_by(1)
        farm.registry.begin_round(asked=farm.clock.now - (0.5 if late else 1.5))
        farm.registry.stats_replied(W, PREFORK, 0.01, late)
        farm.registry.end_round(None)
        assert farm.state() is DRAINING


def test_at_the_most_for_the_timeout(farm: Farm) -> None:
    farm.joins(active=2)
    farm.registry.offline(W, 2)
    farm.clock.pass_by(TIMEOUT - 1)
    farm.round()
    assert farm.state() is DRAINING
    farm.clock.pass_by(2)
    farm.round()
    assert farm.state() is GONE


@pytest.mark.parametrize("active", [0, None])
def test_gone_at_once_when_nothing_runs(farm: Farm, active: int | None) -> None:
    farm.joins(active=0)
    farm.registry.offline(W, active)
    assert farm.state() is GONE


def test_one_that_comes_back(farm: Farm) -> None:
    farm.joins(active=2)
    farm.registry.offline(W, 2)
    farm.clock.pass_by(STEP)
    farm.beats(processed=0, pid=200)
    assert farm.state() is UP
    farm.registry.offline(W, 0)
    farm.clock.pass_by(STEP)
    farm.round(W)  # without heartbeats: it answers what it was asked since
    assert farm.state() is UP


def test_what_comes_back_after_a_farewell_is_not_accused_of_what_was_before(farm: Farm) -> None:
    farm.joins()
    assert farm.goes_on(Numbers(5, 0, 0), rounds=PATIENCE)[-1] is State.NOT_CONSUMING
    farm.registry.offline(W, 0)
    farm.looks(q=Numbers(5, 0, 0))
    farm.beats(processed=0)  # its container has started it anew, with the same process number
    assert farm.state() is UP


def test_what_comes_back_after_a_long_silence_is_not_accused_of_what_was_before(farm: Farm) -> None:
    farm.joins()
    assert farm.goes_on(Numbers(5, 0), rounds=PATIENCE)[-1] is State.NOT_CONSUMING
    farm.clock.pass_by(TIMEOUT + 1)
    farm.round("other@host")
    farm.looks(q=Numbers(5, 0))
    assert farm.state() is GONE
    assert farm.goes_on(Numbers(5, 0)) == [UP]


def test_silent_for_the_timeout(farm: Farm) -> None:
    farm.joins(active=2)
    farm.clock.pass_by(TIMEOUT + 1)
    farm.round()
    assert farm.state() is GONE


def test_while_the_broker_is_away_everybody_stays_what_they_were(farm: Farm) -> None:
    farm.joins(active=2)
    farm.joins("idle@host", "r")
    farm.clock.pass_by(10_000)
    assert (farm.state(), farm.state("idle@host")) == (BUSY, UP)
