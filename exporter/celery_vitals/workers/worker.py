"""The record of one worker, and of a suspicion that it has stalled."""

from __future__ import annotations

from dataclasses import dataclass, replace

from celery_vitals.workers.processes import (
    Processes,
    begin_round,
    elect_leader,
    instances,
    record_reply,
)
from celery_vitals.workers.stats import Stats

_NEVER = float("-inf")
_QUEUES_FRESH = 30.0
"""Seconds for which a worker's reply to `active_queues` is reused."""
_MAX_PIDS = 4
"""Process ids of a worker that are remembered from its heartbeats."""


@dataclass(frozen=True)
class Suspicion:
    """A suspicion that a worker has stalled; `stall_detection` raises and confirms it."""

    unconsumed: bool
    """Whether the broker counts no consumer on the worker's queues; otherwise messages wait in them
    and the worker starts none."""
    takes_none: bool
    """Whether the worker observably takes no message; otherwise it may hold some without starting
    them."""
    since: float
    """Monotonic time of the first observation of this kind."""
    last: float
    """Monotonic time of the latest observation."""
    observations: int
    """Consecutive observations that agree."""
    tasks_started: int | None
    """Tasks that the worker had started at the first observation."""
    waiting: int
    """Messages in the worker's queues at the latest observation."""
    start_interval: float | None = None
    """Seconds between two starts that the rate limits of the worker's tasks may require; None until
    the worker has reported its rate limits."""


