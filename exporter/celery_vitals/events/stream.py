"""The event stream: connects, receives events, verifies itself by a canary, and reconnects."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from celery_vitals.brokers.base import EventReceiver, EventSubscription, never
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.serialization import encode
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.events import canary
from celery_vitals.reasons import reason_of

log = logging.getLogger(__name__)

MAX_BUFFER = 160 * 1024 * 1024
_CONNECT_LIMIT = 10.0
_WAIT = 0.2
"""Seconds of one wait for events: the longest delay of everything else that the thread does."""
_IDLE_INTERVAL = 1.0
_MIN_PAUSE, _MAX_PAUSE = 0.2, 5.0
_STABLE_AFTER = 30.0
"""Seconds after which a connection counts as stable: the pause before the next is short again."""
_ENABLE_INTERVAL = 60.0
_MIN_ENABLE_INTERVAL = 1.0
"""Seconds between two commands that enable task events, however many workers come online."""
_READY_AFTER = 3.0
"""Seconds after which a worker that has come online consumes commands, too."""
_LIVE = "live"
_ENABLE: dict[str, Any] = {
    "method": "enable_events",
    "arguments": {},
    "destination": None,
    "pattern": None,
    "matcher": None,
}


class Sink(Protocol):
    """The consumer of the events, on the stream's thread."""

    def feed(self, bodies: Sequence[bytes], arrived: float) -> None:
        """Process messages read at `arrived` (Unix time): JSON, one event or a list in each."""

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count messages that could not be used."""

    def connected(self) -> None:
        """Handle a new connection: without a durable queue, the events since the last are lost."""

    def idle(self) -> None:
        """Do what depends on time; called about once a second, and when no event is left."""


class Stream:
    """The events of a cluster, received on a thread of its own.

    `canary_every` and `silence_timeout` are seconds, `max_buffer` bytes.  `durable_queue` is the
    name of a queue, on RabbitMQ, that keeps events while the exporter is away; `was_processed`
    returns whether a message that it delivers again has been processed.  `enable_events`: whether
    to send workers the command that enables task events, once `accepts_commands` is true.
    """

    def __init__(
        self,
        broker: BrokerClient,
        sink: Sink,
        *,
        canary_every: float = 3.0,
        silence_timeout: float = 9.0,
        durable_queue: str | None = None,
        was_processed: Callable[[bytes], bool] = never,
        max_buffer: int = MAX_BUFFER,
        enable_events: bool = False,
        accepts_commands: Callable[[], bool] = lambda: True,
    ) -> None:
        self.reason: Reason | None = None
        """Reason of its last failure; None before the first."""
        self.detail = ""
        """The error message of that failure."""
        self.live_since: float | None = None
        """Unix time at which the first canary came back; None before."""
        self.connected_since: float | None = None
        """The same for the last connection."""
        self._broker = broker
        self._canary_every = canary_every
        self._silence_timeout = silence_timeout
        self._durable_queue = durable_queue
        self._was_processed = was_processed
        self._max_buffer = max_buffer
        self._enables = enable_events
        self._accepts_commands = accepts_commands
        self._listener = _StreamListener(sink)
        self._sink = sink
        self._thread = threading.Thread(target=self._run, name="celery-vitals-events", daemon=True)
        self._stopping = threading.Event()
        self._stop_by = Deadline.after(0)
        self._verified = False
        """Whether a canary has come back on the present connection."""
        self._state: Reason | str = ""
        """The state last logged."""
        self._next_canary = self._next_enable = self._next_idle = 0.0
        self._last_enable = 0.0
        self._ready_at = 0.0
        """When the worker that came online last consumes commands."""

    @property
    def up(self) -> bool:
        """Whether it is connected, its canary has come back, and it is not silent since.

        A canary that is queued behind many events does not bring it down: see `lag`.
        """
        silent = time.monotonic() - self._listener.last_received
        return self._verified and silent < self._silence_timeout

    @property
    def lag(self) -> float | None:
        """Seconds that the last canary took through the broker and back; None before the first."""
        return self._listener.canary.lag

    def start(self) -> None:
        """Start the thread, unless the broker cannot broadcast and so has no events."""
        if self._broker.target.broadcast:
            self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """Stop, and remove from the broker what was created there, until `deadline` at most."""
        self._stop_by = deadline
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline.remaining)

    def enable_now(self) -> None:
        """Schedule the command that enables task events, for a worker that has come online.

        It is sent soon, and once more later: a worker sends its online event before it consumes
        commands.  Without `enable_events`, nothing is sent.
        """
        self._ready_at = time.monotonic() + _READY_AFTER
        self._next_enable = min(self._next_enable, self._last_enable + _MIN_ENABLE_INTERVAL)

    def _run(self) -> None:
        pause = _MIN_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._run_connection()
            except Exception as error:  # noqa: BLE001 - each library has its own
                self._record_failure(error)
            if time.monotonic() - started > _STABLE_AFTER:
                pause = _MIN_PAUSE
            self._stopping.wait(pause)
            pause = min(2 * pause, _MAX_PAUSE)

    def _run_connection(self) -> None:
        """Open one connection, and receive from it until it ends."""
        self._sink.idle()
        deadline = Deadline.after(_CONNECT_LIMIT)
        connection = self._broker.connect(deadline, listening=True)
        try:
            receiver = self._subscribe(connection, deadline)
            self._sink.connected()
            self._receive(receiver)
            with suppress(Exception):
                self._receive_rest(receiver)
                receiver.close(self._stop_by.within(self._stop_by.remaining / 2))
        finally:
            self._verified = False
            self._broker.closed(connection)
            connection.abandon()

    def _subscribe(self, connection: BrokerConnection, deadline: Deadline) -> EventReceiver:
        target = self._broker.target
        subscription = EventSubscription(
            exchange=target.event_exchange,
            listener=self._listener,
            max_buffer=self._max_buffer,
            canary_key=canary.KEY,
            durable_queue=self._durable_queue,
            was_processed=self._was_processed,
            control_exchange=f"{target.control_exchange}.pidbox" if self._enables else None,
        )
        return target.kind.event_receiver(connection, subscription, deadline)

    def _receive(self, receiver: EventReceiver) -> None:
        """Receive until `stop`; raises when the connection fails or stays silent."""
        listener = self._listener
        listener.last_received, listener.canary_returned = time.monotonic(), False
        blocked_at = 0.0
        self._next_canary = self._next_enable = 0.0
        busy = False
        while not self._stopping.is_set():
            self._publish_due(receiver)
            before = listener.last_received
            receiver.receive(_WAIT)
            now, was_busy, busy = time.monotonic(), busy, listener.last_received != before
            if now >= self._next_idle or (was_busy and not busy):
                self._next_idle = now + _IDLE_INTERVAL
                self._sink.idle()
            if listener.canary_returned:
                self._record_live()
            if receiver.blocked:
                blocked_at = now
            if now - max(listener.last_received, blocked_at) > self._silence_timeout:
                raise ProbeError(
                    Reason.TIMEOUT,
                    f"no message received for {self._silence_timeout:g} s, not even the canary",
                )

    def _receive_rest(self, receiver: EventReceiver) -> None:
        """Receive what has arrived before the stop, within a quarter of its time."""
        end, before = self._stop_by.within(self._stop_by.remaining / 4), 0.0
        while before != self._listener.last_received and not end.passed:
            before = self._listener.last_received
            receiver.receive(0.0)

    def _publish_due(self, receiver: EventReceiver) -> None:
        """Publish what is due: the canary, and the command that enables task events."""
        now, target = time.monotonic(), self._broker.target
        if receiver.blocked:
            return
        if now >= self._next_canary:
            self._next_canary = now + self._canary_every
            receiver.publish(target.event_exchange, canary.KEY, self._listener.canary.body())
        if self._enables and now >= self._next_enable and self._accepts_commands():
            self._last_enable = now
            ready = now >= self._ready_at
            self._next_enable = now + _ENABLE_INTERVAL if ready else self._ready_at
            content_type, encoding, body = encode(_ENABLE, target.control_serializer)
            receiver.publish(f"{target.control_exchange}.pidbox", "", body, content_type, encoding)

    def _record_live(self) -> None:
        if not self._verified:
            self.connected_since = time.time()
            if self.live_since is None:
                self.live_since = self.connected_since
        self._verified = True
        if self._state != _LIVE:
            log.info("event stream is live")
        self._state = _LIVE

    def _record_failure(self, error: Exception) -> None:
        self.reason, self.detail = reason_of(error), f"{type(error).__name__}: {error}"
        if self._state != self.reason:
            log.warning("event stream failed (%s): %s", self.reason.value, self.detail)
        log.debug("event stream ended", exc_info=error)
        self._state = self.reason


class _StreamListener:
    """The listener of the receiver: removes the canaries and passes the rest to the sink."""

    def __init__(self, sink: Sink) -> None:
        self.canary = canary.Canary()
        self.last_received = 0.0
        """When the last message arrived or was processed, on the monotonic clock."""
        self.canary_returned = False
        """Whether one of the exporter's own canaries has arrived on this connection."""
        self._sink = sink
        self._failing = False

    def deliver(self, bodies: list[bytes], arrived: float) -> None:
        self.last_received = time.monotonic()
        returned = self.canary.returned
        bodies = self.canary.remove(bodies)
        self.canary_returned = self.canary_returned or self.canary.returned > returned
        if not bodies:
            return
        try:
            self._sink.feed(bodies, arrived)
            self._failing = False
        except Exception:
            if not self._failing:
                log.exception("cannot process event messages")
            self._failing = True
            self._sink.rejected("internal", len(bodies))
        self.last_received = time.monotonic()

    def reject(self, reason: str) -> None:
        self.last_received = time.monotonic()
        self._sink.rejected(reason)
