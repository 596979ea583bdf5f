"""The report as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import click

from celery_vitals.audit.evidence import Severity
from celery_vitals.audit.facts import counted
from celery_vitals.audit.findings import AuditFinding, Report

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}
_WIDTH = max(len(one.value) for one in Severity)
_COLUMNS = 100
_INDENT = " " * (_WIDTH + 2)


def text(report: Report) -> str:
    """Return the report; `click.echo` removes the colours where they are not wanted."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    for finding in report.findings:
        yield from _finding(finding)
        yield ""
    for gap in report.not_checked:
        yield f"not checked ({counted(len(gap.codes), 'rule')}): {gap.reason}"
        codes = ", ".join(gap.codes)
        yield textwrap.fill(codes, _COLUMNS, initial_indent=_INDENT, subsequent_indent=_INDENT)
        yield ""
    if report.ignored:
        yield f"ignored: {', '.join(report.ignored)}"
        yield ""
    missing = sum(len(gap.codes) for gap in report.not_checked)
    counts = ", ".join(counted(report.count(one), one.value) for one in Severity)
    not_checked = f", {missing} not" if missing else ""
    yield (
        f"{report.subject}: {counts} ({counted(len(report.checked), 'rule')} checked{not_checked})"
    )


def _finding(finding: AuditFinding) -> Iterator[str]:
    word = click.style(finding.severity.value.ljust(_WIDTH), fg=_COLOURS[finding.severity])
    yield f"{word}  {click.style(finding.code, bold=True)}: {finding.message}"
    for one in finding.evidence:
        yield f"{_INDENT}{one.name} = {one.value}  ({one.source})"
    yield f"{_INDENT}risk: {finding.risk}"
    yield f"{_INDENT}fix:  {finding.fix}"
    yield f"{_INDENT}{finding.link}"
