"""The processes that reply under one node name.

Usually one process and, after a restart, its successor; several by misconfiguration.  A reply is
assigned to a process by its process id and start time (in containers every process has the same
id).  One process is the leader: its counters are exported for as long as it replies, even if others
reply as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from celery_vitals.workers.stats import Stats

QUIET_AFTER = 3
"""Rounds without a reply after which a round no longer waits for a worker, and after which a
process is considered gone."""
_START_TOLERANCE = 3.0
"""Seconds by which the start times from two replies of one process may differ: uptime is reported
in whole seconds."""
MAX_PROCESSES = 16
"""Processes of one name that are tracked separately."""


@dataclass(frozen=True)
class Process:
    """One process, by its latest reply."""

    stats: Stats
    started: float | None
    """Unix time, computed once: uptime is reported in whole seconds only."""
    silent_rounds: int = 0
    """Rounds since its latest reply."""
    new: bool = True
    """Whether its first reply came in this round."""
    replaced: bool = False
    """Whether another process has taken its place; a further reply proves otherwise."""


Processes = tuple[Process, ...]
"""The processes of one name, the leader first."""


def begin_round(processes: Processes) -> Processes:
    """Return the processes at the start of a round."""
    return tuple(replace(one, silent_rounds=one.silent_rounds + 1, new=False) for one in processes)


def record_reply(
    processes: Processes, stats: Stats, seconds: float, late: bool, now: float
) -> Processes:
    """Assign a reply that came `seconds` after the request; a late one answers the round before."""
    started = now - stats.uptime if stats.uptime is not None else None
    place = _match(processes, stats, started, seconds, late)
    if place is None:
        return (
            (*processes, Process(stats, started, silent_rounds=int(late)))
            if len(processes) < MAX_PROCESSES
            else processes
        )
    one = processes[place]
    silent_rounds = min(one.silent_rounds, 1) if late else 0
    one = replace(one, stats=stats, silent_rounds=silent_rounds, replaced=one.replaced and late)
    return (*processes[:place], one, *processes[place + 1 :])


def elect_leader(processes: Processes) -> tuple[Processes, bool]:
    """Return the processes after all replies of a round, and whether the leader has changed."""
    if not processes:
        return processes, False
    leader, *others = processes
    others = [one for one in others if one.silent_rounds < QUIET_AFTER]
    if leader.silent_rounds:
        new = next((one for one in others if one.new and not _overlap(leader, one)), None)
        replying = (
            next((one for one in others if not one.silent_rounds), None)
            if leader.silent_rounds >= QUIET_AFTER
            else None
        )
        successor = new or replying
        if successor is not None:
            others.remove(successor)
            return (successor, *others, replace(leader, replaced=True)), True
    return (leader, *others), False


def instances(processes: Processes) -> int:
    """Return the number of processes that reply."""
    return sum(1 for one in processes if not one.replaced and one.silent_rounds < QUIET_AFTER)


def _overlap(leader: Process, other: Process) -> bool:
    """Return whether the other process had started when the leader replied last: it is a second
    process of the name then, and no restarted one."""
    if leader.started is None or other.started is None:
        return False
    return other.started < leader.started + (leader.stats.uptime or 0.0) - _START_TOLERANCE


def _match(
    processes: Processes, stats: Stats, started: float | None, seconds: float, late: bool
) -> int | None:
    """Return the index of the process that sent a reply; None for a new process.

    A process replies once per request.  The clock of a single process may be adjusted: only another
    process id or an uptime that went back makes its reply that of another process.
    """
    candidates = [
        (abs((one.started or 0.0) - (started or 0.0)), place)
        for place, one in enumerate(processes)
        if stats.pid == one.stats.pid
        and not _uptime_went_back(stats, one.stats)
        and (late or one.silent_rounds)
    ]
    if not candidates:
        return None
    distance, place = min(candidates)
    return place if len(processes) == 1 or distance <= _START_TOLERANCE + seconds else None


def _uptime_went_back(stats: Stats, before: Stats) -> bool:
    return stats.uptime is not None and before.uptime is not None and stats.uptime < before.uptime
