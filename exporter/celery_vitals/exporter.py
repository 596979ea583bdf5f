"""The collector: runs the probes in parallel under one deadline, and turns what they found into metric families."""

from __future__ import annotations

import platform
import threading
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any

import celery
import kombu
from prometheus_client.core import Metric
from prometheus_client.registry import Collector as PrometheusCollector

from celery_vitals._version import __version__
from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers import BrokerClient, Capability, target_of
from celery_vitals.brokers.queue_readers import QueueRegistry, shown_by
from celery_vitals.collectors.backend import OF_DJANGO, BackendCollector
from celery_vitals.collectors.base import Probe
from celery_vitals.collectors.broker import BrokerCollector
from celery_vitals.collectors.queues import QueuesCollector
from celery_vitals.collectors.tasks import TasksCollector
from celery_vitals.collectors.workers import WorkersCollector
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ConfigError
from celery_vitals.metrics import definitions as definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.metrics.definitions import DEFINITIONS, families
from celery_vitals.probe_runner import Outcome, ProbeRunner
from celery_vitals.settings import Settings
from celery_vitals.status import ClusterStatus, cluster_status
from celery_vitals.workers import WorkerRegistry


class Collector(PrometheusCollector):
    """A collector of prometheus_client that looks at one Celery cluster each time it is collected.

    What the settings do not say is taken from `app`; the name of an app in the settings is for the command line.
    Register it in any registry, or let `celery_vitals.web` serve it.  Nothing is connected before the first scrape;
    from then on a thread follows the task events, until `close`.  Raises ConfigError for settings that cannot work.
    """

    def __init__(self, settings: Settings, app: celery.Celery | None = None) -> None:
        target = target_of(settings, app)
        # Half of the time, so that after a connection that proves dead there is time for a new one.
        io_timeout = settings.timeout / 2
        url = settings.rabbitmq_management_url
        self._settings = settings
        self._broker = BrokerClient(target, io_timeout, url.reveal() if url else None)
        self._registry = WorkerRegistry(
            settings.worker_timeout, settings.worker_forget_after, settings.max_workers
        )
        self._known = QueueRegistry(target.queues, shown_by(settings))
        self._absent: list[BlindSpot] = [*target.blind_spots]
        self._probes: dict[str, Probe[Any]] = {
            probe.name: probe
            for probe in self._choose(settings, io_timeout)
            if probe.name in settings.collectors
        }
        self._follower = self._follow(settings)
        self._runners: dict[str, ProbeRunner[Any]] = {
            name: ProbeRunner(name, probe.limit, settings.min_interval, probe.measure)
            for name, probe in self._probes.items()
        }
        if WorkersCollector.name not in self._probes:
            self._registry.first_round.set()

    def _choose(self, settings: Settings, io_timeout: float) -> Iterator[Probe[Any]]:
        """The probes that this cluster allows, and notes of those that it does not."""
        target = self._broker.target
        capabilities = target.capabilities
        if capabilities.up:
            yield BrokerCollector(self._broker)
        else:
            self._cannot("broker", "Whether the broker answers is not asked", capabilities.up)
        if target.backend in OF_DJANGO:
            text = f"The result backend {target.backend} is not asked: it needs Django and all of the project loaded."
            self._absent.append(
                BlindSpot(
                    "backend", f"{text} The URL of the store behind it can be.", "--result-backend"
                )
            )
        elif target.backend:
            yield BackendCollector(self._broker, io_timeout)
        else:
            self._absent.append(
                BlindSpot("backend", "No result backend is configured.", "--result-backend")
            )
        if target.broadcast:
            yield WorkersCollector(self._broker, self._registry, self._queues)
        else:
            self._cannot("workers", "Workers are not asked", capabilities.workers)
        if capabilities.length:
            yield QueuesCollector(self._broker, self._registry, self._known, settings)
            if not capabilities.unacked:
                self._cannot(
                    "queue_unacked_messages", "What workers hold is not seen", capabilities.unacked
                )
        else:
            self._cannot("queues", "Queue lengths are not read", capabilities.length)

    def _follow(self, settings: Settings) -> TasksCollector | None:
        if TasksCollector.name not in settings.collectors:
            return None
        capabilities = self._broker.target.capabilities
        if capabilities.events:
            follower = TasksCollector(self._broker, self._registry, settings, self._ask_the_new)
            self._known.told = follower.queues
            return follower
        self._cannot("task_events", "Task events are not followed", capabilities.events)
        return None

    def _queues(self) -> frozenset[str]:
        """All queues that are to be shown, whoever knows them."""
        return self._known.names() | self._known.shown(self._registry.queues())

    def _cannot(self, subject: str, what: str, why: Capability) -> None:
        title = self._broker.target.capabilities.title
        self._absent.append(BlindSpot(subject, f"{what}. {title}: {why.text}.", ""))

    def _ask_the_new(self) -> None:
        """A worker has come, and its tasks are told of before the next scrape: ask now which queues it consumes."""
        runner = self._runners.get(WorkersCollector.name)
        if runner is not None:
            runner.begin(Deadline.after(self._settings.timeout))

    def start(self) -> None:
        """Begin to follow the task events, which the first scrape does otherwise."""
        if self._follower is not None:
            self._follower.start()

    @property
    def names(self) -> tuple[str, ...]:
        """The collectors that are on."""
        return (*self._probes, *((TasksCollector.name,) if self._follower else ()))

    def describe(self) -> Iterable[Metric]:
        """All families without samples, so that registering the collector probes nothing."""
        return [metric.family() for metric in DEFINITIONS]

    def collect(self) -> Iterable[Metric]:
        """Probe within `--timeout` and give the families."""
        return self.scrape(Deadline.after(self._settings.timeout))

    def scrape(self, deadline: Deadline, names: Collection[str] | None = None) -> Iterator[Metric]:
        """Probe until `deadline` at the latest and give the families; `names` chooses among the collectors.

        Raises ConfigError for a name that is not on.
        """
        chosen = self.names if names is None else tuple(names)
        for name in chosen:
            if name not in self.names:
                raise ConfigError(
                    f"there is no collector {name}; there are {', '.join(self.names)}"
                )
        self.start()
        budget = deadline.remaining
        if WorkersCollector.name not in chosen:
            self._registry.first_round.set()  # nobody will ask them, so nobody need wait for it
        runs = {
            name: self._runners[name].begin(deadline) for name in chosen if name in self._runners
        }
        outcomes = {name: self._runners[name].wait(run, deadline) for name, run in runs.items()}
        samples = [*self._own(budget), *self._samples(outcomes)]
        if self._follower is None or TasksCollector.name not in chosen:
            return families(samples)
        samples.append(definitions.COLLECTOR_SUCCESS(self._follower.up, TasksCollector.name))
        samples.extend(self._follower.samples())
        return chain(families(samples), self._follower.families())

    def report(self) -> ClusterStatus:
        """What the last round found, in words and rows.  Never touches the network."""
        outcomes = {name: runner.last for name, runner in self._runners.items()}
        consumed = self._known.shown(self._registry.queues())
        return cluster_status(
            self._broker.target,
            self._registry,
            outcomes,
            tuple(self._blind_spots(outcomes)),
            consumed,
        )

    def close(self, deadline: Deadline) -> None:
        """Close all connections in good order, as far as that can be done before `deadline`."""

        def close() -> None:
            for name, probe in self._probes.items():
                if self._runners[name].idle:
                    probe.close()
            if self._follower is not None:
                self._follower.stop(deadline)

        thread = threading.Thread(target=close, name="celery-vitals-close", daemon=True)
        thread.start()
        thread.join(deadline.remaining)

    def _own(self, budget: float) -> Iterator[Sample]:
        yield definitions.BUILD_INFO(
            1, __version__, platform.python_version(), celery.__version__, kombu.__version__
        )
        yield definitions.SCRAPE_TIMEOUT(budget)
        yield definitions.BROKER_CONNECTIONS(self._broker.connections)
        for name, runner in self._runners.items():
            for reason, count in runner.failures.items():
                yield definitions.PROBE_FAILURES(count, name, reason.value)
            if runner.last_success is not None:
                yield definitions.PROBE_LAST_SUCCESS(runner.last_success, name)
        for subject in sorted(
            {
                blind_spot.subject
                for blind_spot in self._blind_spots(
                    {n: runner.last for n, runner in self._runners.items()}
                )
            }
        ):
            yield definitions.BLIND_SPOT(1, subject)

    def _samples(self, outcomes: dict[str, Outcome[Any] | None]) -> Iterator[Sample]:
        for name, outcome in outcomes.items():
            yield definitions.COLLECTOR_SUCCESS(
                outcome is not None and outcome.reason is None, name
            )
            if outcome is not None:
                yield definitions.COLLECTOR_DURATION(outcome.seconds, name)
            yield from self._probes[name].samples(outcome.value if outcome is not None else None)

    def _blind_spots(self, outcomes: dict[str, Outcome[Any] | None]) -> Iterator[BlindSpot]:
        yield from self._absent
        if self._follower is not None:
            yield from self._follower.blind_spots()
        for name, probe in self._probes.items():
            outcome = outcomes.get(name)
            if outcome is not None:
                yield from probe.blind_spots(outcome.value)
