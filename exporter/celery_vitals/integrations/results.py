"""The results of checks, and their form in a cache."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from celery_vitals.health.codes import Severity, Status

Document = dict[str, Any]
"""The document of /health; docs/schemas/health.json describes it."""
_PASSING = (Status.HEALTHY, Status.DEGRADED)


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    ok: bool | None
    """None when it is unknown."""
    latency: float | None = None
    """Seconds that it took; None where nothing was measured."""
    error: str | None = None
    """What is wrong, or why it is unknown."""
    severity: str = Severity.UNHEALTHY.value
    """The weight of a failure: unhealthy, degraded or info."""

    @property
    def status(self) -> str:
        """The status of what was checked: healthy, degraded, unhealthy or unknown."""
        if self.ok is None:
            return Status.UNKNOWN.value
        return (Status.HEALTHY if self.ok else Severity(self.severity).status).value


@dataclass(frozen=True)
class Report:
    """What one round of probes found."""

    document: Document
    checks: Mapping[str, CheckResult]

    def encode(self, seconds: float) -> bytes:
        """Return the text for a cache, with the duration of the round."""
        checks = {name: asdict(result) for name, result in self.checks.items()}
        text = {"document": self.document, "checks": checks, "seconds": seconds}
        return json.dumps(text).encode()


def decode(text: bytes) -> tuple[Report, float]:
    """Return a report of a cache, and the duration of its round.  Raises ValueError."""
    try:
        given = json.loads(text)
        document, seconds = dict(given["document"]), float(given["seconds"])
        Status(document["status"])
        for finding in document["findings"]:
            _key(finding)
        checks = {name: CheckResult(**fields) for name, fields in given["checks"].items()}
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a report: {type(error).__name__}") from error
    return Report(document, checks), seconds


@dataclass(frozen=True)
class HealthResult:
    """The verdict of one check of the cluster."""

    document: Document = field(repr=False)
    checks: Mapping[str, CheckResult] = field(default_factory=lambda: MappingProxyType({}))
    """The results by what was checked: broker, backend, workers, queues, ..."""
    began: float = field(default_factory=time.monotonic, repr=False)
    """When its round began, on the monotonic clock of this process."""
    shared: bool = False
    """Whether another process has probed."""
    error: str | None = None
    """Why the result is not newer, or not shared; None without a problem."""

    @property
    def status(self) -> str:
        """The verdict: healthy, degraded, unhealthy or unknown."""
        return str(self.document["status"])

    @property
    def healthy(self) -> bool:
        """Whether the cluster works: it is healthy or degraded.  False while it is unknown."""
        return self.status in _PASSING

    @property
    def findings(self) -> tuple[Mapping[str, Any], ...]:
        """The findings as in the document, the worst first."""
        return tuple(self.document["findings"])

    @property
    def age(self) -> float:
        """Seconds since its round began."""
        return time.monotonic() - self.began

    def as_dict(self) -> Document:
        """Return the document of /health, with its present age."""
        known = self.document["age_seconds"] is not None
        return {**self.document, "age_seconds": round(self.age, 3) if known else None}


def with_beginnings(report: Report, before: Document | None) -> Report:
    """Return the report; a finding that was in the document before keeps its beginning.

    Another process may have probed before, and each knows its own rounds only.
    """
    known = {_key(one): one["since"] for one in before["findings"]} if before else {}
    findings = list(_dated(report.document["findings"], known))
    return Report({**report.document, "findings": findings}, report.checks)


def _dated(findings: list[Document], known: Mapping[tuple[str, str], str]) -> Iterator[Document]:
    for one in findings:
        # Times in ISO 8601 compare as text.
        yield {**one, "since": min(one["since"], known.get(_key(one), one["since"]))}


def _key(finding: Mapping[str, Any]) -> tuple[str, str]:
    return finding["code"], finding["subject"] or ""