@dataclass(frozen=True)
class Worker:
    """One worker, identified by its full node name."""

    name: str
    seen: float
    """Monotonic time of its latest sign of life."""
    seen_at: float
    """Unix time of its latest sign of life."""
    replied_at: float | None = None
    """Unix time of its latest reply to remote control."""
    replied: bool = False
    """Whether it replied in the last round."""
    reply_seconds: float | None = None
    """Seconds from the request to its latest reply."""
    silent_rounds: int = 0
    """Rounds since its latest reply."""
    processes: Processes = ()
    """The processes that reply under its name, the leader first."""
    restarts: int = 0
    """Restarts observed."""
    broker_connected: bool | None = None
    """Whether the broker counts it as connected, by the last round without a reply; None while
    unknown."""
    connected_seen: float = _NEVER
    """Monotonic time at which the broker last counted it as connected, for certain."""
    heartbeat_at: float | None = None
    """Unix time of its latest heartbeat; None without any."""
    heartbeat_seen: float = _NEVER
    """Monotonic time of its latest heartbeat."""
    online_seen: float = _NEVER
    """Monotonic time of its latest online event, which it sends when it starts."""
    offline: bool = False
    """Whether its latest event is the offline event."""
    offline_seen: float = _NEVER
    """Monotonic time of its offline event."""
    draining: bool = False
    """Whether it had running tasks at its offline event and has not completed them, as far as
    observed."""
    active: int | None = None
    """Running tasks, by its latest heartbeat."""
    tasks_started_at_heartbeat: int | None = None
    """Tasks that it had started at that heartbeat."""
    tasks_started: int | None = None
    """Tasks that its process has started, by the latest heartbeat or reply."""
    pids: tuple[int, ...] = ()
    """Process ids in its heartbeats; the latest one last."""
    new_pid: bool = False
    """Whether the latest one is new, and only one heartbeat has had it."""
    version: str = ""
    """Version of its Celery, by its heartbeats."""
    down_since: float | None = None
    """Monotonic time of the first round in which it was down.  It is shown as down from then on,
    and removed later."""
    queues: frozenset[str] | None = None
    """The queues that it consumes, those of a Broadcast by its exchange; None while unknown."""
    broadcasts: frozenset[str] = frozenset()
    """Those of them that are of a Broadcast: each worker has one of its own, which is not read."""
    queues_asked: float = _NEVER
    """Monotonic time of the reply that `queues` comes from."""
    suspicion: Suspicion | None = None
    """The suspicion that it has stalled, None without one."""

    @property
    def stats(self) -> Stats | None:
        """The latest reply to `stats`; with several processes, the leader's."""
        return self.processes[0].stats if self.processes else None

    @property
    def started_at(self) -> float | None:
        """Unix time at which the process started; None while unknown."""
        return self.processes[0].started if self.processes else None

    @property
    def read_queues(self) -> frozenset[str]:
        """The queues that it consumes and whose lengths are read."""
        return (self.queues or frozenset()) - self.broadcasts

    @property
    def instances(self) -> int:
        """Number of processes that reply under its name."""
        return instances(self.processes)

    @property
    def free_slot_confirmed(self) -> bool:
        """Whether a slot is certainly free: one was free at the latest heartbeat, and no task has
        started since."""
        slots = self.stats.slots if self.stats is not None else None
        if slots is None or self.active is None or self.tasks_started is None:
            return False
        return self.tasks_started == self.tasks_started_at_heartbeat and self.active < slots

    def has_stale_queues(self, now: float) -> bool:
        """Return whether its reply to `active_queues` is missing or old, or must be confirmed
        because of a suspicion."""
        return (
            now - self.queues_asked > _QUEUES_FRESH
            or not self.queues
            or (self.suspicion is not None and self.queues_asked <= self.suspicion.since)
        )

    def before_round(self) -> Worker:
        """Return the record at the start of a round."""
        return replace(
            self,
            replied=False,
            silent_rounds=self.silent_rounds + 1,
            processes=begin_round(self.processes),
        )

    def with_reply(
        self,
        stats: Stats | None,
        seconds: float,
        late: bool,
        offline: bool,
        now: float,
        unix: float,
    ) -> Worker:
        """Return the record after a reply, which has no `stats` if it is an error."""
        return replace(
            self,
            seen=now,
            seen_at=unix,
            replied_at=unix,
            offline=offline,
            replied=self.replied or not late,
            silent_rounds=0,
            reply_seconds=seconds,
            processes=record_reply(self.processes, stats, seconds, late, unix)
            if stats
            else self.processes,
        )

    def with_connection(self, connected: bool | None, counted: bool | None, now: float) -> Worker:
        """Return the record after the broker has counted it as connected, or not; `counted` is None
        where this count is not certain."""
        seen = now if counted else self.connected_seen
        return replace(self, broker_connected=connected, connected_seen=seen)

    def with_queues(self, queues: frozenset[str], broadcasts: frozenset[str], now: float) -> Worker:
        """Return the record after a reply to `active_queues`."""
        if self.instances > 1:  # each process replies with its own queues
            queues |= self.queues or frozenset()
            broadcasts |= self.broadcasts
        return replace(self, queues=queues, broadcasts=broadcasts, queues_asked=now)

    def with_heartbeat(
        self, active: int | None, processed: int | None, now: float, unix: float
    ) -> Worker:
        """Return the record after a heartbeat with these numbers of running and started tasks."""
        before = self.tasks_started
        return replace(
            self,
            seen=now,
            seen_at=unix,
            heartbeat_at=unix,
            heartbeat_seen=now,
            offline=False,
            active=active if active is not None else self.active,
            tasks_started=processed if before is None else max(before, processed or 0),
            tasks_started_at_heartbeat=processed
            if active is not None
            else self.tasks_started_at_heartbeat,
        )

    def with_offline(self, active: int | None, now: float, unix: float) -> Worker:
        """Return the record after an offline event, sent while `active` tasks were running.

        The next process of this name, in a container with the same process id, starts without a
        suspicion.
        """
        return replace(
            self,
            offline=True,
            offline_seen=now,
            draining=bool(self.active if active is None else active),
            seen=now,
            seen_at=unix,
            suspicion=None,
        )

    def with_heartbeat_from(self, pid: int | None) -> Worker:
        """Return the record after a heartbeat of the process `pid`.

        A new process id counts as a restart with its second heartbeat in a row: between the two, a
        process that still lives would have sent its own, and then they share the name.  Not where
        replies identify the processes: they are more reliable.
        """
        if pid is None:
            return self
        if self.pids[-1:] == (pid,):
            restarted = self.new_pid and not self.processes
            return replace(self, restarts=self.restarts + restarted, new_pid=False)
        new_pid = bool(self.pids) and pid not in self.pids
        pids = (*(one for one in self.pids if one != pid), pid)[-_MAX_PIDS:]
        return replace(self._with_new_process(False), pids=pids, new_pid=new_pid)

    def after_round(self) -> Worker:
        """Return the record after all replies of a round."""
        processes, restarted = elect_leader(self.processes)
        worker = replace(self._with_new_process(True), queues_asked=_NEVER) if restarted else self
        started = worker.tasks_started
        if (
            processes
            and not processes[0].silent_rounds
            and self.pids[-1:] in ((), (processes[0].stats.pid,))
        ):
            started = max(started or 0, processes[0].stats.processed)
        return replace(worker, processes=processes, tasks_started=started)

    def _with_new_process(self, restarted: bool) -> Worker:
        return replace(
            self,
            restarts=self.restarts + restarted,
            tasks_started=None,
            tasks_started_at_heartbeat=None,
            suspicion=None,
        )
