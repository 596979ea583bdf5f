"""The probes of a cluster, without the exporter: one round, one report."""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from celery import Celery

from celery_vitals.brokers.target import target_of
from celery_vitals.collectors.tasks import TasksCollector
from celery_vitals.deadline import Deadline
from celery_vitals.exporter import Collector
from celery_vitals.health.codes import Status
from celery_vitals.integrations.results import CheckResult, Document, Report
from celery_vitals.secrets import without_credentials
from celery_vitals.settings import Settings
from celery_vitals.settings.embedded import app_within, settings_within
from celery_vitals.status import ClusterStatus

_CLOSE_SECONDS = 1.0


class Cluster:
    """A cluster, observed by the collectors of the exporter.

    Nothing connects before the first round.  A process that was forked has connections of its own.
    Raises ConfigError for settings that cannot work.
    """

    def __init__(
        self,
        function: str,
        app: Celery | str | None,
        options: dict[str, Any],
        only: Collection[str] = (),
    ) -> None:
        """`only`: the collectors to enable; by default all but `tasks`, unless options do."""
        settings = settings_within(function, app, options)
        if only:
            settings = replace(settings, collectors=frozenset(only))
        elif "collectors" not in options:
            # Each process would receive all events, and report the tasks since its own start.
            settings = replace(settings, collectors=settings.collectors - {TasksCollector.name})
        self.timeout = settings.timeout
        self._settings = settings
        self._app = app_within(app, settings)
        self.identity = _identity(settings, self._app)
        # A fork keeps those of its parent: to delete them would close the parent's connections.
        self._collectors: dict[int, Collector] = {}
        self._collector()

    def report(self) -> Report:
        """Return what the last round found.  Never uses the network."""
        collector = self._collector()
        document = collector.health()
        return Report(document, dict(_results(document, collector.status())))

    def probe(self) -> Report:
        """Probe within `--timeout`, and return what was found."""
        self._collector().refresh(0.0)
        return self.report()

    def close(self, deadline: Deadline) -> None:
        """Close the connections of this process, as far as `deadline` allows."""
        collector = self._collectors.pop(os.getpid(), None)
        if collector is not None:
            collector.close(deadline)

    def _collector(self) -> Collector:
        process = os.getpid()
        if process not in self._collectors:
            # Of several threads, one wins.
            created = self._collectors.setdefault(process, Collector(self._settings, self._app))
            weakref.finalize(self, _close, created, process)
        return self._collectors[process]


def _identity(settings: Settings, app: Celery | None) -> str:
    """Return the addresses of the cluster and the settings of its verdict, without secrets."""
    target = target_of(settings, app)
    addresses = [without_credentials(url) for url in (*target.broker_urls, target.backend_url)]
    prefix = target.broker_options.get("global_keyprefix", "")
    values = [(one.name, _sorted(getattr(settings, one.name))) for one in fields(settings)]
    return repr((addresses, prefix, values))


def _sorted(value: Any) -> Any:
    """Return the value; a set or a mapping in an order that does not depend on the process."""
    if isinstance(value, Mapping):
        return sorted(value.items())
    return sorted(value) if isinstance(value, Set) else value


def _close(collector: Collector, process: int) -> None:
    if process == os.getpid():
        with suppress(RuntimeError):  # the interpreter starts no more threads
            collector.close(Deadline.after(_CLOSE_SECONDS))


def _results(document: Document, status: ClusterStatus) -> Iterator[tuple[str, CheckResult]]:
    """Yield the result of each area that is configured, by its name."""
    for area, value in document["checks"].items():
        found = Status(value)
        if found is Status.NOT_CONFIGURED:
            continue
        run = status.collector(area)
        latency = run.seconds if run is not None and run.ok is not None else None
        if found is Status.HEALTHY:
            yield area, CheckResult(True, latency)
        elif found is Status.UNKNOWN:
            yield area, CheckResult(None, latency, why_unknown(area, document))
        else:
            message = next(one["message"] for one in document["findings"] if one["area"] == area)
            yield area, CheckResult(False, latency, message, found.value)


def why_unknown(area: str, document: Document) -> str:
    """Return why the state of an area is unknown."""
    reasons = [one["reason"] for one in document["unknown"] if one["subject"] == area]
    return reasons[0] if reasons else "not observed yet"
