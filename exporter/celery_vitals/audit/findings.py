"""Findings of the audit, and the declaration of a rule beside the function that finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts

SETTINGS_PAGE = "https://docs.celeryq.dev/en/stable/userguide/configuration.html"


@dataclass(frozen=True)
class Problem:
    """What a rule finds; its declaration has the rest."""

    subject: str
    """A setting, task, queue, worker or server: with the code, the identity of a finding."""
    message: str
    fix: str
    """A line to paste."""
    evidence: tuple[Evidence, ...] = ()
    severity: Severity | None = None
    """None: that of the rule."""


RuleFunction = Callable[[Facts], Iterable[Problem]]


@dataclass(frozen=True)
class Rule:
    """The declaration of a rule."""

    code: str
    severity: Severity
    risk: str
    """One sentence: what will happen."""
    link: str
    needs: tuple[Source, ...]
    """The facts without which it cannot be checked."""
    function: RuleFunction

    @property
    def module(self) -> str:
        """The module that declares it, without its package."""
        return self.function.__module__.rpartition(".")[2]

    @property
    def title(self) -> str:
        """What the rule looks for: the first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0].rstrip(".")


RULES: dict[str, Rule] = {}
"""All rules by code, in the order of their declaration; `audit.rules` fills it."""


def rule(
    code: str, severity: Severity, *needs: Source, risk: str, link: str
) -> Callable[[RuleFunction], RuleFunction]:
    """Declare a rule; `link` is a URL, or the name of a setting of Celery."""

    def declare(function: RuleFunction) -> RuleFunction:
        if code in RULES:
            raise ValueError(f"two rules with the code {code}")
        url = link if "://" in link else f"{SETTINGS_PAGE}#std-setting-{link}"
        RULES[code] = Rule(code, severity, risk, url, needs, function)
        return function

    return declare


@dataclass(frozen=True)
class AuditFinding:
    """A finding with the texts of its rule."""

    code: str
    severity: Severity
    subject: str
    message: str
    risk: str
    fix: str
    evidence: tuple[Evidence, ...]
    link: str

    @classmethod
    def of(cls, declared: Rule, problem: Problem) -> AuditFinding:
        """Combine a problem with the declaration of its rule."""
        return cls(
            code=declared.code,
            severity=problem.severity or declared.severity,
            subject=problem.subject,
            message=problem.message,
            risk=declared.risk,
            fix=problem.fix,
            evidence=problem.evidence,
            link=declared.link,
        )


@dataclass(frozen=True)
class NotChecked:
    """Rules that could not be checked, and why."""

    reason: str
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """The result of an audit."""

    findings: tuple[AuditFinding, ...]
    """The worst first."""
    checked: tuple[str, ...]
    """The codes of the rules that ran."""
    not_checked: tuple[NotChecked, ...]
    ignored: tuple[str, ...] = ()
    subject: str = ""
    """What was audited: the app or the address of the broker."""

    def count(self, severity: Severity) -> int:
        """Count the findings of a severity."""
        return sum(one.severity is severity for one in self.findings)

    @property
    def exit_code(self) -> int:
        """0 without errors and warnings, 1 with warnings, 2 with errors."""
        if self.count(Severity.ERROR):
            return 2
        return 1 if self.count(Severity.WARNING) else 0


def sorted_findings(findings: Iterable[AuditFinding]) -> Iterator[AuditFinding]:
    """Iterate over the findings, the worst first, each once."""
    unique = {(one.code, one.subject, one.message): one for one in findings}
    yield from sorted(unique.values(), key=lambda one: (one.severity.rank, one.code, one.subject))
