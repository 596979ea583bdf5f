"""The stream of events: connects, listens, proves that it hears, and connects again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from celery_vitals.brokers import BrokerClient, BrokerConnection
from celery_vitals.brokers.connection import EVENT_HEARTBEAT
from celery_vitals.brokers.event_receiver import Receiver
from celery_vitals.brokers.generic.events import GenericReceiver
from celery_vitals.brokers.rabbitmq.events import AmqpReceiver
from celery_vitals.brokers.redis.events import RedisReceiver
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason, reason_of
from celery_vitals.events import canary

log = logging.getLogger(__name__)

MAX_BUFFER = 160 * 1024 * 1024
_CONNECT_LIMIT = 10.0
_WAIT = 0.2
"""Seconds of one wait for events, and so the latest that anything else is seen to."""
_IDLE_EVERY = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_LONG_LIFE = 30.0
"""Seconds after which a connection was a good one, and the next is tried for soon when it ends."""
_ENABLE_EVERY = 60.0
_ENABLE_GAP = 1.0
"""Seconds between two times that the workers are told, however many of them come."""
_LISTENS_AFTER = 3.0
"""Seconds after which a worker that has come listens to commands, too."""
_WORKS = "works"
_ENABLE = b'{"method": "enable_events", "arguments": {}, "destination": null, "pattern": null, "matcher": null}'


class Sink(Protocol):
    """Takes the events, on the stream's thread."""

    def feed(self, bodies: Sequence[bytes], arrived: float) -> None:
        """Bodies of messages: one event each in JSON, or a list of events.  `arrived`: Unix time of their reading."""

    def rejected(self, reason: str, count: int = 1) -> None:
        """So many messages could not be used."""

    def connected(self) -> None:
        """The stream hears (again).  What was published in between is lost, where the broker does not keep it."""

    def idle(self) -> None:
        """Called about once a second, and when all that has arrived is done: for whatever waits for a time."""


