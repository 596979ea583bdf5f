"""The report in SARIF 2.1.0, for the pages of a code host."""

from __future__ import annotations

import hashlib
from typing import Any

from celery_vitals._version import __version__
from celery_vitals.audit.evidence import Severity
from celery_vitals.audit.findings import RULES, AuditFinding, Report, Rule

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_HOME = "https://github.com/celery-vitals/celery-vitals"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def sarif(report: Report) -> dict[str, Any]:
    """Return the report as a log with one run."""
    codes = list(RULES)
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "celery-vitals",
                        "semanticVersion": __version__,
                        "informationUri": _HOME,
                        "rules": [_rule(one) for one in RULES.values()],
                    }
                },
                "results": [
                    _result(one, codes.index(one.code), report.subject) for one in report.findings
                ],
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "exitCode": report.exit_code,
                        "toolExecutionNotifications": [
                            {
                                "level": "note",
                                "message": {
                                    "text": f"not checked: {', '.join(one.codes)}: {one.reason}"
                                },
                            }
                            for one in report.not_checked
                        ],
                    }
                ],
            }
        ],
    }


def _rule(declared: Rule) -> dict[str, Any]:
    return {
        "id": declared.code,
        "shortDescription": {"text": f"{declared.title}."},
        "fullDescription": {"text": declared.risk},
        "helpUri": declared.link,
        "defaultConfiguration": {"level": _LEVELS[declared.severity]},
    }


def _result(finding: AuditFinding, index: int, subject: str) -> dict[str, Any]:
    evidence = "; ".join(f"{one.name} = {one.value} ({one.source})" for one in finding.evidence)
    identity = f"{finding.code}\n{finding.subject}".encode()
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.message}. {finding.risk} Fix: {finding.fix}"},
        "locations": [
            {
                "logicalLocations": [
                    {"name": finding.subject, "fullyQualifiedName": f"{subject}: {finding.subject}"}
                ]
            }
        ],
        "partialFingerprints": {"identity/v1": hashlib.sha256(identity).hexdigest()},
        "properties": {"evidence": evidence},
    }
