"""A simulated cluster: broker, workers, producers, and the exporter that observes them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from types import SimpleNamespace

import pytest

from tests.support.scene import NOW, Scene
from tests.support.simulation.books import Books
from tests.support.simulation.broker import Broker
from tests.support.simulation.loop import Loop
from tests.support.simulation.messages import Message, Task, Truth
from tests.support.simulation.network import Faults, Network
from tests.support.simulation.process import Node, Process, described

SCRAPE_INTERVAL = 15.0
_MACHINE = "app"


class Cluster:
    """Everything, on one clock.  `visibility_timeout` is that of Redis, None for RabbitMQ."""

    def __init__(
        self,
        seed: int = 0,
        visibility_timeout: float | None = None,
        faults: Faults | None = None,
        *,
        modes_known: bool = True,
        tick: float = 1.0,
    ) -> None:
        self.rng = Random(seed)
        self.loop = Loop(NOW)
        self.scene = Scene(
            max_tasks=1_000_000,
            max_workers=1000,
            idle_after=1e9,
            forget_after=7e5,
            queues_known=False,
            visibility_timeout=visibility_timeout,
            redelivers=visibility_timeout is None,
        )
        self.scene.processor._task_settings.late = self._late  # type: ignore[assignment]
        self.truth = Truth()
        self.broker = Broker(self.loop, self.rng, visibility_timeout)
        self.network = Network(
            self.loop, self.rng, faults or Faults(), self._feed, self.scene.processor.connected
        )
        self.processes: list[Process] = []
        self.tasks: dict[str, Task] = {}
        self.revoked: set[str] = set()
        self.modes_known = modes_known
        self._pids, self._pods = count(1000), count(1)
        self.loop.every(tick, self._tick)
        self.loop.every(SCRAPE_INTERVAL, self._scrape)

    # Changes

    def start(self, node: Node) -> Process:
        """Start a worker process."""
        name = f"{node.name}-{next(self._pods):05}" if node.pod else node.name
        pid = 1 if node.in_container else next(self._pids)
        process = Process(self, node, name, pid)
        self.processes.append(process)
        return process

    def exited(self, process: Process) -> None:
        """Forget a process."""
        self.processes.remove(process)

    def submit(self, task: Task, task_id: str | None = None) -> Message:
        """Send a task, as an application does."""
        self.tasks.setdefault(task.name, task)
        now = self.loop.now
        eta = now + self.rng.uniform(*task.eta) if task.eta else 0.0
        expires = now + task.expires if task.expires else 0.0
        task_id = task_id or str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        message = Message(task_id, task, 0, eta, expires)
        self.send(message, f"gen1@{_MACHINE}", 0.0)
        return message

    def send(self, message: Message, sender: str, clock: float) -> None:
        """Send a message, with its task-sent event."""
        self.truth.messages.append(message)
        self.broker.publish(message)
        if message.task.sent_events:
            event = {
                "type": "task-sent",
                "uuid": message.uuid,
                **described(message),
                "queue": message.task.queue,
                "exchange": "",
                "routing_key": message.task.queue,
                "hostname": sender,
                "pid": 1,
                "clock": 1,
                "utcoffset": 0.0,
                "timestamp": self.loop.now + clock,
            }
            self.network.publish(sender, json.dumps(event).encode())

    def replacement(self, message: Message) -> Message:
        """Return the message that replaces a task."""
        task = self.tasks[message.task.replacement]
        return Message(message.uuid, task, message.retries)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.run(self.loop.now + seconds)
        self.scene.now = self.loop.now

    # The exporter

    def _late(self, task: str) -> bool | None:
        return self.tasks[task].late if self.modes_known and task in self.tasks else None

    def _feed(self, body: bytes) -> None:
        self.scene.now = self.loop.now
        self.scene.processor.feed([body], self.loop.now)

    def _tick(self) -> None:
        self.scene.now = self.loop.now
        self.scene.processor.idle()

    def _scrape(self) -> None:
        """Probe the workers and the queues, as a scrape does."""
        self.scene.now = self.loop.now
        registry = self.scene.registry
        registry.begin_round(self.loop.now)
        for process in self.processes:
            if process.state == "up" and not process.blocked:
                self._reply(process)
        registry.end_round(sum(one.blocked for one in self.processes))
        stats = self.broker.stats()
        registry.observe_queues(stats)
        self.scene.processor.compare_with_broker(stats, (), self.loop.now)

    def _reply(self, process: Process) -> None:
        registry, name = self.scene.registry, process.name
        total = {"all": process.processed}
        body = {
            "pool": {
                "implementation": f"celery.concurrency.{process.node.pool}:TaskPool",
                "max-concurrency": process.slots,
            },
            "pid": process.pid,
            "uptime": int(self.loop.now - process.started_at),
            "total": total,
            "prefetch_count": 16,
        }
        registry.stats_replied(name, body, 0.02, False)
        registry.queues_replied(name, [{"name": queue} for queue in process.queues])

    def books(self) -> Books:
        """Return the books of the exposition."""
        return Books(self.scene.samples())


@contextmanager
def exporter_clock(cluster: Cluster) -> Iterator[None]:
    """Let the exporter's modules read the clock of the simulation."""
    clock = SimpleNamespace(
        time=lambda: cluster.scene.now, monotonic=lambda: cluster.scene.now, sleep=None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("celery_vitals.workers.registry.time", clock)
        yield
