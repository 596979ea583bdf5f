"""The load: the events of many tasks, as at least four workers would publish them.

Runs in a separate process.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle

from benchmarks.events.capture import Samples
from benchmarks.events.wires import SocketReader, connect

_TICK = 0.005
"""Seconds between two writes."""
_HEARTBEAT = 2.0
_BATCHES = (1, 2, 3)
"""Number of events in one message of a worker, in turn."""
_LAG = 3
"""Number of tasks sent between two events of one task."""
HOSTS = 4


@dataclass(frozen=True)
class Task:
    """Attributes of one task."""

    uuid: str
    name: str
    queue: str
    host: str
    exception: str
    """Empty for a task that succeeds."""


def steady(index: int) -> Task:
    """Return a task: 23 names, 5 queues, 4 workers; one in 33 fails."""
    failed = index % 33 == 5
    return Task(
        _uuid(index),
        f"shop.orders.tasks.task_{index % 23}",
        f"queue_{index // 23 % 5}",
        f"w{index % HOSTS}@bench",
        "ValueError" if failed else "",
    )


def churning(index: int) -> Task:
    """Return a task with changing names.

    Every hundred tasks have a new name, every 20,000 have four new workers, and every tenth failure
    has a new exception.
    """
    failed = index % 33 == 5
    return Task(
        _uuid(index),
        f"shop.orders.tasks.task_{index // 100}",
        f"queue_{index % 5}",
        f"w{index // 20_000 * HOSTS + index % HOSTS}@bench",
        f"Error{index // 330}" if failed else "",
    )


MIXES = {"steady": steady, "churning": churning}


@dataclass(frozen=True)
class Order:
    """What to publish."""

    kind: str
    """redis or rabbitmq."""
    url: str
    samples: Samples
    first: int = 0
    tasks: int = 0
    mix: str = "steady"
    sent: bool = True
    """Whether to publish the events of the producers."""
    ran: bool = True
    """Whether to publish the events of the workers."""
    rate: float | None = None
    """Events per second; None for the maximum rate, with events encoded beforehand."""
    processed: Counter[str] = field(default_factory=Counter)
    """Number of tasks that each worker started before."""
    probe: str = ""
    """Name of a task: publish one task-sent event of it, and nothing else."""


@dataclass
class Published:
    """Events that were published."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Task events by type (without `task-`), task and queue."""
    processed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def events(self) -> int:
        """Number of task events."""
        return self.counts.total()


def publish(order: Order) -> Published:
    """Publish the events; return when the broker has received all of them."""
    load = _Load(order)
    wire = connect(order.kind, order.url)
    messages = load.messages(wire)
    if order.rate is None:
        blocks = _blocks(messages)
        started = time.monotonic()
        for block in blocks:
            wire.send(block)
    else:
        started = time.monotonic()
        _paced(messages, wire, order.rate, load)
    wire.send(load.heartbeats(wire))
    load.published.seconds = time.monotonic() - started
    wire.finish()
    return load.published


def _blocks(messages: Iterator[tuple[int, bytes]]) -> list[bytes]:
    blocks, some = [], []
    for _, data in messages:
        some.append(data)
        if len(some) == 500:
            blocks.append(b"".join(some))
            some = []
    return [*blocks, b"".join(some)]


def _paced(
    messages: Iterator[tuple[int, bytes]], wire: SocketReader, rate: float, load: _Load
) -> None:
    started, beat, done = time.monotonic(), 0.0, 0
    more = True
    while more:
        now = time.monotonic()
        due = (now - started + _TICK) * rate
        some = []
        while done < due:
            count, data = next(messages, (0, b""))
            if not count:
                more = False
                break
            some.append(data)
            done += count
        if now - beat > _HEARTBEAT:
            beat = now
            some.append(load.heartbeats(wire))
        wire.send(b"".join(some))
        time.sleep(max(0.0, started + done / rate - time.monotonic()))


class _Load:
    def __init__(self, order: Order) -> None:
        self.published = Published(processed=Counter(order.processed))
        self._order = order
        self._texts, self._envelopes = order.samples.texts, order.samples.envelopes
        self._active: Counter[str] = Counter()

    def messages(self, wire: SocketReader) -> Iterator[tuple[int, bytes]]:
        """Yield the number of events and the encoded message."""
        order = self._order
        if order.probe:
            yield (
                1,
                self._sent(
                    wire, Task(_uuid(hash(order.probe)), order.probe, "queue_0", "w0@bench", "")
                ),
            )
            return
        workers: dict[str, _Outbox] = {}
        make = MIXES[order.mix]
        for step in range(order.first, order.first + order.tasks + 3 * _LAG):
            new = step - order.first < order.tasks
            if new and order.sent:
                yield 1, self._sent(wire, make(step))
            if not order.ran:
                continue
            for late, what in enumerate(("received", "started", "ended")):
                index = step - late * _LAG
                if order.first <= index < order.first + order.tasks:
                    task = make(index)
                    outbox = workers.get(task.host) or workers.setdefault(task.host, _Outbox())
                    outbox.events.append(self._event(task, what))
                    if len(outbox.events) == outbox.size:
                        yield self._flush(wire, outbox)
        for outbox in workers.values():
            if outbox.events:
                yield self._flush(wire, outbox)

    def heartbeats(self, wire: SocketReader) -> bytes:
        """Return one heartbeat of each current worker."""
        hosts = list(self.published.processed)[-HOSTS:] or [
            f"w{number}@bench" for number in range(HOSTS)
        ]
        envelope, text = self._envelopes["worker-heartbeat"], self._texts["worker-heartbeat"]
        some = []
        for host in hosts:
            active, processed = self._active[host], self.published.processed[host]
            fields = {
                "host": host,
                "timestamp": time.time(),
                "active": active,
                "processed": processed,
            }
            some.append(wire.encode(envelope, (text % fields).encode()))
        return b"".join(some)

    def _flush(self, wire: SocketReader, outbox: _Outbox) -> tuple[int, bytes]:
        """Encode the pending events of a worker; even a single one is sent as a list."""
        body = f"[{', '.join(outbox.events)}]".encode()
        count = len(outbox.events)
        outbox.events.clear()
        outbox.size = next(outbox.sizes)
        return count, wire.encode(self._envelopes["task-received"], body)

    def _sent(self, wire: SocketReader, task: Task) -> bytes:
        return wire.encode(
            self._envelopes["task-sent"], self._text("sent", task, "gen1@bench").encode()
        )

    def _event(self, task: Task, what: str) -> str:
        if what == "started":
            self.published.processed[task.host] += 1
            self._active[task.host] += 1
        elif what == "ended":
            self._active[task.host] -= 1
            what = "failed" if task.exception else "succeeded"
        return self._text(what, task, task.host)

    def _text(self, what: str, task: Task, host: str) -> str:
        self.published.counts[what, task.name, task.queue] += 1
        return self._texts[f"task-{what}"] % {
            "uuid": task.uuid,
            "name": task.name,
            "queue": task.queue,
            "host": host,
            "exception": f"{task.exception}('boom')",
            "timestamp": time.time(),
        }


class _Outbox:
    """Pending events of a worker."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.sizes = cycle(_BATCHES)
        self.size = next(self.sizes)


def _uuid(index: int) -> str:
    return f"{index * 2654435761 % 2**32:08x}-8a0b-4b35-9a5e-{index % 2**48:012x}"
