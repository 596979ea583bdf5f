"""The single checks, and the protocol of a check, which tests can implement instead."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from celery import Celery

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ConfigError
from celery_vitals.health.codes import Area, Severity, Status
from celery_vitals.health.document import health_document, utc
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.verdict import Verdict
from celery_vitals.integrations.cluster import Cluster, why_unknown
from celery_vitals.integrations.results import CheckResult, Document, Report
from celery_vitals.probe_runner import Outcome, ProbeRunner
from celery_vitals.status import ClusterStatus, CollectorStatus

if TYPE_CHECKING:
    from typing_extensions import Self

_CLOSE_SECONDS = 1.0


class Check(Protocol):
    """One check."""

    name: str
    """What is checked: broker, backend, workers, or a name of your own."""

    def check(self) -> CheckResult:
        """Check now."""

    def close(self) -> None:
        """Close the connections."""


class _ClusterCheck:
    """One collector of the exporter, and the rules of its area."""

    name: ClassVar[str]

    def __init__(self, app: Celery | str | None = None, **options: Any) -> None:
        """`app` is the Celery app or its name; `options` are those of HealthChecker."""
        self._cluster = Cluster(type(self).__name__, app, options, only=[self.name])

    def check(self) -> CheckResult:
        """Check now, within the option `timeout`."""
        report = self._cluster.probe()
        return report.checks.get(self.name) or CheckResult(
            None, error=why_unknown(self.name, report.document)
        )

    def close(self) -> None:
        """Close the connections; the next check opens new ones."""
        self._cluster.close(Deadline.after(_CLOSE_SECONDS))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class BrokerCheck(_ClusterCheck):
    """Whether the broker responds and accepts messages."""

    name = "broker"


class BackendCheck(_ClusterCheck):
    """Whether the result backend works: writes, reads and deletes a value.

    Of a database only the table of results is read.
    """

    name = "backend"


class WorkersCheck(_ClusterCheck):
    """Whether at least `health_min_workers` workers are up, and consume."""

    name = "workers"


class GivenChecks:
    """The checks that an application gives, in place of the probes of its cluster."""

    def __init__(self, checks: Iterable[Check], timeout: float = 5.0) -> None:
        """`timeout`: seconds of a round; a check that takes longer is abandoned."""
        self.timeout = timeout
        self._checks = {check.name: check for check in checks}
        self.identity = repr(sorted(self._checks))
        self._runners: dict[int, list[ProbeRunner[CheckResult]]] = {}
        """By process: a lock may have been held when the process was forked."""
        if not self._checks:
            raise ConfigError("HealthChecker: checks must not be empty")

    def report(self) -> Report:
        """Return that nothing is known yet."""
        return _report(dict.fromkeys(self._checks, CheckResult(None, None, "not checked yet")))

    def probe(self) -> Report:
        """Run all checks at the same time, within the timeout."""
        deadline = Deadline.after(self.timeout)
        created = [_runner(check, self.timeout) for check in self._checks.values()]
        runners = self._runners.setdefault(os.getpid(), created)
        runs = [runner.start_or_join(deadline, 0.0) for runner in runners]
        outcomes = [runner.wait(run, deadline) for runner, run in zip(runners, runs, strict=True)]
        return _report(dict(zip(self._checks, map(_result, outcomes), strict=True)))

    def close(self, deadline: Deadline) -> None:
        """Close the checks."""
        for check in self._checks.values():
            check.close()


def _runner(check: Check, timeout: float) -> ProbeRunner[CheckResult]:
    return ProbeRunner(check.name, timeout, lambda _: check.check())


def _result(outcome: Outcome[CheckResult] | None) -> CheckResult:
    if outcome is None:
        return CheckResult(None, None, "no result within the timeout")
    if outcome.value is None:
        return CheckResult(False, outcome.seconds, outcome.detail or "the check returned None")
    return outcome.value


def _report(results: Mapping[str, CheckResult]) -> Report:
    """Return a report on these results alone."""
    now = time.time()
    areas = dict.fromkeys(Area, Status.NOT_CONFIGURED)
    areas |= {area: Status(results[area.value].status) for area in Area if area.value in results}
    runs = tuple(
        CollectorStatus(name, result.ok, result.error or "", result.latency or 0.0, now)
        for name, result in results.items()
    )
    status = ClusterStatus("", "", "", runs, (), (), ())
    unknown = tuple(
        BlindSpot(name, result.error or "unknown", "")
        for name, result in results.items()
        if result.ok is None
    )
    total = _worst(Status(result.status) for result in results.values())
    document = health_document(Verdict(total, areas, (), unknown, now, 0.0), status, HealthLimits())
    document["checks"] |= {name: result.status for name, result in results.items()}
    document["findings"] = sorted(
        (_finding(name, result, now) for name, result in results.items() if result.ok is False),
        key=lambda one: -Severity(one["severity"]).rank,
    )
    return Report(document, dict(results))


def _worst(statuses: Iterable[Status]) -> Status:
    found = set(statuses)
    order = (Status.UNHEALTHY, Status.DEGRADED, Status.UNKNOWN)
    return next((status for status in order if status in found), Status.HEALTHY)


def _finding(name: str, result: CheckResult, now: float) -> Document:
    return {
        "code": "check_failed",
        "severity": Severity(result.severity).value,
        "area": name,
        "subject": None,
        "message": result.error or f"The check {name} failed.",
        "evidence": {},
        "since": utc(now),
        "recommendation": "",
        "runbook": "",
    }
