"""Workers that send an offline event, and workers that fall silent."""

from __future__ import annotations

import pytest

from celery_vitals.workers.state import State
from tests.support.worker_farm import CONFIRMED_AFTER, PREFORK, STEP, TIMEOUT, Counts, Farm, W

UP, BUSY, DRAINING, GONE = State.UP, State.BUSY, State.DRAINING, State.GONE


def test_draining_after_an_offline_event_with_running_tasks(farm: Farm) -> None:
    farm.add(active=2)
    farm.registry.offline(W, 2)
    assert farm.state() is DRAINING
    assert not farm.registry.is_up(farm.worker())
    farm.registry.drained(W)
    assert farm.state() is GONE


def test_a_reply_in_transit_does_not_end_draining(farm: Farm) -> None:
    farm.add(active=2)
    farm.registry.offline(W, 2)
    for late in (False, True):  # a reply may wait for a while before it is read
        farm.clock.advance(1)
        farm.registry.begin_round(requested=farm.clock.now - (0.5 if late else 1.5))
        farm.registry.stats_replied(W, PREFORK, 0.01, late)
        farm.registry.end_round(None)
        assert farm.state() is DRAINING


def test_draining_ends_after_the_timeout(farm: Farm) -> None:
    farm.add(active=2)
    farm.registry.offline(W, 2)
    farm.clock.advance(TIMEOUT - 1)
    farm.round()
    assert farm.state() is DRAINING
    farm.clock.advance(2)
    farm.round()
    assert farm.state() is GONE


@pytest.mark.parametrize("active", [0, None])
def test_gone_at_once_after_an_offline_event_without_running_tasks(
    farm: Farm, active: int | None
) -> None:
    farm.add(active=0)
    farm.registry.offline(W, active)
    assert farm.state() is GONE


def test_up_again_after_a_heartbeat_or_reply(farm: Farm) -> None:
    farm.add(active=2)
    farm.registry.offline(W, 2)
    farm.clock.advance(STEP)
    farm.heartbeat(processed=0, pid=200)
    assert farm.state() is UP
    farm.registry.offline(W, 0)
    farm.clock.advance(STEP)
    farm.round(W)  # without heartbeats: it replies to a later request
    assert farm.state() is UP


@pytest.mark.parametrize("observed", [False, True])
def test_an_offline_event_drops_the_suspicion(farm: Farm, observed: bool) -> None:
    farm.add()
    assert farm.scrape(Counts(5, 0, 0), rounds=CONFIRMED_AFTER)[-1] is State.NOT_CONSUMING
    farm.registry.offline(W, 0)
    if observed:  # before it is restarted
        farm.observe(q=Counts(5, 0, 0))
    farm.heartbeat(processed=0)  # restarted by its container, with the same process id
    assert farm.state() is UP


def test_a_silence_for_the_timeout_drops_the_suspicion(farm: Farm) -> None:
    farm.add()
    assert farm.scrape(Counts(5, 0), rounds=CONFIRMED_AFTER)[-1] is State.NOT_CONSUMING
    farm.clock.advance(TIMEOUT + 1)
    farm.round("other@host")
    farm.observe(q=Counts(5, 0))
    assert farm.state() is GONE
    assert farm.scrape(Counts(5, 0)) == [UP]


def test_gone_after_a_silence_for_the_timeout(farm: Farm) -> None:
    farm.add(active=2)
    farm.clock.advance(TIMEOUT + 1)
    farm.round()
    assert farm.state() is GONE


def test_while_the_broker_is_unreachable_each_worker_keeps_its_state(farm: Farm) -> None:
    farm.add(active=2)
    farm.add("idle@host", "r")
    farm.clock.advance(10_000)
    assert (farm.state(), farm.state("idle@host")) == (BUSY, UP)
