"""The audit of a running exporter, by its last results."""

from __future__ import annotations

from typing import Any

import pytest

from celery_vitals.audit import of_status
from celery_vitals.brokers.writability import Writability
from celery_vitals.events.task_status import TasksStatus
from celery_vitals.status import ClusterStatus, WorkerStatus
from celery_vitals.workers.state import State

NOW = 1_800_000_000.0


def status(**more: Any) -> ClusterStatus:
    given: dict[str, Any] = {
        "transport": "redis",
        "broker": "redis://h:6379/0",
        "backend": "",
        "collectors": (),
        "workers": (),
        "queues": (),
        "blind_spots": (),
    }
    return ClusterStatus(**{**given, **more})


def worker(name: str = "w1@a", **more: Any) -> WorkerStatus:
    given: dict[str, Any] = {
        "up": True,
        "state": State.UP,
        "pool": "prefork",
        "slots": 2,
        "queues": ("celery",),
        "started": 0,
        "last_seen": NOW,
    }
    return WorkerStatus(name, **{**given, **more})


def running(seconds: float, late: bool = True) -> ClusterStatus:
    return status(
        tasks=TasksStatus(oldest_running={"shop.pay": NOW - seconds}),
        visibility_timeout=3600.0,
        late_tasks=frozenset({"shop.pay"} if late else ()),
    )


CASES = {
    "visibility_timeout_below_runtime": (running(3500), running(100)),
    "redis_evicts": (
        status(broker_state=Writability(memory_limit=100, eviction_policy="allkeys-lru")),
        status(broker_state=Writability(memory_limit=100, eviction_policy="noeviction")),
    ),
    "redis_memory_near_limit": (
        status(
            broker_state=Writability(memory_used=90, memory_limit=100, eviction_policy="noeviction")
        ),
        status(broker_state=Writability(memory_used=90, memory_limit=100)),
    ),
    "worker_name_shared": (
        status(workers=(worker(pids=(1, 2)),), workers_known=True),
        status(workers=(worker(pids=(1,)),), workers_known=True),
    ),
    "celery_versions_mixed": (
        status(workers=(worker(version="5.4.0"), worker("w2@a", version="5.7.0"))),
        status(workers=(worker(version="5.7.0"), worker("w2@a", version="5.4.0", up=False))),
    ),
    "redis_reconnect_stall": (
        status(
            workers=(worker(version="5.4.0"),),
            broker_state=Writability(memory_limit=100, eviction_policy="noeviction"),
        ),
        status(
            workers=(worker(version="5.5.0"),),
            broker_state=Writability(memory_limit=100, eviction_policy="noeviction"),
        ),
    ),
}


@pytest.mark.parametrize("code", CASES)
def test_finding_of_a_status(code: str) -> None:
    problem, healthy = CASES[code]
    assert code in {one.code for one in of_status(problem, NOW)}
    assert code not in {one.code for one in of_status(healthy, NOW)}


def test_nothing_is_found_before_the_first_probe() -> None:
    assert of_status(status(), NOW) == ()


def test_a_task_that_acknowledges_early_may_run_for_longer() -> None:
    assert of_status(running(9000, late=False), NOW) == ()
