"""The report as JSON: docs/schemas/audit.json."""

from __future__ import annotations

from typing import Any

from celery_vitals._version import __version__
from celery_vitals.audit.evidence import Severity
from celery_vitals.audit.findings import AuditFinding, Report


def document(report: Report) -> dict[str, Any]:
    """Return the report as values of JSON."""
    return {
        "version": __version__,
        "subject": report.subject,
        "counts": {one.value: report.count(one) for one in Severity},
        "exit_code": report.exit_code,
        "findings": [_finding(one) for one in report.findings],
        "checked": list(report.checked),
        "not_checked": [
            {"reason": one.reason, "codes": list(one.codes)} for one in report.not_checked
        ],
        "ignored": list(report.ignored),
    }


def _finding(finding: AuditFinding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "message": finding.message,
        "risk": finding.risk,
        "fix": finding.fix,
        "evidence": [
            {"name": one.name, "value": one.value, "source": one.source} for one in finding.evidence
        ],
        "link": finding.link,
    }
