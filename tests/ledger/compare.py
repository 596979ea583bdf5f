"""The counts of the exporter beside those of the log."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .observer import Observer, SeenCase
from .truth import KINDS, Truth


@dataclass
class Row:
    """One kind of the table."""

    true: int = 0
    """By the log, over all task ids."""
    counted: int = 0
    """By the exporter, over all task ids."""
    certain: int = 0
    """By the log, of the task ids whose events all arrived: the exporter must equal it."""
    certain_counted: int = 0
    close: int = 0
    """Differences between two times that are too close to decide their order."""
    not_counted: int = 0
    """True, and not counted, because events were missing."""
    only_counted: int = 0
    """Counted, and not true, because events were missing."""


@dataclass
class Comparison:
    """All task ids."""

    rows: dict[str, Row] = field(default_factory=lambda: {kind: Row() for kind in KINDS})
    ids: int = 0
    complete: int = 0
    wrong: list[str] = field(default_factory=list)
    """What the exporter must not have counted or missed."""

    def table(self) -> str:
        """Return the table."""
        head = (
            "", "true", "counted", "certain", "counted", "close", "not counted", "only counted",
        )  # fmt: skip
        lines: list[tuple[str, ...]] = [head]
        for kind, row in self.rows.items():
            lines.append((kind, *(str(value) for value in vars(row).values())))
        widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
        text = "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        )
        return f"{text}\n{self.ids} task ids, all events of {self.complete} arrived"


def compare(truths: Mapping[str, Truth], cases: Iterable[SeenCase]) -> Comparison:
    """Compare the cases of the exporter with the log."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        if case.kind in KINDS and not case.found:
            counted[case.uuid][case.kind] += 1
    result = Comparison()
    for uuid, truth in truths.items():
        result.ids += 1
        result.complete += truth.complete
        _compare_one(result, uuid, truth, counted.pop(uuid, Counter()))
    for uuid, kinds in counted.items():
        result.wrong.append(f"{uuid} is in no log: {dict(kinds)}")
    return result


def _compare_one(result: Comparison, uuid: str, truth: Truth, counted: Counter[str]) -> None:
    certain = truth.complete and not truth.close
    for kind, row in result.rows.items():
        expected, got = truth.expected[kind], counted[kind]
        row.true += expected
        row.counted += got
        if certain:
            row.certain += expected
            row.certain_counted += got
        elif truth.close:
            row.close += abs(expected - got)
        else:
            row.not_counted += max(0, expected - got)
            row.only_counted += max(0, got - expected)
    if certain and any(truth.expected[kind] != counted[kind] for kind in KINDS):
        result.wrong.append(f"{uuid}: {_text(truth.expected)} expected, {_text(counted)} counted")
        result.wrong += [f"    {run}" for run in truth.runs]
    if counted["lost"] and all(run.ended is not None and run.complete for run in truth.runs):
        result.wrong.append(f"{uuid}: false loss, {_text(counted)} counted")


LEFT = (
    ("task_succeeded_total", 1), ("task_failed_total", 1), ("task_revoked_total", 1),
    ("task_rejected_total", 1), ("task_requeued_total", -1), ("task_retried_total", 1),
    ("task_lost_total", 1), ("task_found_total", -1), ("task_redelivered_total", 1),
)  # fmt: skip
INSIDE = ("task_in_flight", "task_orphaned")


def undecided(truths: Mapping[str, Truth], cases: Iterable[SeenCase]) -> list[str]:
    """Return the executions without an end for which the exporter has no case."""
    known = {case.uuid for case in cases}
    return [
        f"{uuid} has no case: {truth.runs}"
        for uuid, truth in truths.items()
        if uuid not in known and any(run.ended is None and not run.end_event for run in truth.runs)
    ]


def books(observer: Observer) -> dict[str, float]:
    """Return what entered, left and is inside, and the balance less the ends known as unknown."""
    total = observer.total
    entered = total("task_sent_total") + total("task_without_sent_event")
    left = sum(sign * total(name) for name, sign in LEFT)
    left += total("task_end_unknown_total", reason="silent")
    left -= total("task_lost_total", reason="child_killed")
    inside = sum(map(total, INSIDE))
    unknown = ("missed", "no_message", "evicted")
    ends_unknown = sum(total("task_end_unknown_total", reason=reason) for reason in unknown)
    found = {"entered": entered, "left": left, "inside": inside, "end unknown": ends_unknown}
    return {**found, "balance": entered - left - inside - ends_unknown}


def check_counters(observer: Observer) -> list[str]:
    """Return the counters that differ from the cases."""
    kinds = Counter(case.kind for case in observer.cases)
    kinds["found"] = sum(case.found for case in observer.cases if case.kind == "lost")
    return [
        f"celery_task_{kind}_total is {total:g}, of {kinds[kind]} cases"
        for kind in (*KINDS, "found")
        if (total := observer.total(f"task_{kind}_total")) != kinds[kind]
    ]


def _text(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in kinds.items() if count) or "nothing"
