"""The simulated broker: queues, unacknowledged messages, redelivery as on Redis and RabbitMQ."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from celery_vitals.brokers.queue_stats import QueueStats
from tests.support.simulation.loop import Loop
from tests.support.simulation.messages import Message

_CHECK_INTERVAL = 10.0
"""Seconds between two looks of a Redis client for messages to restore."""


class Consumer(Protocol):
    """A worker process, as the broker knows it."""

    queues: tuple[str, ...]

    def wants(self) -> bool:
        """Return whether its prefetch limit is not reached."""

    def receive(self, delivery: Delivery) -> None:
        """Take a message."""


@dataclass(eq=False)
class Delivery:
    """A message with one consumer."""

    message: Message
    consumer: Consumer
    settled: bool = False
    """Whether it was acknowledged, or the message has returned to its queue."""


class Broker:
    """`visibility_timeout`: that of Redis; None for RabbitMQ."""

    def __init__(self, loop: Loop, rng: Random, visibility_timeout: float | None) -> None:
        self._loop, self._rng, self._timeout = loop, rng, visibility_timeout
        self._ready: dict[str, deque[Message]] = {}
        self._unacked: dict[str, dict[Delivery, None]] = {}
        self._consumers: dict[str, list[Consumer]] = {}

    def declare(self, queues: Iterable[str]) -> None:
        """Create queues."""
        for queue in queues:
            self._ready.setdefault(queue, deque())
            self._unacked.setdefault(queue, {})
            self._consumers.setdefault(queue, [])

    def publish(self, message: Message) -> None:
        """Append a message to its queue."""
        self.declare([message.task.queue])
        self._ready[message.task.queue].append(message)
        self._deliver(message.task.queue)

    def consume(self, consumer: Consumer) -> None:
        """Deliver messages to a consumer, from now on."""
        self.declare(consumer.queues)
        for queue in consumer.queues:
            self._consumers[queue].append(consumer)
        self.ready(consumer)

    def cancel(self, consumer: Consumer) -> None:
        """Deliver no further messages to a consumer."""
        for queue in consumer.queues:
            if consumer in self._consumers[queue]:
                self._consumers[queue].remove(consumer)

    def ready(self, consumer: Consumer) -> None:
        """Deliver what waits for a consumer, which may take more than before."""
        for queue in consumer.queues:
            if self._ready[queue]:
                self._deliver(queue)

    def settle(self, delivery: Delivery) -> None:
        """Handle an acknowledgement."""
        delivery.settled = True
        self._unacked[delivery.message.task.queue].pop(delivery, None)

    def requeue(self, delivery: Delivery) -> None:
        """Return a message to the head of its queue."""
        if not delivery.settled:
            self.settle(delivery)
            self._ready[delivery.message.task.queue].appendleft(delivery.message)
            self._loop.after(0.001, lambda: self._deliver(delivery.message.task.queue))

    def closed(self, consumer: Consumer, properly: bool) -> None:
        """Handle the end of a consumer's connection: RabbitMQ delivers its messages again at once,
        Redis only if the process itself returns them."""
        self.cancel(consumer)
        if properly or self._timeout is None:
            for unacked in self._unacked.values():
                for delivery in [one for one in unacked if one.consumer is consumer]:
                    self.requeue(delivery)

    def stats(self) -> dict[str, QueueStats]:
        """Return the counts of all queues."""
        return {
            queue: QueueStats(
                ready=len(waiting),
                unacked=len(self._unacked[queue]),
                consumers=len(self._consumers[queue]),
            )
            for queue, waiting in self._ready.items()
        }

    def _deliver(self, queue: str) -> None:
        waiting = self._ready[queue]
        while waiting:
            willing = [one for one in self._consumers[queue] if one.wants()]
            if not willing:
                return
            consumer = self._rng.choice(willing)
            message = waiting.popleft()
            message.deliveries += 1
            delivery = Delivery(message, consumer)
            self._unacked[queue][delivery] = None
            if self._timeout is not None:
                restore_in = self._timeout + self._rng.random() * _CHECK_INTERVAL
                self._loop.after(restore_in, lambda one=delivery: self.requeue(one))  # type: ignore[misc]
            consumer.receive(delivery)
