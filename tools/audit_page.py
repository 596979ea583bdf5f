"""docs/audit.md: the command `audit`, and every rule from its declaration."""

from __future__ import annotations

from itertools import groupby

from celery_vitals.audit import rules
from celery_vitals.audit.evidence import Severity, Source
from celery_vitals.audit.findings import RULES, Rule
from tools.base import ROOT, Files, Generator

_HEAD = """\
# Audit

Generated from `celery_vitals/audit/rules/` and `tools/audit_page.py`; do not edit.

`celery-vitals audit` reports what will go wrong, from what really runs: the settings and tasks of
the app, the broker's own configuration, and the replies of workers. It changes nothing.

```console
$ celery-vitals audit -A proj
$ celery -A proj vitals audit
$ celery-vitals audit --broker-url redis://redis:6379/0
```

Without an app, the settings and tasks are those that workers report. Each finding has a stable
code, the values that it is derived from and where they come from, the risk, a line to paste with
the project's own names, and a link. An unknown value is no finding: rules that could not be checked
are listed with the reason. Arguments of tasks are never read, and secrets never written.

| exit code | meaning |
|---|---|
| 0 | no error and no warning |
| 1 | warnings |
| 2 | errors |
| 3 | wrong usage, or the app cannot be imported |

- `--ignore CODE` leaves out a rule; repeatable.
- `--json` writes JSON in the format of [schemas/audit.json](schemas/audit.json).
- `--sarif` writes SARIF 2.1.0, which code hosts show beside the code.
- `--timeout SECONDS` is the time for the broker and the workers.

The command imports the modules of the app's tasks, as a worker does. It sends four commands to the
workers (`stats`, `active_queues`, `registered`, `report`; without an app also `conf`), and one
round of requests to the broker: on Redis `INFO`, `CONFIG GET` and a script that looks for ETAs
among 200 unacknowledged messages; on RabbitMQ the list of queues in the management API.

## Severity

| severity | meaning |
|---|---|
| `error` | does not work, or loses or repeats tasks |
| `warning` | fails under load, at an outage or at an upgrade |
| `info` | a choice that is worth to be made on purpose |

A finding may be lighter or heavier than its rule: a password without TLS is a warning, and an info
inside a private network.
"""
_SOURCES = {
    Source.SETTINGS: "settings",
    Source.TASKS: "tasks",
    Source.ALL_TASKS: "all tasks",
    Source.WORKERS: "workers",
    Source.VERSIONS: "workers (`report`)",
    Source.RUNNING: "a running exporter",
    Source.BROKER: "broker URL",
    Source.REDIS: "Redis (`INFO`)",
    Source.REDIS_CONFIG: "Redis (`CONFIG GET`)",
    Source.REDIS_ETA: "Redis (script)",
    Source.RABBITMQ: "RabbitMQ",
    Source.MANAGEMENT: "RabbitMQ (management API)",
}
_TABLE = "| Code | Severity | What | Risk | Read from |\n|---|---|---|---|---|"
_TITLES = {
    "limits": "Time, rate and prefetch limits",
    "redis": "Redis",
    "rabbitmq": "RabbitMQ",
    "results": "Result backend",
    "schedule": "Beat schedule",
    "settings": "Names of settings",
}


def audit_markdown() -> str:
    """Return the whole page, in Markdown."""
    by_module = groupby(
        sorted(RULES.values(), key=lambda one: rules.MODULE_NAMES.index(one.module)),
        key=lambda one: one.module,
    )
    counts = ", ".join(
        f"{sum(one.severity is severity for one in RULES.values())} {severity.value}"
        for severity in Severity
    )
    parts = [_HEAD, f"## Rules\n\n{len(RULES)} rules: {counts}.\n"]
    for module, declared in by_module:
        title = _TITLES.get(module, module.capitalize())
        parts.append("\n".join([f"### {title}\n", _TABLE, *map(_row, declared), ""]))
    return "\n".join(parts)


def _row(declared: Rule) -> str:
    sources = ", ".join(_SOURCES[one] for one in declared.needs)
    what = f"[{declared.title}]({declared.link})"
    return (
        f"| `{declared.code}` | {declared.severity.value} | {what} | {declared.risk} | {sources} |"
    )


def files() -> Files:
    """Return the page by its path."""
    return {ROOT / "docs" / "audit.md": audit_markdown()}


GENERATOR = Generator("audit page", files)
