"""The state of a worker, one of a closed set.

Each state except `up` and `gone` requires its own evidence.  A worker with signs of life and
without that evidence is `up`: idle, slots unknown, no heartbeats, remote control off.  Where
several states apply, the first of this table is reported:

| state | evidence |
|---|---|
| draining | It has sent its offline event, had running tasks then, and is not known to have
  completed them.  For --worker-timeout at most: a process that completes its tasks is as silent as
  a dead one. |
| gone | It has sent its offline event, or has shown no sign of life for --worker-timeout. |
| not_consuming | It reports that it consumes no queue; or a suspicion (see `stall_detection`) is
  confirmed: the broker counts no consumer on any of its queues, or messages wait, it has free
  slots, starts no task and takes no message. |
| busy | By its heartbeat it runs as many tasks as it has slots; or its pool is solo, which is
  silent while a task runs, and it is silent while the broker counts it as connected.  From outside,
  a frozen solo worker looks the same. |
| stalled | A suspicion is confirmed: messages wait, it has free slots and starts no task; and
  whether it takes messages is unknown, or its prefetch limit is reached. |
| up | A sign of life within --worker-timeout. |
"""

from __future__ import annotations

from enum import Enum

from celery_vitals.workers.stall_detection import is_confirmed
from celery_vitals.workers.worker import Worker

_HEARTBEAT_GAP = 5.0
"""Seconds after which a worker that sends heartbeats is silent; the default interval is two
seconds."""


class State(str, Enum):
    """The states of `celery_worker_state`; exactly one at a time."""

    UP = "up"
    BUSY = "busy"
    NOT_CONSUMING = "not_consuming"
    STALLED = "stalled"
    DRAINING = "draining"
    GONE = "gone"

    @property
    def description(self) -> str:
        """The state in a few words, for the status page."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    State.UP: "up",
    State.BUSY: "busy: no slot is free",
    State.NOT_CONSUMING: "up, but takes no tasks",
    State.STALLED: "stalled: tasks wait, slots are free, and none starts",
    State.DRAINING: "shutting down: completes its running tasks",
    State.GONE: "down",
}


def state_of(worker: Worker, observed_until: float, timeout: float) -> State:
    """Return the state of a worker.

    `observed_until` is the latest monotonic time at which signs of life could be received.
    """
    recent = observed_until - timeout
    if worker.seen < recent:
        return State.GONE
    if worker.offline:
        return State.DRAINING if worker.draining else State.GONE
    suspicion = worker.suspicion
    if suspicion is not None and not (suspicion.last >= recent and is_confirmed(suspicion, worker)):
        suspicion = None
    if worker.queues == frozenset() and worker.queues_asked >= recent:
        return State.NOT_CONSUMING
    if suspicion is not None and suspicion.takes_none:
        return State.NOT_CONSUMING
    if _busy(worker, observed_until, recent):
        return State.BUSY
    return State.STALLED if suspicion is not None else State.UP


def _busy(worker: Worker, observed_until: float, recent: float) -> bool:
    stats = worker.stats
    if stats is None or not stats.slots or worker.instances > 1:
        return False
    if worker.active is not None and worker.active >= stats.slots:
        return worker.heartbeat_seen >= recent
    silent = worker.silent_rounds > 0 and observed_until - worker.heartbeat_seen > _HEARTBEAT_GAP
    return stats.pool == "solo" and silent and worker.broker_connected is True
