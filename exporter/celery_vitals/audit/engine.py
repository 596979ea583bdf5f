"""Runs the rules over the facts."""

from __future__ import annotations

from collections.abc import Collection

from celery_vitals.audit import rules as _declarations  # noqa: F401  fills RULES
from celery_vitals.audit.facts import Facts
from celery_vitals.audit.findings import (
    RULES,
    AuditFinding,
    NotChecked,
    Report,
    Rule,
    sorted_findings,
)
from celery_vitals.errors import ConfigError


def check_codes(codes: Collection[str]) -> None:
    """Raise ConfigError for a code that no rule has."""
    for code in codes:
        if code not in RULES:
            raise ConfigError(
                f"--ignore: unknown code {code!r} (expected one of: {', '.join(sorted(RULES))})"
            )


def run(facts: Facts, ignored: Collection[str] = (), subject: str = "") -> Report:
    """Run every rule whose facts are known; the others are listed with the reason."""
    findings: list[AuditFinding] = []
    checked: list[str] = []
    gaps: dict[str, list[str]] = {}
    for declared in RULES.values():
        if declared.code in ignored or facts.inapplicable.intersection(declared.needs):
            continue
        reason = next((facts.gaps[need] for need in declared.needs if need in facts.gaps), None)
        if reason is None:
            reason = _run(declared, facts, findings)
        if reason is None:
            checked.append(declared.code)
        else:
            gaps.setdefault(reason, []).append(declared.code)
    return Report(
        findings=tuple(sorted_findings(findings)),
        checked=tuple(checked),
        not_checked=tuple(NotChecked(why, tuple(codes)) for why, codes in gaps.items()),
        ignored=tuple(sorted(set(ignored))),
        subject=subject,
    )


def _run(declared: Rule, facts: Facts, findings: list[AuditFinding]) -> str | None:
    """Add the findings of one rule; return why it could not be checked, if so."""
    try:
        found = [AuditFinding.of(declared, problem) for problem in declared.function(facts)]
    except Exception as error:  # noqa: BLE001  settings of an app may hold values of any type
        return f"a setting has a value of an unexpected type ({type(error).__name__})"
    findings += found
    return None
