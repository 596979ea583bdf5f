"""The table of collectors: each factory builds one, or reports why the broker kind prevents it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.capabilities import Capability
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.collectors.backend import NEEDS_DJANGO, BackendCollector
from celery_vitals.collectors.base import BaseCollector
from celery_vitals.collectors.broker import BrokerCollector
from celery_vitals.collectors.queues import QueuesCollector
from celery_vitals.collectors.tasks import TasksCollector
from celery_vitals.collectors.workers import WorkersCollector
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.settings import Settings
from celery_vitals.workers.registry import WorkerRegistry


@dataclass(frozen=True)
class Dependencies:
    """The objects that collectors share."""

    settings: Settings
    broker: BrokerClient
    io_timeout: float
    workers: WorkerRegistry
    queues: QueueRegistry
    probe_now: Callable[[str], None]
    """Starts a probe of the collector of this name before the next scrape."""
    unsupported: list[BlindSpot] = field(default_factory=list)
    """What the broker kind or the settings prevent; factories append to it."""

    def add_unsupported(self, subject: str, what: str, why: Capability) -> None:
        """Append a blind spot of this broker kind."""
        title = self.broker.target.capabilities.title
        self.unsupported.append(BlindSpot(subject, f"{what}. {title}: {why.detail}.", ""))


Factory = Callable[[Dependencies], BaseCollector[Any] | None]


def create_collectors(dependencies: Dependencies) -> dict[str, BaseCollector[Any]]:
    """Return the enabled collectors that the broker kind supports, in the order of the table."""
    created = {name: create(dependencies) for name, create in FACTORIES.items()}
    return {
        name: collector
        for name, collector in created.items()
        if collector is not None and name in dependencies.settings.collectors
    }


def _broker(shared: Dependencies) -> BrokerCollector | None:
    capabilities = shared.broker.target.capabilities
    if capabilities.up:
        if not capabilities.writable:
            what = "It is not known whether the broker accepts messages"
            shared.add_unsupported("broker_writable", what, capabilities.writable)
        return BrokerCollector(shared.broker)
    shared.add_unsupported("broker", "The broker is not probed", capabilities.up)
    return None


def _backend(shared: Dependencies) -> BackendCollector | None:
    backend = shared.broker.target.backend
    if backend and backend not in NEEDS_DJANGO:
        return BackendCollector(shared.broker, shared.io_timeout)
    text = "No result backend is configured."
    if backend:
        text = (
            f"The result backend {backend} is not probed: it requires Django and the whole project."
            " The URL of the store behind it can be probed instead."
        )
    shared.unsupported.append(BlindSpot("backend", text, "--result-backend"))
    return None


def _workers(shared: Dependencies) -> WorkersCollector | None:
    target = shared.broker.target
    if target.broadcast:
        return WorkersCollector(shared.broker, shared.workers, shared.queues)
    shared.add_unsupported("workers", "Workers are not probed", target.capabilities.workers)
    return None


def _queues(shared: Dependencies) -> QueuesCollector | None:
    capabilities = shared.broker.target.capabilities
    if not capabilities.length:
        shared.add_unsupported("queues", "Queue lengths are not read", capabilities.length)
        return None
    if not capabilities.unacked:
        what = "Unacknowledged messages are not counted"
        shared.add_unsupported("queue_unacked_messages", what, capabilities.unacked)
    return QueuesCollector(shared.broker, shared.workers, shared.queues, shared.settings)


def _tasks(shared: Dependencies) -> TasksCollector | None:
    events = shared.broker.target.capabilities.events
    if TasksCollector.name not in shared.settings.collectors:
        return None
    if not events:
        shared.add_unsupported("task_events", "Task events are not received", events)
        return None
    probe_workers = partial(shared.probe_now, WorkersCollector.name)
    return TasksCollector(shared.broker, shared.workers, shared.settings, probe_workers)


FACTORIES: Mapping[str, Factory] = {
    BrokerCollector.name: _broker,
    BackendCollector.name: _backend,
    WorkersCollector.name: _workers,
    QueuesCollector.name: _queues,
    TasksCollector.name: _tasks,
}
