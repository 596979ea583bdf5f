"""A finding: one problem of the cluster, with its evidence and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from celery_vitals.health.codes import Code, Severity

Evidence = Mapping[str, "str | int | float"]


@dataclass(frozen=True)
class Finding:
    """One problem.  `code` and `subject` identify it from one verdict to the next."""

    code: Code
    severity: Severity
    subject: str
    """The name of the worker, queue or task; empty where the area has only one."""
    message: str
    """A sentence."""
    recommendation: str
    """What to do, with the names of this cluster."""
    evidence: Evidence = field(default_factory=dict)
    since: float = 0.0
    """Unix time from which the problem is known; 0 where the rule does not know it."""
