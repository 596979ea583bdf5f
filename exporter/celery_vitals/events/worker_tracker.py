"""What the events tell of each worker process: its clock, what runs, and how many of its events never arrived."""

from __future__ import annotations

from celery_vitals.events.task_state import TaskState

_SKEW = 5.0
"""Seconds by which a clock must be off before it is corrected: less cannot be told from the way of an event."""
_MUTE = 5
"""Heartbeats in a row with tasks started and none told of, after which task events are taken to be switched off."""
_SETTLES = 5.0
"""Seconds within which a worker tells which queues it consumes, or is taken not to (its remote control may be off)."""
_SHARED = 300.0
"""Seconds for which two processes are taken to share a name, after the last sign of both."""
_FORMER = 8
_UNSURE = 2
"""Heartbeats of a new process after which the one before it, were it alive, would have been heard as well."""
_WINDOW = 300.0
"""Seconds over which the fastest event is looked for, which tells the difference of the clocks best."""


class Clock:
    """How far the clock of a host is behind the exporter's: the least that an event ever took, of the last minutes."""

    __slots__ = ("_before", "_now", "_since", "correction")

    def __init__(self) -> None:
        self._before = self._now = float("inf")
        self._since = 0.0
        self.correction = 0.0
        """Seconds to add to a time of this host; 0 while the difference may be the way of the events."""

    @property
    def behind(self) -> float:
        """Seconds, the way of the fastest event included; infinite before the first."""
        return min(self._before, self._now)

    def heard(self, timestamp: float, arrived: float) -> None:
        """Note that an event of this time has arrived then."""
        difference = arrived - timestamp
        if arrived - self._since > _WINDOW:
            self._since, self._before, self._now = arrived, self._now, difference
        elif difference < self._now:
            self._now = difference
        else:
            return
        behind = self.behind
        self.correction = behind if abs(behind) > _SKEW else 0.0


