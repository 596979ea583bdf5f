"""Whose answer is it?  Restarts are counted, and two workers that share a name do not spoil each other's numbers."""

from __future__ import annotations

from typing import Any

import pytest

from celery_vitals.workers.processes import MOST
from celery_vitals.workers.rate_limits import longest_pause
from tests.support.worker_farm import PREFORK, STEP, Farm, W

OLD = {**PREFORK, "pid": 1, "uptime": 5000, "total": {"project.add": 5000}}
YOUNG = {**PREFORK, "pid": 1, "uptime": 60, "total": {"project.add": 7}}
"""In containers every process has the same number."""
OTHER = {**YOUNG, "pid": 2}


def older(body: dict[str, Any], seconds: float, count: int = 0) -> dict[str, Any]:
    """The same process later."""
    return {
        **body,
        "uptime": body["uptime"] + round(seconds),
        "total": {"project.add": body["total"]["project.add"] + count},
    }


class Round:
    """Rounds in which several processes may answer under one name."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._age = 0.0

    def __call__(
        self, *bodies: dict[str, Any], late: tuple[dict[str, Any], ...] = ()
    ) -> tuple[int | None, int, int]:
        """Tasks begun, restarts, and processes, after a round with these answers."""
        self._age += STEP
        self._farm.clock.pass_by(STEP)
        self._farm.registry.begin_round(self._farm.clock.now)
        for body in late:
            self._farm.registry.stats_replied(W, older(body, self._age - STEP), STEP, True)
        for body in bodies:
            self._farm.registry.stats_replied(W, older(body, self._age), 0.01, False)
        self._farm.registry.end_round(None)
        worker = self._farm.worker()
        return worker.stats.processed if worker.stats else None, worker.restarts, worker.instances


@pytest.fixture
def answers(farm: Farm) -> Round:
    return Round(farm)


def test_one_process_is_one(answers: Round) -> None:
    assert [answers(OLD) for _ in range(10)] == [(5000, 0, 1)] * 10


@pytest.mark.parametrize("young", [YOUNG, OTHER])
def test_a_restart_is_counted_once(answers: Round, young: dict[str, Any]) -> None:
    answers(OLD)
    assert [answers(young) for _ in range(5)] == [(7, 1, 1)] * 5


def test_a_restart_after_the_old_one_answered_late(answers: Round) -> None:
    answers(OLD)
    assert answers(OTHER, late=(OLD,)) == (7, 1, 1)


def test_a_restart_after_rounds_of_silence(answers: Round) -> None:
    answers(OLD)
    for _ in range(6):
        answers()
    assert answers(YOUNG) == (7, 1, 1)


@pytest.mark.parametrize("twin", [YOUNG, OTHER])
@pytest.mark.parametrize("turned", [False, True])
def test_two_that_answer_under_one_name(answers: Round, twin: dict[str, Any], turned: bool) -> None:
    answers(OLD)
    seen = []
    for number in range(10):
        both = (OLD, twin) if turned or number % 2 else (twin, OLD)
        seen.append(answers(*both))
    assert seen == [(5000, 0, 2)] * 10


@pytest.mark.parametrize("twin", [YOUNG, OTHER])
@pytest.mark.parametrize("turned", [False, True])
def test_two_from_the_first_round_on(answers: Round, twin: dict[str, Any], turned: bool) -> None:
    count, restarts, instances = answers(twin, OLD) if turned else answers(OLD, twin)
    assert (restarts, instances) == (0, 2)
    assert {answers(twin, OLD) for _ in range(5)} == {(count, 0, 2)}


def test_now_and_then_only_one_of_two_answers_in_time(answers: Round) -> None:
    answers(OLD, OTHER)
    for _ in range(5):
        assert answers(OLD) == (5000, 0, 2)
        assert answers(OTHER) == (5000, 0, 2)
        assert answers(OTHER, late=(OLD,)) == (5000, 0, 2)


def test_of_two_one_goes(answers: Round) -> None:
    answers(OLD, OTHER)
    assert [answers(OLD) for _ in range(4)][-1] == (5000, 0, 1)
    answers(OLD, OTHER)
    assert [answers(OTHER) for _ in range(6)][-1] == (7, 1, 1), (
        "the one that was shown has another after it"
    )


def test_a_clock_that_is_set_makes_no_restart(answers: Round) -> None:
    answers(OLD)
    assert answers(older(OLD, 3600)) == (5000, 0, 1)


def test_a_restart_seen_by_heartbeats_alone(farm: Farm) -> None:
    for pid, restarts in ((10, 0), (10, 0), (11, 1), (11, 1), (12, 2)):
        farm.beats(pid=pid)
        assert farm.worker().restarts == restarts
    for pid in (11, 12, 11, 12):  # one that was here before has never gone
        farm.beats(pid=pid)
    assert farm.worker().restarts == 2


def test_where_replies_tell_heartbeats_do_not_count_a_restart_again(farm: Farm) -> None:
    farm.joins()
    farm.beats(pid=200, processed=0)
    farm.round(W, body={**PREFORK, "pid": 200, "uptime": 1})
    farm.beats(pid=200, processed=0)
    assert farm.worker().restarts == 1


def test_no_more_are_told_apart_than_can_be_kept(farm: Farm, answers: Round) -> None:
    for first in range(0, 1000, 100):
        answers(OLD, *({**OTHER, "pid": first + one} for one in range(2, 100)))
        assert len(farm.worker().processes) <= MOST
    assert farm.worker().restarts == 0


def test_a_name_that_two_share_is_told(farm: Farm, answers: Round) -> None:
    answers(OLD)
    assert farm.registry.shared() == frozenset()
    answers(OLD, OTHER)
    assert farm.registry.shared() == {W}


@pytest.mark.parametrize(
    ("body", "pause"),
    [
        ([], 0.0),
        (["a", "b [exchange=x]"], 0.0),
        (["a", "b [rate_limit=10/m]", "c [exchange=x rate_limit=100/h]"], 36.0),
        (["a [rate_limit=2]", "b [rate_limit=4/s]"], 0.5),
        (["a [rate_limit=0/s]"], 0.0),
        (["a [rate_limit=often]"], float("inf")),
        (["a [rate_limit=-1/s]"], float("inf")),
        (["a [rate_limit=nan]"], float("inf")),
        ([None, 3, {}], 0.0),
        ({"error": "KeyError"}, None),
        (None, None),
    ],
)
def test_how_seldom_tasks_may_start(body: Any, pause: float | None) -> None:
    assert longest_pause(body) == (pytest.approx(pause) if pause is not None else None)
