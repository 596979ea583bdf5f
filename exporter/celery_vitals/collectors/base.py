"""The protocol of a collector: one file and one class per collector, listed in `registry`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from prometheus_client.core import Metric

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.capabilities import Capability
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.deadline import Deadline
from celery_vitals.metrics.base import Sample
from celery_vitals.metrics.births import Births
from celery_vitals.probe_runner import Outcome
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.settings import Settings
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.stall_detection import QueueCounts
from celery_vitals.workers.task_settings import TaskSettings

_T = TypeVar("_T")
QueueListener = Callable[[Mapping[str, QueueCounts], Collection[str], float], None]
"""Takes the queues of a snapshot, the names of queues that do not exist, and the Unix time."""


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
    births: Births = field(default_factory=Births)
    task_settings: TaskSettings = field(default_factory=TaskSettings)
    queue_listeners: list[QueueListener] = field(default_factory=list)
    """Called with each queue snapshot; collectors append to it."""
    unsupported: list[BlindSpot] = field(default_factory=list)
    """What the broker kind or the settings prevent; collectors append to it."""

    def add_unsupported(self, subject: str, what: str, why: Capability) -> None:
        """Append a blind spot of this broker kind."""
        title = self.broker.target.capabilities.title
        self.unsupported.append(BlindSpot(subject, f"{what}. {title}: {why.detail}.", ""))


class BaseCollector(ABC, Generic[_T]):
    """A collector.  Only `measure` and `close` may use the network.

    `value` is what the last probe returned; None when it failed, or where there is no probe.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def create(cls, shared: Dependencies) -> BaseCollector[_T] | None:
        """Return the collector; None, and a blind spot, when it is not supported."""

    def start(self) -> None:
        """Start to receive data in the background, unless started before."""

    @abstractmethod
    def succeeded(self, outcome: Outcome[_T] | None) -> bool:
        """Return the value of `celery_scrape_collector_success`."""

    @abstractmethod
    def samples(self, value: _T | None) -> Iterable[Sample]:
        """Return the samples of a scrape."""

    def families(self) -> Iterable[Metric]:
        """Return the families of tables, which are read when they are encoded."""
        return ()

    def observed_queues(self) -> Iterable[str]:
        """Return the names of queues that this collector has observed."""
        return ()

    def blind_spots(self, value: _T | None) -> Iterable[BlindSpot]:
        """Return what this collector cannot observe now; called after its first probe."""
        return ()

    @abstractmethod
    def close(self, deadline: Deadline) -> None:
        """Stop, and close connections in good order, as far as `deadline` allows."""


class ProbingCollector(BaseCollector[_T]):
    """A collector that probes once per scrape.

    The ProbeRunner owns the thread, the timing, success and failure, and the log.
    """

    limit: ClassVar[float] = 5.0
    """Maximum seconds of a probe, however long the scrape timeout."""

    @abstractmethod
    def measure(self, deadline: Deadline) -> _T:
        """Run the probe, in a thread of its own; raises the error of the library in use."""

    def succeeded(self, outcome: Outcome[_T] | None) -> bool:
        """Return whether the probe succeeded in time."""
        return outcome is not None and outcome.reason is None
