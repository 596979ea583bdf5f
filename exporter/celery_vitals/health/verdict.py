"""The verdict on a cluster, of the findings of all rules and of what is not observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.health.codes import Area, Code, Status
from celery_vitals.health.findings import Finding
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.observation import unobserved
from celery_vitals.health.rules.base import Situation
from celery_vitals.health.rules.table import RULES
from celery_vitals.status import ClusterStatus

_ORDER = {code: place for place, code in enumerate(Code)}


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a cluster at one moment."""

    status: Status
    areas: Mapping[Area, Status]
    findings: tuple[Finding, ...]
    """The worst first."""
    unknown: tuple[BlindSpot, ...]
    """What is not observed, so that a finding may be missing."""
    at: float
    """Unix time of the verdict."""
    age: float | None
    """Seconds since the oldest of the results; None before the first ones."""
    unobserved: frozenset[Area] = frozenset()
    """The areas that are unknown, even if they have findings."""


def assess(cluster: ClusterStatus, limits: HealthLimits, now: float) -> Verdict:
    """Return the verdict at this Unix time.

    The total is that of the worst finding; without one that makes it worse, it is healthy only if
    every configured area is observed.
    """
    situation = Situation(cluster, limits, now)
    findings = sorted(
        (finding for rule in RULES for finding in rule(situation)),
        key=lambda one: (-one.severity.rank, _ORDER[one.code], one.subject),
    )
    missing = unobserved(cluster, limits, now)
    areas = {area: _of_area(area, findings, missing.get(area, (None,))[0]) for area in Area}
    spots = (*(spot for _, spot in missing.values() if spot is not None), *cluster.blind_spots)
    finished = [run.finished_at for run in cluster.collectors if run.ok is not None]
    return Verdict(
        status=_total(findings, areas),
        areas=areas,
        findings=tuple(findings),
        unobserved=frozenset(
            area for area, (status, _) in missing.items() if status is Status.UNKNOWN
        ),
        unknown=tuple(dict.fromkeys(spots)),
        at=now,
        age=max(0.0, now - min(finished)) if finished else None,
    )


def _of_area(area: Area, findings: Sequence[Finding], missing: Status | None) -> Status:
    worst = next((one.severity.status for one in findings if one.code.area is area), Status.HEALTHY)
    return missing if worst is Status.HEALTHY and missing is not None else worst


def _total(findings: Sequence[Finding], areas: Mapping[Area, Status]) -> Status:
    worst = findings[0].severity.status if findings else Status.HEALTHY
    unknown = Status.UNKNOWN in areas.values()
    return Status.UNKNOWN if worst is Status.HEALTHY and unknown else worst
