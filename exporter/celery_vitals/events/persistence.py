"""Keeps the state of the events across restarts: the sink that records what it passes on.

Each batch of messages is appended to the journal before it is processed.  A thread of its own
writes snapshots: it copies the counters at one moment, between two batches, and the executions in
slices after it, while events go on.  Of an execution that an event is about, the copy is made
before that event, so that a snapshot is what was there at one moment.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from celery_vitals.brokers.base import MAX_UNACKNOWLEDGED
from celery_vitals.deadline import Deadline
from celery_vitals.events.decode import BROKEN, Event, decode, decode_each
from celery_vitals.events.journal import (
    Connected,
    Journal,
    Messages,
    Record,
    Rejected,
    Released,
    Tick,
)
from celery_vitals.events.processor import EventProcessor
from celery_vitals.events.snapshot import Head, ProcessorCopy
from celery_vitals.events.snapshot import decode as decode_snapshot
from celery_vitals.events.state_file import (
    RejectedState,
    SnapshotWriter,
    StateIdentity,
    locked,
    read_snapshot,
)
from celery_vitals.metrics.cardinality import FairLock
from celery_vitals.workers.stall_detection import QueueCounts

log = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds between two snapshots."""
_SYNC_INTERVAL = 1.0
_LOCK_TIMEOUT = 2.0
"""Seconds within which a process that is replaced ends."""
_SLOWDOWN = 20
"""A snapshot takes at most one of so many seconds."""
_MAX_JOURNAL = 64 * 1024 * 1024
"""Bytes of the journal after which the next snapshot is written early."""
Fingerprint = tuple[int, int]


