"""A simulated worker process, with the events that a real one sends."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from random import Random
from typing import Any, Protocol

from tests.support.simulation.broker import Broker, Delivery
from tests.support.simulation.loop import Loop
from tests.support.simulation.messages import CONFIRMING, SILENT, Message, Run, Truth
from tests.support.simulation.network import Network

_PREFETCH = 4
_FAILURES = {
    "failed": ["ValueError('boom')"],
    "timeout": ["TimeLimitExceeded(300.0,)"] * 2,  # a worker of Celery 5.7 reports it twice
    "child_killed": ["WorkerLostError('Worker exited prematurely: signal 9 (SIGKILL) Job: 1.')"],
}
_ENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "retried": ("task-retried", {"exception": "OSError('again')", "traceback": ""}),
    "terminated": ("task-revoked", {"terminated": True, "signum": 15, "expired": False}),
    "rejected": ("task-rejected", {"requeue": False}),
    "requeued": ("task-rejected", {"requeue": True}),
}


@dataclass(frozen=True)
class Node:
    """How a worker is started."""

    name: str
    queues: tuple[str, ...]
    pool: str = "prefork"
    slots: int = 4
    heartbeat: float | None = 2.0
    """Interval of its heartbeats in seconds; None without any."""
    task_events: bool = True
    in_container: bool = False
    """Whether each process has the same pid."""
    pod: bool = False
    """Whether each process has a name of its own."""
    clock: float = 0.0
    """Seconds by which its clock is ahead."""


class World(Protocol):
    """What surrounds a process."""

    loop: Loop
    rng: Random
    broker: Broker
    network: Network
    truth: Truth
    revoked: set[str]

    def send(self, message: Message, sender: str, clock: float) -> None:
        """Send a message, with its task-sent event."""

    def replacement(self, message: Message) -> Message:
        """Return the message that replaces a task."""

    def exited(self, process: Process) -> None:
        """Handle the end of a process."""


@dataclass(eq=False)
class _Active:
    run: Run
    delivery: Delivery


@dataclass(eq=False)
class Process:
    """One process; `state` is up, draining or ended."""

    world: World
    node: Node
    name: str
    pid: int
    state: str = "up"
    slots: int = 0
    processed: int = 0
    active: dict[Run, _Active] = field(default_factory=dict)
    _reserved: deque[Delivery] = field(default_factory=deque)
    _held: dict[Delivery, None] = field(default_factory=dict)
    _buffer: list[tuple[str, Run | None, bool]] = field(default_factory=list)
    _late_heartbeat: bool = False
    _unconfirmed: list[Run] = field(default_factory=list)
    """Runs that ended without an event."""
    started_at: float = 0.0

    def __post_init__(self) -> None:
        self.slots = self.slots or self.node.slots
        self.queues = self.node.queues
        self.started_at = self.world.loop.now
        if self.node.heartbeat is not None:
            self._publish_own("worker-online")
            self.world.loop.after(self.node.heartbeat, self._heartbeat)
        self.world.broker.consume(self)

    # As a consumer

    def wants(self) -> bool:
        late = sum(one.run.message.task.late for one in self.active.values())
        return (
            self.state == "up"
            and not self.blocked
            and len(self._reserved) + late < _PREFETCH * self.slots
        )

    @property
    def blocked(self) -> bool:
        """Whether its pool is solo and a task runs: then it sends and receives nothing."""
        return self.node.pool == "solo" and bool(self.active)

    def receive(self, delivery: Delivery) -> None:
        message = delivery.message
        if not message.task.registered:
            self._discard(delivery, "unregistered")
        elif not self._discarded(delivery):
            self._emit("task-received", message, None, **described(message))
            if message.eta > self.world.loop.now:
                self._held[delivery] = None
                self.world.loop.at(message.eta, lambda: self._due(delivery))
            else:
                self._reserved.append(delivery)
                self._fill_slots()

    # Its end

    def shut_down(self) -> None:
        """Warm shutdown: complete the running tasks."""
        if self.state != "up":
            return
        self.state = "draining"
        self.world.broker.cancel(self)
        if not self.blocked:
            self._publish_offline()
        self._exit_if_done()

    def kill(self) -> None:
        """End without a trace, as by signal 9."""
        if self.state == "ended":
            return
        self._stop(properly=False)

    def kill_child(self, run: Run) -> None:
        """Kill the pool process that runs a task."""
        if run in self.active:
            self._finish(run, "child_killed")

    def terminate(self, run: Run) -> None:
        """Revoke a running task with terminate."""
        if run in self.active:
            self._finish(run, "terminated")

    def _stop(self, properly: bool) -> None:
        self.state = "ended"
        for run in self.active:
            run.outcome, run.stopped_at = "killed", self.world.loop.now
        self.active.clear()
        self._buffer.clear()
        self.world.broker.closed(self, properly)
        self.world.exited(self)

    def _exit_if_done(self) -> None:
        if self.state == "draining" and not self.active:
            self._flush()
            self._stop(properly=True)

    # Tasks

    def _due(self, delivery: Delivery) -> None:
        if self._held.pop(delivery, delivery) is None and self.state == "up":
            self._reserved.append(delivery)
            self._start_next()

    def _discarded(self, delivery: Delivery) -> bool:
        """Discard a message that has expired or was revoked; return whether."""
        message = delivery.message
        if message.uuid in self.world.revoked:
            self._discard(delivery, "revoked")
        elif 0 < message.expires <= self.world.loop.now:
            self._discard(delivery, "expired")
        return bool(message.discarded)

    def _discard(self, delivery: Delivery, why: str) -> None:
        message = delivery.message
        message.discarded = why
        if why == "unregistered":
            fields: dict[str, Any] = {"exception": f"NotRegistered('{message.task.name}')"}
            self._emit("task-failed", message, None, **fields)
        else:
            fields = {"terminated": False, "signum": None, "expired": why == "expired"}
            self._emit("task-revoked", message, None, **fields)
        self.world.broker.settle(delivery)

    def _start_next(self) -> None:
        self._fill_slots()
        self.world.broker.ready(self)

    def _fill_slots(self) -> None:
        while self.state == "up" and self._reserved and len(self.active) < self.slots:
            delivery = self._reserved.popleft()
            if not self._discarded(delivery):
                self._start(delivery)

    def _start(self, delivery: Delivery) -> None:
        world, message = self.world, delivery.message
        run = world.truth.start(message, self.name, world.loop.now)
        self.active[run] = _Active(run, delivery)
        self.processed += 1
        if not message.task.late:
            world.broker.settle(delivery)
        self._emit("task-started", message, run)
        outcome = message.task.outcome(world.rng, message.deliveries + message.retries == 1)
        world.loop.after(message.task.runtime(world.rng), lambda: self._finish(run, outcome))

    def _finish(self, run: Run, outcome: str) -> None:
        if run not in self.active:
            return
        delivery = self.active.pop(run).delivery
        message, now = run.message, self.world.loop.now
        run.outcome, run.stopped_at = outcome, now
        self._unconfirmed += [run] if outcome in SILENT else []
        if outcome in ("retried", "replaced"):
            self._send_again(message, outcome)
        for kind, fields in _ends(outcome, now - run.started_at):
            self._emit(kind, message, run, **fields)
        if outcome == "requeued":
            self.world.broker.requeue(delivery)
        else:
            self.world.broker.settle(delivery)
        self._unblock()
        self._start_next()
        self._exit_if_done()

    def _send_again(self, message: Message, outcome: str) -> None:
        eta = self.world.loop.now + 5 + 600 * self.world.rng.random()
        again = (
            Message(message.uuid, message.task, message.retries + 1, eta)
            if outcome == "retried"
            else self.world.replacement(message)
        )
        self.world.send(again, f"gen{self.pid}@{self._machine}", self.node.clock)

    def _unblock(self) -> None:
        if self.node.pool != "solo":
            return
        self._flush()
        if self.state == "draining":
            self._publish_offline()
        elif self._late_heartbeat:
            self._late_heartbeat = False
            self._publish_own("worker-heartbeat")

    # Events

    @property
    def _machine(self) -> str:
        return self.name.partition("@")[2]

    def _emit(self, kind: str, message: Message, run: Run | None, **fields: Any) -> None:
        if not self.node.task_events:
            if run is not None:
                run.end_published = True
            return
        event = {"type": kind, "uuid": message.uuid, **fields, **self._origin()}
        self._buffer.append((json.dumps(event), run, kind != "task-started"))
        if self.node.pool == "gevent":
            self._flush()
        elif len(self._buffer) == 1:
            self.world.loop.after(0.02 * self.world.rng.random() ** 2, self._flush_if_free)

    def _origin(self) -> dict[str, Any]:
        return {
            "hostname": self.name,
            "pid": self.pid,
            "clock": 1,
            "utcoffset": 0.0,
            "timestamp": self.world.loop.now + self.node.clock,
        }

    def _flush_if_free(self) -> None:
        if not self.blocked and self.state != "ended":
            self._flush()

    def _flush(self) -> None:
        if not self._buffer:
            return
        for _, run, at_end in self._buffer:
            if run is not None:
                run.start_published = True
                run.end_published = run.end_published or at_end
        body = "[" + ",".join(text for text, _, _ in self._buffer) + "]"
        self._buffer.clear()
        self.world.network.publish(self, body.encode())

    def _heartbeat(self) -> None:
        if self.state != "up" or self.node.heartbeat is None:
            return
        if self.blocked:
            self._late_heartbeat = True
        else:
            self._publish_own("worker-heartbeat")
        self.world.loop.after(self.node.heartbeat, self._heartbeat)

    def _publish_offline(self) -> None:
        if self.node.heartbeat is not None:
            self._publish_own("worker-offline")

    def _publish_own(self, kind: str) -> None:
        for run in self._unconfirmed:
            run.heartbeats += 1
        self._unconfirmed = [one for one in self._unconfirmed if one.heartbeats < CONFIRMING]
        at = self.world.loop.now + self.node.clock
        body = (
            f'{{"type":"{kind}","hostname":"{self.name}","pid":{self.pid},"clock":7,"freq":2.0,'
            f'"active":{len(self.active)},"processed":{self.processed},"loadavg":[0.1,0.1,0.1],'
            f'"sw_ident":"py-celery","sw_ver":"5.7.0","sw_sys":"Linux","utcoffset":0.0,'
            f'"timestamp":{at!r}}}'
        )
        self.world.network.publish(self, body.encode())


def _ends(outcome: str, runtime: float) -> list[tuple[str, dict[str, Any]]]:
    """Return the events that a worker sends at the end of a task: none for a silent end."""
    if outcome == "succeeded":
        return [("task-succeeded", {"result": "None", "runtime": runtime})]
    failures = _FAILURES.get(outcome, ())
    events = [("task-failed", {"exception": text, "traceback": ""}) for text in failures]
    return [*events, _ENDS[outcome]] if outcome in _ENDS else events


def described(message: Message) -> dict[str, Any]:
    eta = datetime.fromtimestamp(message.eta, timezone.utc).isoformat() if message.eta else None
    return {
        "name": message.task.name,
        "args": "()",
        "kwargs": "{}",
        "root_id": message.uuid,
        "parent_id": None,
        "retries": message.retries,
        "eta": eta,
        "expires": None,
    }