class WorkerTracker:
    """One worker, as its events show it."""

    __slots__ = (
        "_base",
        "_before",
        "_born",
        "_former",
        "_mute",
        "_said",
        "_seen",
        "_shared_until",
        "_unsure",
        "clock",
        "down",
        "heard",
        "leaving",
        "missed",
        "name",
        "pid",
        "queue",
        "running",
        "settled",
        "started",
        "tells_tasks",
    )

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self._born = now
        self.clock = Clock()
        self.pid: int | None = None
        self.running: dict[str, TaskState] = {}
        """The tasks that run, by uuid."""
        self.queue: str | None = None
        """The one queue it consumes, where that is certain."""
        self.settled = False
        """Whether it is known which queues it consumes, or that it does not tell."""
        self.started = 0
        """Tasks of this process that were seen to start, and those already counted as missed."""
        self.tells_tasks: bool | None = None
        """Whether its task events are on; None while that is not known."""
        self.missed = 0
        """Starts that its own count has and that no event told of."""
        self.heard = 0.0
        """When an event of it last arrived."""
        self.down = False
        """Whether nobody hears of it, so that nothing is known to run there."""
        self.leaving = False
        """Whether it has said that it goes, and all that it runs is known."""
        self._former: tuple[int, ...] = ()
        self._shared_until = 0.0
        self._unsure = 0
        self._base: int | None = None
        self._before: int | None = None
        self._said = (0, 0.0)
        self._seen = 0
        self._mute = 0

    def process(self, pid: int | None) -> None:
        """Note the process that an event comes from; another one means that the worker was restarted, and one that was
        here before, that two share the name."""
        if pid is None or pid == self.pid:
            return
        if pid in self._former:
            self.share()
        if self.pid is not None:
            self._former = (*(one for one in self._former if one != self.pid), self.pid)[-_FORMER:]
            self._restarted()
        self.pid = pid

    def share(self) -> None:
        """Two processes have its name: for a while, nothing follows from what either says of itself."""
        self._shared_until = self.heard + _SHARED

    @property
    def shared(self) -> bool:
        """Whether several processes have its name."""
        return self.heard < self._shared_until

    def consumes(self, queues: frozenset[str] | None, now: float) -> None:
        """Note which queues it consumes, where that is known."""
        self.settled = queues is not None or now - self._born > _SETTLES
        self.queue = next(iter(queues)) if queues is not None and len(queues) == 1 else None

    def saw_start(self) -> None:
        """A task-started event."""
        self.started += 1
        self.tells_tasks = True

    def heartbeat(self, processed: int | None) -> int:
        """Compare the worker's own count of started tasks with those seen; how many more are missed now.

        Events may be behind their heartbeat, so what one counts is looked for when the next comes.  Or ahead of it (on
        gevent and eventlet), so what was seen until one must be in the count of the next, and not in its own.
        """
        if processed is None:
            return 0
        if self.shared:
            self._base = self._before = None
            self.started = self._seen = 0
            return 0
        if (
            self._before is not None and processed < self._before
        ):  # in containers every process has the same pid
            self._restarted()
        before, self._before = self._before, processed
        if self._base is None:
            self._base, self._seen = processed - self.started, self.started
            return 0
        if self._unsure:
            self._unsure -= 1
            return 0
        late = before - self._base - self.started if before is not None else 0
        self._base = min(self._base, processed - self._seen)
        self._mute = self._mute + 1 if late > 0 and self.started == self._seen else 0
        self._seen = self.started
        if late <= 0:
            return 0
        if self._mute >= _MUTE or self.tells_tasks is None:
            self.tells_tasks = False
        if not self.tells_tasks:
            self._base += late
            return 0
        self.started += late
        self._seen = self.started
        self.missed += late
        return late

    def _restarted(self) -> None:
        if self.shared:
            return
        self._unsure = _UNSURE
        # Its count begins at 0, so whatever it has begun unheard shows.
        self.started, self._seen, self._base, self._before, self._said = 0, 0, 0, None, (0, 0.0)
        self.forget()

    def runs(self, active: int, at: float) -> list[str]:
        """Take its word that it runs so many tasks; which ones have ended, by its word before, without an event.

        Not by this one: the events of what has just ended may be behind it.  Taken for over are first those of a name
        that is known to end without an event, then those that began first.
        """
        if self.shared:
            return []
        (count, before), self._said = self._said, (max(active, 0), at)
        known = sorted(
            (not one.name.ends_silently, one.started, uuid)
            for uuid, one in self.running.items()
            if one.started < before
        )
        over = [uuid for _, _, uuid in known[: max(0, len(known) - count)]]
        for uuid in over:
            record = self.running.pop(uuid)
            record.name.ends_silently = record.name.ends_silently or count == 0
        return over

    def forget(self) -> None:
        """Nobody knows it any more: what it ran is given up in its time."""
        for record in self.running.values():
            record.started = 0.0
        self.running.clear()

    def lost(self) -> None:
        """Events were lost.  What has ended among them shows by its word; where it gives none, nobody knows."""
        if not self.gives_its_word:
            self.forget()

    def bound(self, slots: int | None, since: float) -> None:
        """Where it gives no word: it runs no more than it has slots for, and nothing that began before `since`."""
        if self.gives_its_word:
            return
        over = len(self.running) - slots if slots is not None and not self.shared else 0
        for place, (uuid, record) in enumerate(list(self.running.items())):
            if place < over or record.started < since:
                del self.running[uuid]
                record.started = 0.0

    @property
    def gives_its_word(self) -> bool:
        """Whether it says how many tasks it runs, which it does in its heartbeats."""
        return self.said_at > 0 and not self.shared

    @property
    def said_at(self) -> float:
        """The time of the word that `runs` will go by next."""
        return self._said[1]

    def shift(self, seconds: float) -> None:
        """Its clock was found to be off by so much more: what runs has begun so much later."""
        for record in self.running.values():
            record.started += seconds
