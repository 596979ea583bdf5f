"""The page at `/`: in words, what is seen, what is not, and which setting would show it."""

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
from celery_vitals.workers import State

if TYPE_CHECKING:
    from celery_vitals.settings import Settings
    from celery_vitals.status import ClusterStatus, CollectorStatus, QueueStatus, WorkerStatus

_TEMPLATES = Path(__file__).parent / "templates"
# A page of thousands of rows helps nobody; /metrics has them all.
_ROWS = 500
_LEVELS = {
    State.UP: "good",
    State.BUSY: "good",
    State.NOT_CONSUMING: "bad",
    State.STALLED: "bad",
    State.DRAINING: "plain",
    State.GONE: "bad",
}

Row = TypeVar("Row")


@dataclass(frozen=True)
class Finding:
    """One sentence of the summary.  `level` is good, bad, unknown or plain."""

    level: str
    text: str


@dataclass(frozen=True)
class Table(Generic[Row]):
    """The rows that are shown, and how many are not."""

    rows: Sequence[Row]
    more: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Table[Row]:
        """The first rows."""
        return cls(rows[:_ROWS], max(0, len(rows) - _ROWS))


class Page:
    """Renders reports.  `policy` is the Content-Security-Policy that lets nothing in but the page's own style."""

    def __init__(self, settings: Settings) -> None:
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(took=_took, number=_number, utc=_utc)
        # Relative, so that it also works below a prefix: behind a proxy, or mounted in another app.
        environment.globals.update(metrics=f".{settings.web_telemetry_path}", version=__version__)
        style = environment.get_template("page.css").render()
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self.policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
        self._template = environment.get_template("page.html")

    def render(self, report: ClusterStatus, now: float) -> str:
        """The page for `report`, as seen at `now` (Unix seconds)."""
        ran = [probe.finished_at for probe in report.probes if probe.ok is not None]
        return self._template.render(
            report=report,
            now=now,
            round_at=max(ran, default=None),
            findings=list(_findings(report)),
            workers=Table.of(sorted(report.workers, key=_worker_order)),
            queues=Table.of(sorted(report.queues, key=_queue_order)),
            unserved=unserved,
            level=_LEVELS.__getitem__,
            ago=lambda when: _ago(now - when),
        )


def unserved(queue: QueueStatus) -> bool:
    """Whether nobody takes messages from this queue, as far as is known; False when nothing is known."""
    known = [count for count in (queue.workers, queue.consumers) if count is not None]
    return bool(known) and not any(known)


def _worker_order(worker: WorkerStatus) -> tuple[bool, bool, str]:
    return worker.up, _LEVELS[worker.state] != "bad", worker.name


def _queue_order(queue: QueueStatus) -> tuple[bool, str]:
    return not (unserved(queue) and queue.length), queue.name


def _findings(report: ClusterStatus) -> Iterator[Finding]:
    probes = {probe.name: probe for probe in report.probes}
    yield _answers("The broker", probes.get("broker"))
    if report.backend:
        yield _answers("The result backend", probes.get("backend"))
    if report.workers:
        yield from _worker_findings(report.workers)
    else:
        yield _nothing("worker", probes)
    if report.queues:
        yield from _queue_findings(report.queues)
    else:
        yield _nothing("queue", probes)


def _answers(what: str, probe: CollectorStatus | None) -> Finding:
    if probe is None:
        return Finding("unknown", f"{what} is not checked.")
    if probe.ok is None:
        return Finding("unknown", f"{what} has not been checked yet.")
    return (
        Finding("good", f"{what} works.")
        if probe.ok
        else Finding("bad", f"{what} does not work: {probe.reason}.")
    )


def _nothing(what: str, probes: Collection[str]) -> Finding:
    return Finding(
        "unknown",
        f"No {what} has been seen." if f"{what}s" in probes else f"No {what} is looked for.",
    )


def _worker_findings(workers: Sequence[WorkerStatus]) -> Iterator[Finding]:
    up = sum(1 for worker in workers if worker.up)
    ending = sum(1 for worker in workers if worker.state is State.DRAINING)
    down = len(workers) - up - ending
    if up:
        yield Finding("good", f"{_count(up, 'worker is', 'workers are')} up.")
    for state, one, many in (
        (State.NOT_CONSUMING, "of them takes no tasks", "of them take no tasks"),
        (State.STALLED, "of them is stalled", "of them are stalled"),
    ):
        if number := sum(1 for worker in workers if worker.state is state):
            yield Finding("bad", f"{_count(number, one, many)}.")
    if ending:
        yield Finding("plain", f"{_count(ending, 'worker is', 'workers are')} shutting down.")
    if down:
        yield Finding("bad", f"{_count(down, 'worker is', 'workers are')} down.")


def _queue_findings(queues: Sequence[QueueStatus]) -> Iterator[Finding]:
    left = sum(1 for queue in queues if queue.length and unserved(queue))
    if left:
        them = "it" if left == 1 else "them"
        yield Finding(
            "bad", f"{_count(left, 'queue has', 'queues have')} messages, and nobody serves {them}."
        )
    lengths = [queue.length for queue in queues if queue.length is not None]
    if any(lengths):
        waiting = _count(sum(lengths), "message waits", "messages wait")
        holding = sum(1 for length in lengths if length)
        yield Finding(
            "plain",
            f"{waiting} in {_number(holding)} of {_count(len(lengths), 'queue', 'queues')}.",
        )
    elif lengths:
        yield Finding("plain", f"{_count(len(lengths), 'queue is', 'queues are')} empty.")


def _count(number: int, one: str, many: str) -> str:
    return f"{_number(number)} {one if number == 1 else many}"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _ago(seconds: float) -> str:
    if seconds < 1:
        return "just now"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _utc(when: float) -> str:
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
