"""Five hundred workers: one broadcast a round, and memory that does not grow with the rounds."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from celery_vitals import Settings
from celery_vitals.brokers.base import Reply
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.intake import Intake
from celery_vitals.brokers.target import target_of
from celery_vitals.collectors.workers import WorkersCollector
from celery_vitals.deadline import Deadline
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.remote_control import RemoteControl
from celery_vitals.secrets import Secret
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.task_settings import TaskSettings
from tests.support.worker_farm import PREFORK

MANY = 500


class Crowd:
    """A mailbox that all of them answer at once; those that are silent are left out."""

    def __init__(self) -> None:
        self.broadcasts: list[Sequence[Mapping[str, Any]]] = []
        self.silent: set[str] = set()
        self.names = [f"worker-{number}@host" for number in range(MANY)]
        self.undelivered = False
        self.intake = Intake()
        self.address = {"exchange": "", "routing_key": "here"}
        self._replies: list[Reply] = []

    def broadcast(self, messages: Sequence[Mapping[str, Any]]) -> int | None:
        self.broadcasts = [*self.broadcasts[-1:], messages]
        bodies = {"stats": PREFORK, "active_queues": [{"name": "q"}]}
        self._replies = [
            Reply(message["ticket"], {name: bodies[message["method"]]})
            for message in messages
            for name in self.names
            if name not in self.silent
            and (message["destination"] is None or name in message["destination"])
        ]
        return len(self.names)

    def receive(self, deadline: Deadline) -> Sequence[Reply]:
        replies, self._replies = self._replies, []
        if not replies:
            time.sleep(deadline.remaining)
        return replies

    def close(self, replies_pending: bool) -> None:
        """Nothing to remove."""


class _Link:
    """A link that is always up."""

    def __init__(self, control: RemoteControl) -> None:
        self._control = control

    def use(self, deadline: Deadline, do: Any) -> Any:
        return do(self._control)


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


@pytest.fixture
def probe(crowd: Crowd) -> WorkersCollector:
    cluster = BrokerClient(target_of(Settings(broker_url=Secret("redis://localhost"))), 1.0)
    probe = WorkersCollector(
        cluster, WorkerRegistry(120.0, 3600.0), QueueRegistry(()), TaskSettings()
    )
    probe._session = cast(Any, _Link(RemoteControl(crowd)))
    return probe


def test_each_round_is_one_broadcast_and_all_are_up(crowd: Crowd, probe: WorkersCollector) -> None:
    for number in range(5):
        probe.measure(Deadline.after(10))
        (*_, messages) = crowd.broadcasts
        assert [message["method"] for message in messages] == (
            ["active_queues", "stats"] if number == 0 else ["stats"]
        )
    up = [sample for sample in probe.samples(True) if sample.metric.name == "celery_worker_up"]
    assert len(up) == MANY
    assert all(sample.value == 1 for sample in up)


def test_round_with_a_silent_worker_meets_the_deadline_and_has_all_others(
    crowd: Crowd, probe: WorkersCollector
) -> None:
    probe.measure(Deadline.after(10))
    crowd.silent = {crowd.names[7]}
    started = time.monotonic()
    probe.measure(Deadline.after(1))
    assert time.monotonic() - started < 5
    replied = {
        one.labels[0]: one.value
        for one in probe.samples(True)
        if one.metric.name == "celery_worker_replied"
    }
    assert [name for name, value in replied.items() if not value] == [crowd.names[7]]


def test_memory_does_not_grow_with_the_rounds(probe: WorkersCollector) -> None:
    for _ in range(70):  # tickets of so many rounds are remembered
        probe.measure(Deadline.after(10))
    tracemalloc.start()
    try:
        probe.measure(Deadline.after(10))
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            probe.measure(Deadline.after(10))
        assert tracemalloc.get_traced_memory()[0] - before < 2_000_000
    finally:
        tracemalloc.stop()
