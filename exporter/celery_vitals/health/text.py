"""The health document as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
Style = Callable[[str, str], str]
"""Returns a text in the style of a status: healthy, degraded, unhealthy, unknown or info."""
_UNKNOWN = "-"
_RECENT = 15.0
"""Seconds; the age of older results is shown."""


def plain(text: str, _: str) -> str:
    """Return the text as it is."""
    return text


def lines(document: Document, verbose: bool = False, style: Style = plain) -> Iterator[str]:
    """Yield the verdict, the findings with what to do, and the state of each area.

    `verbose` adds workers, queues, and what is unknown.
    """
    yield style(printable(_headline(document)), document["status"])
    for finding in document["findings"]:
        yield ""
        yield from _finding(finding, style)
    yield ""
    yield from _areas(document, style)
    if verbose:
        yield from _details(document)


def _headline(document: Document) -> str:
    findings = len(document["findings"])
    text = f"{document['status']}: {_count(findings, 'finding')}"
    age = document["age_seconds"]
    return text if age is None or age < _RECENT else f"{text}, {age:.0f} s ago"


def _finding(finding: Mapping[str, Any], style: Style) -> Iterator[str]:
    severity = finding["severity"]
    title = f"{severity}  {finding['code']}"
    yield f"{style(title, severity)}  {printable(finding['message'])}"
    for label in ("recommendation", "runbook"):
        if finding[label]:
            yield f"  {printable(finding[label])}"
    yield f"  since {finding['since']}"


def _areas(document: Document, style: Style) -> Iterator[str]:
    statuses = {area: status.replace("_", " ") for area, status in document["checks"].items()}
    wide, wider = max(map(len, statuses)), max(map(len, statuses.values()))
    for area, status in statuses.items():
        shown = style(status.ljust(wider), document["checks"][area])
        yield f"{area:<{wide}}  {shown}  {printable(_summary(area, document))}".rstrip()


def _summary(area: str, document: Document) -> str:
    facts = document.get(area) or {}
    if area in ("broker", "backend"):
        return " ".join(filter(None, (facts.get("address"), facts.get("reason"))))
    if facts.get("count") is None:
        return ""
    if area == "workers":
        return f"{facts['up']} of {facts['count']} up (minimum {facts['minimum']})"
    known = [row["length"] for row in facts["list"] if row["length"] is not None]
    waiting = f", {_count(sum(known), 'message')} waiting" if known else ""
    return f"{_count(facts['count'], 'queue')}{waiting}"


def _details(document: Document) -> Iterator[str]:
    workers, queues = document["workers"], document["queues"]
    if workers["list"]:
        yield ""
        yield from _table(
            ("WORKER", "STATE", "POOL", "SLOTS", "QUEUES"),
            [
                (one["name"], one["state"], one["pool"], one["slots"], ",".join(one["queues"]))
                for one in workers["list"]
            ],
            workers["omitted"],
        )
    if queues["list"]:
        yield ""
        yield from _table(
            ("QUEUE", "LENGTH", "LIMIT", "WORKERS", "CONSUMERS"),
            [
                tuple(one[key] for key in ("name", "length", "limit", "workers", "consumers"))
                for one in queues["list"]
            ],
            queues["omitted"],
        )
    for spot in document["unknown"]:
        setting = f" ({spot['setting']})" if spot["setting"] else ""
        yield ""
        yield printable(f"unknown  {spot['subject']}  {spot['reason']}{setting}")


def _table(header: tuple[str, ...], rows: Sequence[tuple[Any, ...]], omitted: int) -> Iterator[str]:
    yield from _aligned([header, *(tuple(map(_cell, row)) for row in rows)])
    if omitted:
        yield f"{omitted} more"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _cell(value: Any) -> str:
    return _UNKNOWN if value in (None, "") else printable(str(value))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """Replace control characters: names come from messages, and the reader is a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)