class Persistence:
    """A sink of the event stream between the stream and the processor.

    `durable_seconds`: how long the broker keeps the events while the exporter is away.  A state
    that is older than `max_age` is not used.
    """

    def __init__(
        self,
        processor: EventProcessor,
        path: Path,
        identity: StateIdentity,
        *,
        durable_seconds: float = 0.0,
        max_age: float = math.inf,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._processor = processor
        self._path = path
        self._identity = identity
        self._durable_seconds = durable_seconds
        self._max_age = max_age
        self._interval = interval
        self._clock = clock
        self.journal = Journal(path, identity)
        self._batch = FairLock(threading.Lock())
        """Held while a batch is recorded and processed, and for the moment of a snapshot."""
        self._copy: ProcessorCopy | None = None
        self._recent: deque[Fingerprint] = deque(maxlen=MAX_UNACKNOWLEDGED)
        self._redelivered: Counter[Fingerprint] = Counter()
        self._last_event = 0.0
        """When the last message arrived, or the time passed, by the clock."""
        self._lock: BinaryIO | None = None
        self._connected = False
        self._failed = ""
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celery-vitals-state", daemon=True)

    def start(self) -> None:
        """Continue from the files, where they can be used, and write them from now on."""
        if self.load():
            self._thread.start()

    def load(self) -> bool:
        """Do what `start` does once; return whether the files are those of this process."""
        try:
            self._lock = self._acquire()
            if self._lock is None:
                log.error("the state in %s is not used: another process uses it", self._path)
                return False
            self._restore()
        except FileNotFoundError:
            log.info("no state in %s yet", self._path)
        except (RejectedState, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            log.warning("the state in %s is not used: %s", self._path, reason)
        self._processor.births.on_release = self._record_release
        self.write_snapshot()
        return True

    def stop(self, deadline: Deadline) -> None:
        """Write the last snapshot, where the time suffices: the journal contains the rest."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(deadline.remaining)
        with self._batch, suppress(OSError):
            self.journal.sync()
            self.release()

    def release(self) -> None:
        """Close the files."""
        self.journal.close()
        if self._lock is not None:
            self._lock.close()

    def _acquire(self) -> BinaryIO | None:
        """Return the lock of the files, within the time in which another process ends."""
        deadline = Deadline.after(_LOCK_TIMEOUT)
        while (lock := locked(self._path)) is None and not deadline.passed:
            time.sleep(0.05)
        return lock

    def _restore(self) -> None:
        started = time.monotonic()
        header, frames = read_snapshot(self._path, self._identity)
        try:
            head, chunks = decode_snapshot(frames)
        except (msgspec.MsgspecError, IndexError):
            raise RejectedState("it is damaged") from None
        records = list(self.journal.read(header.segment))
        last = max(head.at, *(record.at for record in records)) if records else head.at
        if self._clock() - last > self._max_age:
            raise RejectedState(f"it is older than {self._max_age:g} s")
        self._processor.restore(head, chunks)
        self._recent.extend(head.recent)
        self._replay(head, records, last)
        self._last_event = last
        log.info(
            "continued from the state in %s, %.1f s old, in %.1f s",
            self._path,
            self._clock() - last,
            time.monotonic() - started,
        )

    def _replay(self, head: Head, records: Sequence[Record], last: float) -> None:
        """Repeat what the journal contains, at its times; `last` is when the process ended."""
        births, released = self._processor.births, head.released
        clock, offset = births.now, head.births_at - head.at
        try:
            for record in records:
                at = record.at + offset
                births.now = lambda at=at: at  # type: ignore[misc]
                if isinstance(record, Released):
                    released = record.until
                else:
                    self._apply(record)
        finally:
            births.now = clock
        # The time that has passed since does not count: no series was scraped in it.
        shift = births.now() - (last + offset)
        self._processor.shift_births(shift)
        births.restore(released + shift)
        births.seen = {
            (sample.metric.name, sample.labels)
            for sample in self._processor.samples()
            if sample.metric.counted
        }

    def _apply(self, record: Messages | Rejected | Connected | Tick) -> None:
        if isinstance(record, Messages):
            self._recent.extend(map(fingerprint, record.bodies))
            self._processor.feed(record.bodies, record.at)
        elif isinstance(record, Rejected):
            self._processor.rejected(record.reason, record.count)
        elif isinstance(record, Connected):
            self._processor.connected(record.gap, record.at)
        else:
            self._processor.pass_time(record.at)

    # The sink

    def feed(self, bodies: Sequence[bytes], arrived: float) -> None:
        """Record messages, then process them; not those that have arrived before."""
        with self._batch:
            bodies = self._processor.unrepeated(bodies, arrived)
            self._append(Messages(arrived, bodies))
            if self._durable_seconds:
                self._recent.extend(map(fingerprint, bodies))
            self._last_event = arrived
            if self._copy is not None:
                self._preserve(bodies)
            self._processor.process(bodies, arrived)

    def rejected(self, reason: str, count: int = 1) -> None:
        """Record and count messages that the receiver could not open."""
        with self._batch:
            self._append(Rejected(self._clock(), reason, count))
            self._processor.rejected(reason, count)

    def connected(self) -> None:
        """Handle a new connection: events may have been lost, unless a durable queue has them."""
        with self._batch:
            now = self._clock()
            # A broker that has restarted has lost the events in its queues.
            kept = not self._connected and 0 <= now - self._last_event < self._durable_seconds
            gap, self._connected = not kept, True
            self._append(Connected(now, gap))
            self._copy = None
            self._redelivered = Counter(self._recent)
            self._processor.connected(gap)

    def idle(self) -> None:
        """Do what depends on time, except during a snapshot."""
        with self._batch:
            if self._copy is None:
                now = self._last_event = self._clock()
                self._append(Tick(now))
                decisions = self._processor.decisions
                self._processor.idle()
                self._save_decisions(decisions)

    def compare_with_broker(
        self, queues: Mapping[str, QueueCounts], missing: Collection[str], at: float
    ) -> None:
        """Compare waiting tasks with the broker's messages, except during a snapshot."""
        with self._batch:
            if self._copy is None:
                decisions = self._processor.decisions
                self._processor.compare_with_broker(queues, missing, at)
                self._save_decisions(decisions)

    def _save_decisions(self, before: int) -> None:
        """Write a snapshot soon if something was decided: the journal has events only."""
        if self._processor.decisions != before:
            self._wake.set()

    def was_processed(self, body: bytes) -> bool:
        """Return whether a message that is delivered again has been processed, once for each."""
        key = fingerprint(body)
        if self._redelivered[key] <= 0:
            return False
        self._redelivered[key] -= 1
        return True

    # Snapshots

    def _run(self) -> None:
        earliest = time.monotonic()
        next_snapshot = earliest + self._interval
        while not self._stopped.is_set():
            wanted = self._wake.wait(_SYNC_INTERVAL) or self.journal.size > _MAX_JOURNAL
            started = time.monotonic()
            with suppress(OSError):
                self.journal.sync()
            if started >= next_snapshot or (wanted and started >= earliest):
                self._wake.clear()
                self.write_snapshot()
                took = time.monotonic() - started
                earliest = started + max(_SYNC_INTERVAL, _SLOWDOWN * took)
                next_snapshot = max(earliest, started + self._interval)
            elif wanted:
                self._stopped.wait(min(_SYNC_INTERVAL, earliest - started))
        self.write_snapshot()

    def write_snapshot(self) -> None:
        """Write a snapshot; log the first failure."""
        try:
            self._try_snapshot()
        except OSError as error:
            self._fail(error)
        except Exception:
            log.exception("cannot write the state")
            self._copy = None

    def _try_snapshot(self) -> None:
        now = self._clock()
        with self._batch:
            segment = self.journal.start_segment(now)
            copy = self._copy = self._processor.copy()
            recent = list(self._recent)
        with SnapshotWriter(self._path, self._identity.header(now, segment)) as writer:
            for content in copy.frames(recent):
                writer.add(content)
                if self._copy is not copy:
                    return  # a new connection has changed all executions: the next one is better
            with self._batch:
                self._copy = None
            writer.replace_old()
        self.journal.remove_before(segment)
        if self._failed:
            log.info("the state is written to %s again", self._path)
        self._failed = ""

    def _append(self, record: Messages | Rejected | Connected | Tick | Released) -> None:
        try:
            self.journal.append(record)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Give up this state: one that is older than what was scraped is worse than none."""
        self._copy = None
        self.journal.close()
        with suppress(OSError):
            self._path.unlink()
        if not self._failed:
            log.error("cannot write the state to %s: %s", self._path, error.strerror or error)
        self._failed = error.strerror or str(error)

    def _record_release(self, until: float) -> None:
        with self._batch:
            self._append(Released(self._clock(), until))

    def _preserve(self, bodies: Sequence[bytes]) -> None:
        copy = self._copy
        for body in bodies:
            try:
                events = decode(body)
            except BROKEN:
                events = [part for part in decode_each(body) if isinstance(part, Event)]
            if copy is not None:
                copy.preserve(events)


def fingerprint(body: bytes) -> Fingerprint:
    """Return what identifies a message among the last few thousand."""
    return len(body), zlib.crc32(body)