class Stream:
    """Follows the events of a cluster from a thread of its own.

    `canary_every` and `deaf_after` are seconds, `max_buffer` bytes.  `durable_queue`: the name, on RabbitMQ, of a queue
    that keeps events while nobody reads.  `enable_events`: whether to tell workers to send task events.
    """

    def __init__(
        self,
        broker: BrokerClient,
        sink: Sink,
        *,
        canary_every: float = 3.0,
        deaf_after: float = 9.0,
        durable_queue: str | None = None,
        max_buffer: int = MAX_BUFFER,
        enable_events: bool = False,
    ) -> None:
        self.reason: Reason | None = None
        """Why it last failed; None while it never has."""
        self.detail = ""
        """The same in words."""
        self._broker = broker
        self._canary_every = canary_every
        self._deaf_after = deaf_after
        self._durable_queue = durable_queue
        self._max_buffer = max_buffer
        self._enables = enable_events
        self._ear = _Ear(sink)
        self._sink = sink
        self._thread = threading.Thread(target=self._run, name="celery-vitals-events", daemon=True)
        self._stopping = threading.Event()
        self._stop_by = Deadline.after(0)
        self._proved = False
        self._state: Reason | str = ""
        """What was last logged."""
        self._enabled = self._listens = self._next_canary = self._next_enable = self._next_idle = (
            0.0
        )

    @property
    def up(self) -> bool:
        """Whether it is connected, its canary has come back, and nothing says since that it is deaf.

        A canary that stands in line behind many events does not make it deaf: `lag` tells.
        """
        return self._proved and time.monotonic() - self._ear.heard < self._deaf_after

    @property
    def lag(self) -> float | None:
        """Seconds that the last canary took from here through the broker and back; None before the first."""
        return self._ear.canary.lag

    def start(self) -> None:
        """Begin.  Does nothing on a broker that cannot broadcast: there are no events."""
        if self._broker.target.broadcast:
            self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """End, and leave nothing in the broker, as far as that can be done before `deadline`."""
        self._stop_by = deadline
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline.remaining)

    def enable_now(self) -> None:
        """Where that is wanted, have the workers told to send task events: one has come that was not.  Told soon, and
        once more: a worker says that it is there before it listens to commands."""
        self._listens = time.monotonic() + _LISTENS_AFTER
        self._next_enable = min(self._next_enable, self._enabled + _ENABLE_GAP)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._live()
            except Exception as error:  # noqa: BLE001 - each library has its own
                self._failed(error)
            if time.monotonic() - began > _LONG_LIFE:
                pause = _FIRST_PAUSE
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _live(self) -> None:
        """One connection, from its beginning to its end."""
        self._sink.idle()
        deadline = Deadline.after(_CONNECT_LIMIT)
        connection = self._broker.connect(deadline, EVENT_HEARTBEAT)
        try:
            receiver = self._subscribe(connection, deadline)
            self._sink.connected()
            self._listen(receiver)
            with suppress(Exception):
                receiver.close(self._stop_by.within(self._stop_by.remaining / 2))
        finally:
            self._proved = False
            self._broker.closed(connection)
            connection.abandon()

    def _subscribe(self, connection: BrokerConnection, deadline: Deadline) -> Receiver:
        target = self._broker.target
        if target.driver == "redis":
            return RedisReceiver(
                connection, target.event_exchange, self._ear, self._max_buffer, deadline
            )
        if target.driver == "amqp":
            return AmqpReceiver(
                connection,
                target.event_exchange,
                self._ear,
                self._max_buffer,
                durable_queue=self._durable_queue,
                control_exchange=f"{target.control_exchange}.pidbox" if self._enables else None,
            )
        return GenericReceiver(connection, target.event_exchange, self._ear)

    def _listen(self, receiver: Receiver) -> None:
        """Receive until told to stop; raises when the connection is dead, or as good as that."""
        ear = self._ear
        ear.heard, ear.works = time.monotonic(), False
        muted = 0.0
        self._next_canary = self._next_enable = 0.0
        busy = False
        while not self._stopping.is_set():
            self._speak(receiver)
            before = ear.heard
            receiver.receive(_WAIT)
            now, was_busy, busy = time.monotonic(), busy, ear.heard != before
            if now >= self._next_idle or (was_busy and not busy):
                self._next_idle = now + _IDLE_EVERY
                self._sink.idle()
            if ear.works:
                self._works()
            if receiver.muted:
                muted = now
            if now - max(ear.heard, muted) > self._deaf_after:
                raise ProbeError(
                    Reason.TIMEOUT,
                    f"nothing was heard for {self._deaf_after:g} s, not even ourselves",
                )

    def _speak(self, receiver: Receiver) -> None:
        """Publish what is due: the canary, and the command that switches task events on."""
        now, target = time.monotonic(), self._broker.target
        if receiver.muted:
            return
        if now >= self._next_canary:
            self._next_canary = now + self._canary_every
            receiver.publish(target.event_exchange, canary.KEY, self._ear.canary.body())
        if self._enables and now >= self._next_enable:
            self._enabled = now
            self._next_enable = self._listens if now < self._listens else now + _ENABLE_EVERY
            receiver.publish(f"{target.control_exchange}.pidbox", "", _ENABLE)

    def _works(self) -> None:
        self._proved = True
        if self._state != _WORKS:
            log.info("task events are followed")
        self._state = _WORKS

    def _failed(self, error: Exception) -> None:
        self.reason, self.detail = reason_of(error), f"{type(error).__name__}: {error}"
        if self._state != self.reason:
            log.warning("task events are not followed (%s): %s", self.reason.value, self.detail)
        log.debug("the stream of events ended", exc_info=error)
        self._state = self.reason


class _Ear:
    """What the receiver calls: sorts out the canaries and hands on the rest."""

    def __init__(self, sink: Sink) -> None:
        self.canary = canary.Canary()
        self.heard = 0.0
        """When anything was last heard, on the monotonic clock."""
        self.works = False
        """Whether our own canary was among it."""
        self._sink = sink
        self._fails = False

    def deliver(self, bodies: list[bytes], arrived: float) -> None:
        self.heard = time.monotonic()
        returned = self.canary.returned
        bodies = self.canary.catch(bodies)
        self.works = self.works or self.canary.returned > returned
        if not bodies:
            return
        try:
            self._sink.feed(bodies, arrived)
            self._fails = False
        except Exception:
            if not self._fails:
                log.exception("messages of events could not be used")
            self._fails = True
            self._sink.rejected("internal", len(bodies))
        self.heard = time.monotonic()

    def reject(self, reason: str) -> None:
        self.heard = time.monotonic()
        self._sink.rejected(reason)
