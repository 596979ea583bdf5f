"""The status page at `/`: the state of the cluster, and the blind spots with their settings."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from celery_vitals._version import __version__
from celery_vitals.events.cases import CaseKind
from celery_vitals.health.codes import Severity, Status
from celery_vitals.settings.model import HEALTH_PATH, LOST_PATH, STATS_PATH
from celery_vitals.workers.state import State

if TYPE_CHECKING:
    from celery_vitals.brokers.writability import Writability
    from celery_vitals.events.cases import Case
    from celery_vitals.health.verdict import Verdict
    from celery_vitals.settings import Settings
    from celery_vitals.status import ClusterStatus, CollectorStatus, QueueStatus, WorkerStatus

_TEMPLATES = Path(__file__).parent / "templates"
# Thousands of rows are unreadable; /metrics has all of them.
_MAX_ROWS = 500
_MAX_CASES = 20
_MAX_FINDINGS = 50
# Readers who reload the page, or keep it in several tabs, add no load to the broker.
_MAX_AGE = 15.0
_LEVELS = {
    State.UP: "good",
    State.BUSY: "good",
    State.NOT_CONSUMING: "bad",
    State.STALLED: "bad",
    State.DRAINING: "plain",
    State.GONE: "bad",
}
_STATUS_LEVELS = {
    Status.HEALTHY: "good",
    Status.DEGRADED: "warn",
    Status.UNHEALTHY: "bad",
    Status.UNKNOWN: "unknown",
}
_SEVERITY_LEVELS = {
    Severity.INFO: "plain",
    Severity.DEGRADED: "warn",
    Severity.UNHEALTHY: "bad",
}

Row = TypeVar("Row")


@dataclass(frozen=True)
class Fact:
    """One line of the summary; `level` is good, bad, unknown or plain."""

    level: str
    text: str


@dataclass(frozen=True)
class Table(Generic[Row]):
    """The rows to show, and the number of those left out."""

    rows: Sequence[Row]
    more: int

    @classmethod
    def of(cls, rows: Sequence[Row], limit: int = _MAX_ROWS) -> Table[Row]:
        """Limit the number of rows."""
        return cls(rows[:limit], max(0, len(rows) - limit))


class Page:
    """Renders the page, of results up to `max_age` seconds old.

    `policy` is its Content-Security-Policy: nothing but its own style.
    """

    def __init__(self, settings: Settings) -> None:
        self.max_age = max(_MAX_AGE, settings.min_interval or 0.0)
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(duration=_duration, number=_number, utc=utc)
        # A relative link also works behind a proxy, and when the app is mounted.
        environment.globals.update(
            metrics=f".{settings.web_telemetry_path}",
            health=f".{HEALTH_PATH}",
            lost=f".{LOST_PATH}" if settings.web_lost else None,
            stats=f".{STATS_PATH}" if settings.web_stats else None,
            version=__version__,
            max_age=self.max_age,
        )
        style = environment.get_template("page.css").render()
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self.policy = (
            f"default-src 'none'; style-src 'sha256-{digest}';"
            " base-uri 'none'; frame-ancestors 'none'"
        )
        self._template = environment.get_template("page.html")

    def render(self, status: ClusterStatus, verdict: Verdict, now: float) -> str:
        """Render the page for `status` and its verdict at the time `now` (Unix seconds)."""
        finished = [run.finished_at for run in status.collectors if run.ok is not None]
        return self._template.render(
            status=status,
            now=now,
            collected_at=max(finished, default=None),
            verdict=verdict,
            status_level=_STATUS_LEVELS,
            findings=Table.of(verdict.findings, _MAX_FINDINGS),
            severity_level=_SEVERITY_LEVELS,
            facts=list(_facts(status)),
            workers=Table.of(sorted(status.workers, key=_worker_order)),
            queues=Table.of(sorted(status.queues, key=_queue_order)),
            cases=Table.of(status.cases.cases, _MAX_CASES),
            case_level=_case_level,
            level=_LEVELS.__getitem__,
            ago=lambda when: _ago(now - when),
        )


def _case_level(case: Case) -> str:
    """Redelivered executions run again; one that was found was not lost."""
    return "plain" if case.found or case.kind is CaseKind.REDELIVERED else "bad"


def _worker_order(worker: WorkerStatus) -> tuple[bool, bool, str]:
    return worker.up, _LEVELS[worker.state] != "bad", worker.name


def _queue_order(queue: QueueStatus) -> tuple[bool, int, bool, bool, str]:
    """By need: tasks without consumers, then the longest, then unknown lengths."""
    known = queue.length is not None
    return (
        not queue.is_unserved,
        -(queue.length or 0),
        known,
        not queue.has_no_consumers,
        queue.name,
    )


def _facts(status: ClusterStatus) -> Iterator[Fact]:
    collectors = {collector.name: collector for collector in status.collectors}
    yield _connection("Broker", collectors.get("broker"))
    yield from _broker_facts(status.broker_state)
    if status.backend:
        yield _connection("Result backend", collectors.get("backend"))
    if status.workers:
        yield from _worker_facts(status.workers)
    else:
        yield _none_observed("workers", collectors)
    if status.queues:
        yield from _queue_facts(status.queues)
    else:
        yield _none_observed("queues", collectors)


def _connection(what: str, collector: CollectorStatus | None) -> Fact:
    if collector is None:
        return Fact("unknown", f"{what}: not checked")
    if collector.ok is None:
        return Fact("unknown", f"{what}: not checked yet")
    if not collector.ok:
        return Fact("bad", f"{what}: down, {collector.reason}")
    return Fact("good", f"{what}: up")


def _broker_facts(state: Writability) -> Iterator[Fact]:
    if state.reason is not None:
        yield Fact("bad", f"Broker: accepts no messages, {state.reason.description}")
    if state.memory_used is not None and state.memory_limit:
        share = f"{state.memory_used / state.memory_limit:.0%}"
        yield Fact("plain", f"Broker: {share} of its memory limit in use")
    if state.eviction_policy.startswith("allkeys-"):
        text = f"Broker: may evict queues at its memory limit ({state.eviction_policy})"
        yield Fact("bad", text)


def _none_observed(name: str, collectors: Collection[str]) -> Fact:
    what = name.capitalize()
    text = f"{what}: none observed" if name in collectors else f"{what}: not checked"
    return Fact("unknown", text)


def _worker_facts(workers: Sequence[WorkerStatus]) -> Iterator[Fact]:
    up = sum(1 for worker in workers if worker.up)
    ending = sum(1 for worker in workers if worker.state is State.DRAINING)
    down = len(workers) - up - ending
    if up:
        yield Fact("good", f"{_count(up, 'worker', 'workers')} up")
    for state, one, many in (
        (State.NOT_CONSUMING, "worker up but not consuming", "workers up but not consuming"),
        (State.STALLED, "worker up but stalled", "workers up but stalled"),
    ):
        if number := sum(1 for worker in workers if worker.state is state):
            yield Fact("bad", _count(number, one, many))
    if ending:
        yield Fact("plain", f"{_count(ending, 'worker', 'workers')} shutting down")
    if down:
        yield Fact("bad", f"{_count(down, 'worker', 'workers')} down")


def _queue_facts(queues: Sequence[QueueStatus]) -> Iterator[Fact]:
    orphaned = sum(queue.is_unserved for queue in queues)
    if orphaned:
        has = _count(orphaned, "queue has", "queues have")
        yield Fact("bad", f"{has} messages but no consumers")
    lengths = [queue.length for queue in queues if queue.length is not None]
    if any(lengths):
        messages = _count(sum(lengths), "message", "messages")
        filled = _number(sum(1 for length in lengths if length))
        total = _count(len(lengths), "queue", "queues")
        yield Fact("plain", f"{messages} waiting in {filled} of {total}")
    elif lengths:
        yield Fact("plain", f"{_count(len(lengths), 'queue', 'queues')} empty")


def _count(number: int, one: str, many: str) -> str:
    return f"{_number(number)} {one if number == 1 else many}"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _ago(seconds: float) -> str:
    if seconds < 1:
        return "just now"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def utc(when: float) -> str:
    """Return a Unix time in ISO 8601."""
    return f"{datetime.fromtimestamp(when, timezone.utc).isoformat()[:19]}Z"
