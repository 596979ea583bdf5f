"""The exporter: runs the collectors in parallel under one deadline and returns metric families."""

from __future__ import annotations

import math
import platform
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import celery
import kombu
from prometheus_client.core import Metric
from prometheus_client.registry import Collector as PrometheusCollector

from celery_vitals._version import __version__
from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.target import target_of
from celery_vitals.brokers.writability import UNKNOWN, Writability
from celery_vitals.collectors.backend import BackendCollector
from celery_vitals.collectors.base import Dependencies, ProbingCollector
from celery_vitals.collectors.broker import BrokerCollector
from celery_vitals.collectors.registry import create_collectors
from celery_vitals.collectors.task_list import TaskList, TaskLists
from celery_vitals.collectors.tasks import TasksCollector
from celery_vitals.collectors.visibility_timeout import visibility_timeout
from celery_vitals.collectors.workers import WorkersCollector
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ConfigError
from celery_vitals.events import cases, task_totals
from celery_vitals.events.cases import NO_CASES, CaseList
from celery_vitals.events.task_totals import TotalsList
from celery_vitals.health.codes import TOTALS
from celery_vitals.health.document import Document, health_document
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.monitor import HealthMonitor
from celery_vitals.health.verdict import Verdict
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.metrics.births import Births
from celery_vitals.metrics.definitions import DEFINITIONS
from celery_vitals.metrics.samples import SampleEncoder
from celery_vitals.probe_runner import Outcome, ProbeRunner, Run
from celery_vitals.queue_registry import QueueRegistry, queue_filter
from celery_vitals.result_backends.checks import certificate_blind_spots, check_backend
from celery_vitals.settings import Settings
from celery_vitals.status import ClusterStatus, cluster_status
from celery_vitals.workers.registered_tasks import tasks_of
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.task_settings import TaskSettings

Outcomes = Mapping[str, Outcome[Any] | None]

_MIN_INTERVAL = 1.0
"""Seconds for which results are reused unless the settings or the caller decide."""
_NOT_COLLECTED = BlindSpot(
    "task_events",
    "Task events are not received: the collector tasks is disabled.",
    "--collector.tasks",
)


@dataclass(frozen=True)
class Observed:
    """A snapshot of the cluster and its verdict."""

    finished: tuple[float | None, ...]
    """Unix time of each result."""
    status: ClusterStatus
    verdict: Verdict


