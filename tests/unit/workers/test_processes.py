"""Assigning replies to processes: restarts, and several workers that share a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from celery_vitals.workers.processes import MAX_PROCESSES
from celery_vitals.workers.rate_limits import longest_start_interval
from celery_vitals.workers.registered_tasks import RegisteredTask, registered_tasks
from tests.support.worker_farm import PREFORK, STEP, Farm, W

OLD = {**PREFORK, "pid": 1, "uptime": 5000, "total": {"project.add": 5000}}
YOUNG = {**PREFORK, "pid": 1, "uptime": 60, "total": {"project.add": 7}}
"""In containers every process has the same id."""
OTHER = {**YOUNG, "pid": 2}
RESTARTED = {**YOUNG, "uptime": -STEP}
"""As long as `Round` has run for two rounds or more."""
LONG = {**OLD, "uptime": 3000, "total": {"project.add": 3000}}


def aged(body: dict[str, Any], seconds: float, count: int = 0) -> dict[str, Any]:
    """Return the reply of the same process later."""
    return {
        **body,
        "uptime": body["uptime"] + round(seconds),
        "total": {"project.add": body["total"]["project.add"] + count},
    }


class Round:
    """Runs rounds in which several processes may reply under one name."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._age = 0.0

    def __call__(
        self, *bodies: dict[str, Any], late: tuple[dict[str, Any], ...] = ()
    ) -> tuple[int | None, int, int]:
        """Return started tasks, restarts and instances after a round with these replies."""
        self._age += STEP
        self._farm.clock.advance(STEP)
        self._farm.registry.begin_round(self._farm.clock.now)
        for body in late:
            self._farm.registry.stats_replied(W, aged(body, self._age - STEP), STEP, True)
        for body in bodies:
            self._farm.registry.stats_replied(W, aged(body, self._age), 0.01, False)
        self._farm.registry.end_round(None)
        worker = self._farm.worker()
        return worker.stats.processed if worker.stats else None, worker.restarts, worker.instances


@pytest.fixture
def replies(farm: Farm) -> Round:
    return Round(farm)


def test_one_process_is_one_instance(replies: Round) -> None:
    assert [replies(OLD) for _ in range(10)] == [(5000, 0, 1)] * 10


@pytest.mark.parametrize("young", [RESTARTED, {**RESTARTED, "pid": 2}])
def test_a_restart_is_counted_once(replies: Round, young: dict[str, Any]) -> None:
    replies(OLD)
    assert [replies(young) for _ in range(5)] == [(7, 1, 1)] * 5


def test_a_restart_is_counted_after_a_late_reply_of_the_old_process(replies: Round) -> None:
    replies(OLD)
    assert replies({**RESTARTED, "pid": 2}, late=(OLD,)) == (7, 1, 1)


def test_a_restart_is_counted_after_silent_rounds(replies: Round) -> None:
    replies(OLD)
    for _ in range(6):
        replies()
    assert replies(RESTARTED) == (7, 1, 1)


@pytest.mark.parametrize("twin", [YOUNG, OTHER])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_processes_that_reply_under_one_name_are_two_instances(
    replies: Round, twin: dict[str, Any], swapped: bool
) -> None:
    replies(OLD)
    seen = []
    for number in range(10):
        both = (OLD, twin) if swapped or number % 2 else (twin, OLD)
        seen.append(replies(*both))
    assert seen == [(5000, 0, 2)] * 10


@pytest.mark.parametrize("twin", [YOUNG, OTHER])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_processes_that_reply_from_the_first_round_on_are_two_instances(
    replies: Round, twin: dict[str, Any], swapped: bool
) -> None:
    count, restarts, instances = replies(twin, OLD) if swapped else replies(OLD, twin)
    assert (restarts, instances) == (0, 2)
    assert {replies(twin, OLD) for _ in range(5)} == {(count, 0, 2)}


def test_two_processes_of_which_one_replies_late_stay_two_instances(replies: Round) -> None:
    replies(OLD, OTHER)
    for _ in range(5):
        assert replies(OLD) == (5000, 0, 2)
        assert replies(OTHER) == (5000, 0, 2)
        assert replies(OTHER, late=(OLD,)) == (5000, 0, 2)


def test_one_of_two_processes_stops(replies: Round) -> None:
    replies(OLD, OTHER)
    assert [replies(OLD) for _ in range(4)][-1] == (5000, 0, 1)
    replies(OLD, OTHER)
    assert [replies(OTHER) for _ in range(6)][-1] == (7, 1, 1), "the leader has a successor"


def test_an_adjusted_clock_is_no_restart(replies: Round) -> None:
    replies(OLD)
    assert replies(aged(OLD, 3600)) == (5000, 0, 1)


def test_a_restart_is_detected_by_heartbeats_alone(farm: Farm) -> None:
    for pid, restarts in ((10, 0), (10, 0), (11, 0), (11, 1), (11, 1), (12, 1), (12, 2)):
        farm.heartbeat(pid=pid)
        assert farm.worker().restarts == restarts
    for pid in (11, 12, 11, 12):  # a known process id has never stopped
        farm.heartbeat(pid=pid)
    assert farm.worker().restarts == 2


def test_two_processes_whose_heartbeats_alternate_are_no_restart(farm: Farm) -> None:
    for _ in range(5):
        farm.heartbeat(pid=10)
        farm.heartbeat(pid=11)
    assert farm.worker().restarts == 0


@pytest.mark.parametrize("twin", [LONG, {**LONG, "pid": 2}], ids=["same pid", "other pid"])
def test_a_second_process_that_is_older_than_the_last_reply_is_no_restart(
    replies: Round, twin: dict[str, Any]
) -> None:
    """At the start of the exporter, the first round may miss one of two processes."""
    replies(OLD)
    assert replies(twin)[1:] == (0, 2)
    assert [replies(OLD, twin)[1:] for _ in range(5)] == [(0, 2)] * 5


def test_a_restart_in_replies_is_not_counted_again_by_heartbeats(farm: Farm) -> None:
    farm.add()
    farm.heartbeat(pid=200, processed=0)
    farm.round(W, body={**PREFORK, "pid": 200, "uptime": 1})
    farm.heartbeat(pid=200, processed=0)
    assert farm.worker().restarts == 1


def test_processes_of_one_name_are_limited(farm: Farm, replies: Round) -> None:
    for first in range(0, 1000, 100):
        replies(OLD, *({**OTHER, "pid": first + one} for one in range(2, 100)))
        assert len(farm.worker().processes) <= MAX_PROCESSES
    assert farm.worker().restarts == 0


def test_a_shared_node_name_is_reported(farm: Farm, replies: Round) -> None:
    replies(OLD)
    assert farm.registry.shared_names() == frozenset()
    replies(OLD, OTHER)
    assert farm.registry.shared_names() == {W}


def interval_of(tasks: Mapping[str, RegisteredTask]) -> float:
    return longest_start_interval(task.rate_limit for task in tasks.values())


@pytest.mark.parametrize(
    ("body", "interval"),
    [
        ([], 0.0),
        (["a", "b [acks_late=True]"], 0.0),
        (["a", "b [rate_limit=10/m]", "c [rate_limit=100/h acks_late=True max_retries=3]"], 36.0),
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
def test_longest_start_interval_of_rate_limits(body: Any, interval: float | None) -> None:
    tasks = registered_tasks(body)
    assert (None if tasks is None else interval_of(tasks)) == (
        pytest.approx(interval) if interval is not None else None
    )
