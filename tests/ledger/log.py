"""The log that the tasks write: every execution with its start, its end and its process."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Run:
    """One execution of a task."""

    uuid: str
    attempt: int
    worker: str
    pid: int
    """Of the process in which the task ran."""
    main: int
    """Of the worker process, which sends the events."""
    started: float
    ended: float | None = None
    """None when its process was killed before."""
    died: float | None = None
    """When its process was killed while it ran."""
    start_arrived: bool = False
    end_event: str = ""
    """Type of the event of its end that arrived."""
    end_at: float = 0.0
    """Time in that event."""
    requeued: bool = False
    """Whether that event announces a further delivery."""

    @property
    def stopped(self) -> float:
        """When it ended or was killed; infinity while it runs."""
        if self.ended is not None:
            return self.ended
        return self.died if self.died is not None else float("inf")

    @property
    def complete(self) -> bool:
        """Whether all its events arrived that its log implies."""
        return self.start_arrived and (self.ended is None or bool(self.end_event))


def lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of all processes; a line that was cut ends its file."""
    for file in sorted(folder.glob("*.log")):
        for line in file.read_text().splitlines():
            yield json.loads(line)


def read_log(folder: Path, mains: Set[int]) -> dict[str, list[Run]]:
    """Return the executions of each task id in the order of their starts.

    `mains` are the pids of all worker processes.
    """
    found: dict[str, list[Run]] = defaultdict(list)
    open_runs: dict[tuple[int, str], list[Run]] = defaultdict(list)
    for line in lines(folder):
        key = (line["pid"], line["uuid"])
        if line["event"] == "start":
            main = line["parent"] if line["parent"] in mains else line["pid"]
            run = Run(line["uuid"], line["attempt"], line["worker"], line["pid"], main, line["at"])
            found[run.uuid].append(run)
            open_runs[key].append(run)
        else:
            open_runs[key].pop(0).ended = line["at"]
    for runs in found.values():
        runs.sort(key=lambda one: one.started)
    return dict(found)
