"""What is known of one worker."""

from __future__ import annotations

from dataclasses import dataclass, replace

from celery_vitals.workers.processes import Processes, instances, settled
from celery_vitals.workers.stall_detection import Suspicion
from celery_vitals.workers.stats import Stats

_NEVER = float("-inf")
_PIDS = 4
"""Processes of a worker that are remembered by their heartbeats."""


@dataclass(frozen=True)
class Worker:
    """One worker, known by its full node name."""

    name: str
    seen: float
    """Monotonic time at which it was last heard of."""
    seen_at: float
    """The same in Unix time."""
    replied_at: float | None = None
    """Unix time of its last answer to remote control."""
    replied: bool = False
    """Whether it answered in the last round."""
    reply_seconds: float | None = None
    silent_rounds: int = 0
    processes: Processes = ()
    """Those that answer under its name; see `processes`."""
    restarts: int = 0
    """Those seen."""
    connected: bool | None = None
    """Whether the broker still counts it, by the last round in which it was silent; None while that is not known."""
    heartbeat_at: float | None = None
    """Unix time of its last heartbeat; None where it has sent none."""
    heartbeat_seen: float = _NEVER
    """The same in monotonic time."""
    offline: bool = False
    """Whether it has said that it goes, and nothing since."""
    offline_seen: float = _NEVER
    """Monotonic time at which it said so."""
    finishing: bool = False
    """Whether it had tasks to end when it said so, as far as is known."""
    active: int | None = None
    """Tasks that it runs, by its last heartbeat."""
    begun_by_then: int | None = None
    """Tasks that it had begun when it said so."""
    begun: int | None = None
    """Tasks that its process has begun, by whatever told it last."""
    pids: tuple[int, ...] = ()
    """Of its processes, by its heartbeats; the last one comes last."""
    version: str = ""
    """Of its Celery, by its heartbeats."""
    down_since: float | None = None
    """Monotonic time of the first round in which it was down: from then on it is shown as down, and then forgotten."""
    queues: frozenset[str] | None = None
    queues_asked: float = _NEVER
    """Monotonic time of the answer that `queues` comes from."""
    suspicion: Suspicion | None = None
    """What looks wrong with it."""

    @property
    def stats(self) -> Stats | None:
        """Its last reply to `stats`; that of the process which leads, where there are several."""
        return self.processes[0].stats if self.processes else None

    @property
    def started_at(self) -> float | None:
        """Unix time."""
        return self.processes[0].started if self.processes else None

    @property
    def instances(self) -> int:
        """How many processes answer under its name."""
        return instances(self.processes)

    @property
    def has_free_slots(self) -> bool:
        """Whether it certainly has one: it had one at its last heartbeat, and has begun nothing since."""
        slots = self.stats.slots if self.stats is not None else None
        if slots is None or self.active is None or self.begun is None:
            return False
        return self.begun == self.begun_by_then and self.active < slots

    def told_by(self, pid: int | None) -> Worker:
        """A heartbeat comes from this process.  Another one makes a restart, unless replies tell of those better, or it
        has been here before: then two processes share the name."""
        if pid is None or self.pids[-1:] == (pid,):
            return self
        restarted = bool(self.pids) and pid not in self.pids and not self.processes
        pids = (*(one for one in self.pids if one != pid), pid)[-_PIDS:]
        return replace(self._anew(restarted), pids=pids)

    def settled(self) -> Worker:
        """All answers of a round are in."""
        processes, restarted = settled(self.processes)
        worker = replace(self._anew(True), queues_asked=_NEVER) if restarted else self
        begun = worker.begun
        if (
            processes
            and not processes[0].silent
            and self.pids[-1:] in ((), (processes[0].stats.pid,))
        ):
            begun = max(begun or 0, processes[0].stats.processed)
        return replace(worker, processes=processes, begun=begun)

    def _anew(self, restarted: bool) -> Worker:
        return replace(
            self, restarts=self.restarts + restarted, begun=None, begun_by_then=None, suspicion=None
        )
