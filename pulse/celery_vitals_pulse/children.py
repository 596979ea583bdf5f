"""The processes of a prefork pool, as the operating system sees them."""

from __future__ import annotations

from typing import Any


def child_pids(pool: Any) -> list[int]:
    """Return the process ids of a pool's children; of other pools none."""
    processes = getattr(getattr(pool, "_pool", None), "_pool", None)
    if not isinstance(processes, list):
        return []
    return [pid for pid in (getattr(one, "pid", None) for one in list(processes)) if pid]


def child_states(pool: Any) -> dict[int, str]:
    """Return the state of each child by its process id, as in /proc; none where that is absent.

    R: running, S and D: waiting, T and t: stopped, Z and X: dead.
    """
    states = {}
    for pid in child_pids(pool):
        fields = stat_fields(pid)
        if fields is not None:
            states[pid] = fields[0]
    return states


def stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on; None without such a process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None
