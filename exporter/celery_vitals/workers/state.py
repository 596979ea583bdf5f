"""What a worker is doing, in one word of a closed set.

Each word but `up` and `gone` takes its own proof, and without it a worker that is heard of is `up`: idle at night, its
slots not known, no heartbeats, remote control off.  Where several would fit, the first of these is said:

| state | proof |
|---|---|
| draining | It has said that it goes, ran tasks then, and is not known to have ended them. At the most for
  --worker-timeout: a process that ends its tasks says nothing, and neither does a dead one. |
| gone | It has said that it goes, or has not been heard of for --worker-timeout. |
| not_consuming | It says itself that it consumes no queue; or a doubt (see `doubt`) has lasted: the broker counts no
  consumer on any of its queues, or messages wait, it has free slots, it begins none and takes none. |
| busy | By its heartbeat it runs as many tasks as it has slots; or its pool is solo, which says nothing while a task
  runs, and it is silent while the broker counts it as connected. From outside, a frozen solo worker looks the same. |
| stalled | A doubt has lasted: messages wait, it has free slots and begins none; and whether it takes any is not known,
  or its hands are full. |
| up | Heard of within --worker-timeout. |
"""

from __future__ import annotations

from enum import Enum

from celery_vitals.workers.worker import Worker

_BEATS = 5.0
"""Seconds without a heartbeat after which a worker that sends them says nothing; it sends one every two by default."""


class State(str, Enum):
    """The states of `celery_worker_state`; exactly one at a time."""

    UP = "up"
    BUSY = "busy"
    NOT_CONSUMING = "not_consuming"
    STALLED = "stalled"
    DRAINING = "draining"
    GONE = "gone"

    @property
    def words(self) -> str:
        """For people."""
        return _WORDS[self]


_WORDS = {
    State.UP: "up",
    State.BUSY: "busy: no slot is free",
    State.NOT_CONSUMING: "up, but takes no tasks",
    State.STALLED: "stalled: tasks wait, slots are free, and it begins none",
    State.DRAINING: "shuts down, and still ends its tasks",
    State.GONE: "down",
}


def state_of(worker: Worker, heard_until: float, timeout: float) -> State:
    """The state, where `heard_until` is the last monotonic time at which anyone could have been heard."""
    recent = heard_until - timeout
    if worker.seen < recent:
        return State.GONE
    if worker.offline:
        return State.DRAINING if worker.finishing else State.GONE
    suspicion = worker.suspicion
    certain = suspicion is not None and suspicion.last >= recent and suspicion.holds(worker)
    if worker.queues == frozenset() and worker.queues_asked >= recent:
        return State.NOT_CONSUMING
    if certain and suspicion is not None and suspicion.takes_none:
        return State.NOT_CONSUMING
    if _busy(worker, heard_until, recent):
        return State.BUSY
    return State.STALLED if certain else State.UP


def _busy(worker: Worker, heard_until: float, recent: float) -> bool:
    stats = worker.stats
    if stats is None or not stats.slots or worker.instances > 1:
        return False
    if worker.active is not None and worker.active >= stats.slots:
        return worker.heartbeat_seen >= recent
    silent = worker.silent_rounds > 0 and heard_until - worker.heartbeat_seen > _BEATS
    return stats.pool == "solo" and silent and worker.connected is True
