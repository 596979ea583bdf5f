"""What happened, by the log: which executions were lost, delivered again, or ran twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .log import Run
from .recorder import ENDS, TaskEvent

KINDS = ("lost", "redelivered", "overlapping", "repeated")
CLOSE = 1.0
"""Seconds between two executions, or an end and a kill, whose order the events may show
differently: they contain the times of the worker process, the log those of the pool process."""

WORKER_TIMEOUT = 15.0
"""Seconds after which the exporter considers a silent worker to be gone."""
DECISION = WORKER_TIMEOUT + 10.0
"""Seconds within which it decides that an execution is lost, without a gap in the events."""


@dataclass(frozen=True)
class Gap:
    """A time in which events may not have arrived at the exporter."""

    since: float
    until: float


@dataclass
class Truth:
    """One task id."""

    runs: list[Run]
    expected: Counter[str] = field(default_factory=Counter)
    complete: bool = True
    """Whether all events of it arrived, so that the exporter must count what is expected."""
    close: bool = False
    """Whether two of its times are too close to decide their order."""
    unlogged: bool = False
    """Whether an execution was announced that was killed before its first line."""


def match_events(runs: Sequence[Run], events: Sequence[TaskEvent]) -> list[TaskEvent]:
    """Assign the events of a task id to its executions; return the starts without a log line."""
    starts: dict[tuple[str, int], list[TaskEvent]] = defaultdict(list)
    ends: dict[tuple[str, int], list[TaskEvent]] = defaultdict(list)
    for event in events:
        (ends if event.kind in ENDS else starts)[event.worker, event.pid].append(event)
    for run in runs:
        key = (run.worker, run.main)
        if starts[key]:
            run.start_arrived = True
            starts[key].pop(0)
        # A process that was killed within the task fails it, or rejects it with requeue.
        fits = [one for one in ends[key] if one.at > run.started - CLOSE]
        if fits:
            event = fits[0]
            ends[key].remove(event)
            run.end_event, run.end_at, run.requeued = event.kind, event.at, event.requeue
    return [event for left in starts.values() for event in left]


def truth_of(
    runs: list[Run],
    events: Sequence[TaskEvent],
    deaths: Mapping[int, float],
    gaps: Sequence[Gap],
) -> Truth:
    """Return what happened to a task id.

    `deaths` has the time of the SIGKILL of each process.
    """
    for run in runs:
        if run.ended is None:
            died = deaths.get(run.pid, deaths.get(run.main))
            run.died = died if died is None else max(died, run.started)
    unlogged = match_events(runs, events)
    truth = Truth(runs, unlogged=bool(unlogged))
    for run in runs:
        died = deaths.get(run.pid)
        if run.ended is not None and died and run.end_event in ("task-failed", "task-rejected"):
            run.ended, run.died = None, died  # killed before it returned the result
    truth.complete = not unlogged and all(run.complete for run in runs)
    for event in unlogged:
        one = Run("", 0, event.worker, event.pid, event.pid, event.at, died=event.at)
        one.start_arrived = True
        runs.append(one)
    runs.sort(key=lambda one: one.started)
    touched = any(_touches(place, runs, gaps) for place in range(len(runs)))
    truth.complete = truth.complete and not touched
    for place, run in enumerate(runs):
        _expect(truth, run, runs[:place], runs[place + 1 :])
    return truth


def _touches(place: int, runs: Sequence[Run], gaps: Sequence[Gap]) -> bool:
    """Return whether events of an execution may be missing, or its state be unknown after one."""
    run = runs[place]
    until = max(run.stopped, run.end_at)
    if run.ended is None and not run.end_event:
        following = runs[place + 1].started if place + 1 < len(runs) else 0.0
        until = max(until + DECISION, following + CLOSE)
    return any(gap.since <= until and run.started <= gap.until for gap in gaps)


def _expect(truth: Truth, run: Run, before: Sequence[Run], after: Sequence[Run]) -> None:
    """Add what one execution must be counted as."""
    later = [one for one in after if one.attempt == run.attempt]
    if run.ended is None and not run.requeued:
        again = later and run.end_event != "task-failed"
        truth.expected["redelivered" if again else "lost"] += 1
    earlier = [one for one in before if one.attempt == run.attempt]
    if any(one.stopped > run.started for one in earlier):
        truth.expected["overlapping"] += 1
        # It was delivered again while the first one ran, whose process was killed later.
        truth.close |= any(one.ended is None and one.stopped > run.started for one in earlier)
    elif any(one.ended is not None for one in earlier):
        truth.expected["repeated"] += 1
    ended = [one for one in earlier if one.ended is not None]
    surely = any(min(one.stopped, one.end_at or one.stopped) > run.started + CLOSE for one in ended)
    near = any(abs(max(one.stopped, one.end_at) - run.started) < CLOSE for one in ended)
    truth.close |= near and not surely