class Collector(PrometheusCollector):
    """A collector of prometheus_client that observes one Celery cluster each time it is collected.

    `app` provides what the settings leave open; the name of an app in the settings is for the
    command line.  Register it in any registry, or let `celery_vitals.web` serve it.  It connects
    to nothing before the first scrape; from then on a thread receives task events, until `close`.
    Raises ConfigError for settings that cannot work.
    """

    def __init__(self, settings: Settings, app: celery.Celery | None = None) -> None:
        target = target_of(settings, app)
        if BackendCollector.name in settings.collectors:
            check_backend(target)
        # Half of the timeout leaves time for a new connection when the old one turns out dead.
        io_timeout = settings.timeout / 2
        self._settings = settings
        self.health_limits = HealthLimits.of(settings, app)
        self._health = HealthMonitor(self.health_limits)
        self._observed: Observed | None = None
        self._min_interval = (
            _MIN_INTERVAL if settings.min_interval is None else settings.min_interval
        )
        self.births = Births()
        self._encoder = SampleEncoder(DEFINITIONS, self.births)
        self._broker = BrokerClient(target, io_timeout)
        self._workers = WorkerRegistry(
            settings.worker_timeout, settings.worker_forget_after, settings.max_workers
        )
        self._queues = QueueRegistry(target.queues, queue_filter(settings), self._observed_queues)
        self._task_settings = TaskSettings(tasks_of(app) if app is not None else {})
        dependencies = Dependencies(
            settings,
            self._broker,
            io_timeout,
            self._workers,
            self._queues,
            self._probe_now,
            self.births,
            self._task_settings,
        )
        self._collectors = create_collectors(dependencies)
        self._unsupported = (
            *target.blind_spots,
            *certificate_blind_spots(target),
            *dependencies.unsupported,
        )
        self._runners: dict[str, ProbeRunner[Any]] = {
            name: ProbeRunner(name, collector.limit, collector.measure)
            for name, collector in self._collectors.items()
            if isinstance(collector, ProbingCollector)
        }

        tasks = self._tasks()
        self._task_lists = TaskLists(
            self._broker,
            self._workers,
            tasks.running if tasks is not None else list,
            asks_first=WorkersCollector.name not in self._runners,
            arguments=settings.web_task_arguments,
        )

    def _observed_queues(self) -> Iterator[str]:
        for collector in self._collectors.values():
            yield from collector.observed_queues()

    def _probe_now(self, name: str) -> None:
        runner = self._runners.get(name)
        if runner is not None:
            runner.start_or_join(Deadline.after(self._settings.timeout), self._min_interval)

    def start(self) -> None:
        """Start to receive task events, which otherwise the first scrape does."""
        for collector in self._collectors.values():
            collector.start()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the collectors in use."""
        return tuple(self._collectors)

    def describe(self) -> Iterable[Metric]:
        """Return all families without samples, so that registering the collector probes nothing."""
        return [metric.family() for metric in DEFINITIONS]

    def collect(self) -> Iterable[Metric]:
        """Probe within `--timeout` and return the families."""
        return self.scrape(Deadline.after(self._settings.timeout))

    def scrape(
        self,
        deadline: Deadline,
        names: Collection[str] | None = None,
        max_age: float | None = None,
    ) -> Iterator[Metric]:
        """Probe until `deadline` at the latest and return the families.

        `names` selects among the collectors.  Results up to `max_age` seconds old are reused, by
        default `--min-interval`.  Raises ConfigError for an unknown name.
        """
        chosen = self.names if names is None else tuple(names)
        for name in chosen:
            if name not in self.names:
                raise ConfigError(
                    f"unknown collector {name!r} (expected one of: {', '.join(self.names)})"
                )
        budget = deadline.remaining
        outcomes = self._probe(deadline, chosen, max_age)
        selected = [name for name in self.names if name in chosen]
        samples = [*self._own_samples(budget), *self._samples(selected, outcomes)]
        tables = (self._collectors[name].families() for name in selected)
        return chain(self._encoder.families(samples), *tables)

    def _probe(self, deadline: Deadline, names: Collection[str], max_age: float | None) -> Outcomes:
        self.start()
        if WorkersCollector.name not in names:
            self._workers.first_round.set()  # no probe of workers will set it
        runs = self._start_runs(deadline, names, self._min_interval if max_age is None else max_age)
        return {name: self._runners[name].wait(run, deadline) for name, run in runs.items()}

    def _start_runs(
        self, deadline: Deadline, names: Collection[str], max_age: float
    ) -> dict[str, Run[Any]]:
        return {
            name: runner.start_or_join(deadline, max_age)
            for name, runner in self._runners.items()
            if name in names
        }

    def start_refresh(self, max_age: float) -> None:
        """Start the probes whose results are older than `max_age` seconds, without waiting."""
        self._start_runs(Deadline.after(self._settings.timeout), self.names, max_age)

    def results_age(self) -> float | None:
        """Return the seconds since the oldest result; None while a collector has none."""
        outcomes = list(self._last_outcomes().values())
        finished = [outcome.finished_at for outcome in outcomes if outcome is not None]
        if len(finished) < len(outcomes):
            return None
        return time.time() - min(finished, default=time.time())

    def refresh(self, max_age: float) -> None:
        """Probe within `--timeout` what `status` would return older than `max_age` seconds."""
        self._probe(Deadline.after(self._settings.timeout), self.names, max_age)

    def status(self) -> ClusterStatus:
        """Return the results of the last probes.  Never uses the network."""
        tasks = self._tasks()
        tasks_status = tasks.status() if tasks is not None else None
        running = tasks_status.oldest_running if tasks_status is not None else ()
        return cluster_status(
            self._broker.target,
            self._workers,
            self._last_outcomes(),
            tuple(self._blind_spots()),
            self._queues.included(self._workers.queues()),
            self._broker_state(),
            self._queues.evidence(),
            self.cases(),
            tasks_status,
            visibility_timeout(self._broker.target, self._workers),
            frozenset(name for name in running if self._task_settings.late(name)),
        )

    def verdict(self) -> Verdict:
        """Return the verdict on the results of the last probes.  Never uses the network."""
        return self.observe().verdict

    def health(self) -> Document:
        """Return the document of the verdict.  Never uses the network."""
        observed = self.observe()
        return health_document(observed.verdict, observed.status, self.health_limits)

    def observe(self, max_age: float = _MIN_INTERVAL) -> Observed:
        """Return the snapshot and its verdict; for `max_age` seconds, the same for the same
        results.  Never uses the network."""
        now, last = time.time(), self._observed
        finished = tuple(
            one.finished_at if one is not None else None for one in self._last_outcomes().values()
        )
        age = math.inf if last is None else now - last.verdict.at
        if last is None or last.finished != finished or not 0 <= age < max_age:
            status = self.status()
            last = Observed(finished, status, self._health.verdict(status, now))
            self._observed = last
        return last

    def _tasks(self) -> TasksCollector | None:
        tasks = self._collectors.get(TasksCollector.name)
        return tasks if isinstance(tasks, TasksCollector) else None

    def cases(self) -> CaseList:
        """Return the last executions that were lost, ran twice, or do not end."""
        tasks = self._tasks()
        listed = tasks.case_list() if tasks is not None else NO_CASES
        return replace(listed, blind_spots=self._task_blind_spots(cases.LIMITING_SUBJECTS))

    def refresh_task_list(self, max_age: float) -> None:
        """Ask the workers, within `--timeout`, if `task_list` is older than `max_age` seconds."""
        deadline = Deadline.after(self._settings.timeout)
        self.start()
        runner = self._runners.get(WorkersCollector.name)
        if runner is not None and not self._workers.answers_commands:
            runner.wait(runner.start_or_join(deadline, max_age), deadline)
        self._task_lists.refresh(deadline, max_age)

    def task_list(self) -> TaskList:
        """Return the running and scheduled tasks of the last round.  Never uses the network."""
        return self._task_lists.last()

    def totals(self) -> TotalsList:
        """Return what has been counted of each task.  Never uses the network."""
        tasks = self._tasks()
        counted = tasks.totals() if tasks is not None else TotalsList()
        spots = self._task_blind_spots(task_totals.LIMITING_SUBJECTS)
        return replace(counted, blind_spots=spots)

    def _task_blind_spots(self, subjects: Collection[str]) -> tuple[BlindSpot, ...]:
        spots = [one for one in self._blind_spots() if one.subject in subjects]
        if TasksCollector.name not in self._settings.collectors:
            spots.insert(0, _NOT_COLLECTED)
        return tuple(spots)

    def _broker_state(self) -> Writability:
        collector = self._collectors.get(BrokerCollector.name)
        outcome = self._last_outcomes().get(BrokerCollector.name)
        if not isinstance(collector, BrokerCollector) or outcome is None:
            return UNKNOWN
        return collector.current(outcome.value)

    def close(self, deadline: Deadline) -> None:
        """Close all connections in good order, as far as `deadline` allows."""

        def close() -> None:
            for name, collector in self._collectors.items():
                if name not in self._runners or self._runners[name].idle:
                    collector.close(deadline)
            self._task_lists.close()

        thread = threading.Thread(target=close, name="celery-vitals-close", daemon=True)
        thread.start()
        thread.join(deadline.remaining)

    def _own_samples(self, budget: float) -> Iterator[Sample]:
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
        for subject in sorted({blind_spot.subject for blind_spot in self._blind_spots()}):
            yield definitions.BLIND_SPOT(1, subject)
        verdict = self.verdict()
        for status in TOTALS:
            yield definitions.HEALTH_STATUS(status is verdict.status, status.value)
        for code, count in Counter(finding.code for finding in verdict.findings).items():
            yield definitions.HEALTH_FINDING(count, code.value)

    def _samples(self, names: Iterable[str], outcomes: Outcomes) -> Iterator[Sample]:
        for name in names:
            collector, outcome = self._collectors[name], outcomes.get(name)
            yield definitions.COLLECTOR_SUCCESS(collector.succeeded(outcome), name)
            if outcome is not None:
                yield definitions.COLLECTOR_DURATION(outcome.seconds, name)
            yield from collector.samples(outcome.value if outcome is not None else None)

    def _last_outcomes(self) -> Outcomes:
        return {name: runner.last_outcome for name, runner in self._runners.items()}

    def _blind_spots(self) -> Iterator[BlindSpot]:
        outcomes = self._last_outcomes()
        yield from self._unsupported
        for name, collector in self._collectors.items():
            outcome = outcomes.get(name)
            if outcome is not None:
                yield from collector.blind_spots(outcome.value)
            elif name not in self._runners:
                yield from collector.blind_spots(None)
