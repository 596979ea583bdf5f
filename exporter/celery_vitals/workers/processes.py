"""The processes that answer under one node name: one, its successor after a restart, or several by mistake.

Each answer belongs to a process, told by its number and by when it started (in containers every process has the same
number).  One of them leads: its counters are shown, and stay shown while it answers, whatever others say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from celery_vitals.workers.stats import Stats

QUIET_AFTER = 3
"""Rounds without an answer after which a worker no longer holds up the others, and a process is taken to be gone."""
_SLACK = 3.0
"""Seconds by which two answers of one process may differ in when it started: they tell whole seconds."""


MOST = 16
"""Processes of one name that are told apart."""


@dataclass(frozen=True)
class Process:
    """One process, as it last answered."""

    stats: Stats
    started: float | None
    """Unix time, taken once: a worker tells its uptime in whole seconds only."""
    silent: int = 0
    """Rounds since it last answered."""
    new: bool = True
    """Whether it was first heard of in this round."""
    replaced: bool = False
    """Whether another has taken its place; one that answers nevertheless never was."""


Processes = tuple[Process, ...]
"""The one that leads comes first."""


def aged(processes: Processes) -> Processes:
    """A round begins."""
    return tuple(replace(one, silent=one.silent + 1, new=False) for one in processes)


def heard(processes: Processes, stats: Stats, seconds: float, late: bool, now: float) -> Processes:
    """One has answered, so many seconds after it was asked; a late answer is to the round before."""
    started = now - stats.uptime if stats.uptime is not None else None
    place = _place(processes, stats, started, seconds, late)
    if place is None:
        return (
            (*processes, Process(stats, started, silent=int(late)))
            if len(processes) < MOST
            else processes
        )
    one = processes[place]
    silent = min(one.silent, 1) if late else 0
    one = replace(one, stats=stats, silent=silent, replaced=one.replaced and late)
    return (*processes[:place], one, *processes[place + 1 :])


def settled(processes: Processes) -> tuple[Processes, bool]:
    """All answers of a round are in: who leads, and whether that is another one than before."""
    if not processes:
        return processes, False
    leader, *others = processes
    others = [one for one in others if one.silent < QUIET_AFTER]
    if leader.silent:
        came = next((one for one in others if one.new), None)
        stayed = (
            next((one for one in others if not one.silent), None)
            if leader.silent >= QUIET_AFTER
            else None
        )
        successor = came or stayed
        if successor is not None:
            others.remove(successor)
            return (successor, *others, replace(leader, replaced=True)), True
    return (leader, *others), False


def instances(processes: Processes) -> int:
    """How many answer."""
    return sum(1 for one in processes if not one.replaced and one.silent < QUIET_AFTER)


def _place(
    processes: Processes, stats: Stats, started: float | None, seconds: float, late: bool
) -> int | None:
    """Which of them has answered; None for a new one.

    Nobody answers one question twice.  One that is alone may have its clock set: only a number or an uptime that cannot
    be its own make it another.
    """
    near = [
        (abs((one.started or 0.0) - (started or 0.0)), place)
        for place, one in enumerate(processes)
        if stats.pid == one.stats.pid and not _went_back(stats, one.stats) and (late or one.silent)
    ]
    if not near:
        return None
    distance, place = min(near)
    return place if len(processes) == 1 or distance <= _SLACK + seconds else None


def _went_back(stats: Stats, before: Stats) -> bool:
    return stats.uptime is not None and before.uptime is not None and stats.uptime < before.uptime
