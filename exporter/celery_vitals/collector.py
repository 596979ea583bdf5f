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

from celery_vitals import catalogue
from celery_vitals._version import __version__
from celery_vitals.catalogue import CATALOGUE, families
from celery_vitals.cluster import Ability, Cluster, target_of
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ConfigError
from celery_vitals.events.follower import Follower
from celery_vitals.fleet import Fleet
from celery_vitals.lane import Lane, Outcome
from celery_vitals.metric import Sample
from celery_vitals.note import Note
from celery_vitals.probes import Probe
from celery_vitals.probes.backend import OF_DJANGO, BackendProbe
from celery_vitals.probes.broker import BrokerProbe
from celery_vitals.probes.queues import QueuesProbe
from celery_vitals.probes.workers import WorkersProbe
from celery_vitals.queues import KnownQueues, shown_by
from celery_vitals.report import Report, make_report
from celery_vitals.settings import Settings


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
        self._cluster = Cluster(target, io_timeout, url.reveal() if url else None)
        self._fleet = Fleet(settings.worker_timeout, settings.worker_forget_after, settings.max_workers)
        self._known = KnownQueues(target.queues, shown_by(settings))
        self._absent: list[Note] = [*target.doubts]
        self._probes: dict[str, Probe[Any]] = {
            probe.name: probe for probe in self._choose(settings, io_timeout) if probe.name in settings.collectors
        }
        self._follower = self._follow(settings)
        self._lanes: dict[str, Lane[Any]] = {
            name: Lane(name, probe.limit, settings.min_interval, probe.measure) for name, probe in self._probes.items()
        }
        if WorkersProbe.name not in self._probes:
            self._fleet.first_round.set()

    def _choose(self, settings: Settings, io_timeout: float) -> Iterator[Probe[Any]]:
        """The probes that this cluster allows, and notes of those that it does not."""
        target = self._cluster.target
        abilities = target.abilities
        if abilities.up:
            yield BrokerProbe(self._cluster)
        else:
            self._cannot("broker", "Whether the broker answers is not asked", abilities.up)
        if target.backend in OF_DJANGO:
            text = f"The result backend {target.backend} is not asked: it needs Django and all of the project loaded."
            self._absent.append(Note("backend", f"{text} The URL of the store behind it can be.", "--result-backend"))
        elif target.backend:
            yield BackendProbe(self._cluster, io_timeout)
        else:
            self._absent.append(Note("backend", "No result backend is configured.", "--result-backend"))
        if target.broadcast:
            yield WorkersProbe(self._cluster, self._fleet, self._queues)
        else:
            self._cannot("workers", "Workers are not asked", abilities.workers)
        if abilities.length:
            yield QueuesProbe(self._cluster, self._fleet, self._known, settings)
            if not abilities.unacked:
                self._cannot("queue_unacked_messages", "What workers hold is not seen", abilities.unacked)
        else:
            self._cannot("queues", "Queue lengths are not read", abilities.length)

    def _follow(self, settings: Settings) -> Follower | None:
        if Follower.name not in settings.collectors:
            return None
        abilities = self._cluster.target.abilities
        if abilities.events:
            follower = Follower(self._cluster, self._fleet, settings, self._ask_the_new)
            self._known.told = follower.queues
            return follower
        self._cannot("task_events", "Task events are not followed", abilities.events)
        return None

    def _queues(self) -> frozenset[str]:
        """All queues that are to be shown, whoever knows them."""
        return self._known.names() | self._known.shown(self._fleet.queues())

    def _cannot(self, subject: str, what: str, why: Ability) -> None:
        title = self._cluster.target.abilities.title
        self._absent.append(Note(subject, f"{what}. {title}: {why.text}.", ""))

    def _ask_the_new(self) -> None:
        """A worker has come, and its tasks are told of before the next scrape: ask now which queues it consumes."""
        lane = self._lanes.get(WorkersProbe.name)
        if lane is not None:
            lane.begin(Deadline.after(self._settings.timeout))

    def start(self) -> None:
        """Begin to follow the task events, which the first scrape does otherwise."""
        if self._follower is not None:
            self._follower.start()

    @property
    def names(self) -> tuple[str, ...]:
        """The collectors that are on."""
        return (*self._probes, *((Follower.name,) if self._follower else ()))

    def describe(self) -> Iterable[Metric]:
        """All families without samples, so that registering the collector probes nothing."""
        return [metric.family() for metric in CATALOGUE]

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
                raise ConfigError(f"there is no collector {name}; there are {', '.join(self.names)}")
        self.start()
        budget = deadline.remaining
        if WorkersProbe.name not in chosen:
            self._fleet.first_round.set()  # nobody will ask them, so nobody need wait for it
        runs = {name: self._lanes[name].begin(deadline) for name in chosen if name in self._lanes}
        outcomes = {name: self._lanes[name].wait(run, deadline) for name, run in runs.items()}
        samples = [*self._own(budget), *self._samples(outcomes)]
        if self._follower is None or Follower.name not in chosen:
            return families(samples)
        samples.append(catalogue.COLLECTOR_SUCCESS(self._follower.up, Follower.name))
        samples.extend(self._follower.samples())
        return chain(families(samples), self._follower.families())

    def report(self) -> Report:
        """What the last round found, in words and rows.  Never touches the network."""
        outcomes = {name: lane.last for name, lane in self._lanes.items()}
        consumed = self._known.shown(self._fleet.queues())
        return make_report(self._cluster.target, self._fleet, outcomes, tuple(self._notes(outcomes)), consumed)

    def close(self, deadline: Deadline) -> None:
        """Close all connections in good order, as far as that can be done before `deadline`."""

        def close() -> None:
            for name, probe in self._probes.items():
                if self._lanes[name].idle:
                    probe.close()
            if self._follower is not None:
                self._follower.stop(deadline)

        thread = threading.Thread(target=close, name="celery-vitals-close", daemon=True)
        thread.start()
        thread.join(deadline.remaining)

    def _own(self, budget: float) -> Iterator[Sample]:
        yield catalogue.BUILD_INFO(1, __version__, platform.python_version(), celery.__version__, kombu.__version__)
        yield catalogue.SCRAPE_TIMEOUT(budget)
        yield catalogue.BROKER_CONNECTIONS(self._cluster.connections)
        for name, lane in self._lanes.items():
            for reason, count in lane.failures.items():
                yield catalogue.PROBE_FAILURES(count, name, reason.value)
            if lane.last_success is not None:
                yield catalogue.PROBE_LAST_SUCCESS(lane.last_success, name)
        for subject in sorted(
            {note.subject for note in self._notes({n: lane.last for n, lane in self._lanes.items()})}
        ):
            yield catalogue.BLIND_SPOT(1, subject)

    def _samples(self, outcomes: dict[str, Outcome[Any] | None]) -> Iterator[Sample]:
        for name, outcome in outcomes.items():
            yield catalogue.COLLECTOR_SUCCESS(outcome is not None and outcome.reason is None, name)
            if outcome is not None:
                yield catalogue.COLLECTOR_DURATION(outcome.seconds, name)
            yield from self._probes[name].samples(outcome.value if outcome is not None else None)

    def _notes(self, outcomes: dict[str, Outcome[Any] | None]) -> Iterator[Note]:
        yield from self._absent
        if self._follower is not None:
            yield from self._follower.notes()
        for name, probe in self._probes.items():
            outcome = outcomes.get(name)
            if outcome is not None:
                yield from probe.notes(outcome.value)
