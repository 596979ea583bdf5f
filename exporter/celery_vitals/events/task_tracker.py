"""From events to the series of tasks: follows each task by its uuid, so that every event finds its name and queue.

Not `celery.events.State`: that one forgets tasks above a few thousand, shifts times by the time zone, and trusts that
events come once and in order.  They do neither: a task may be received before its producer has told of sending it, a
hard time limit fails it twice, an ignored task never ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from celery_vitals.events.decode import Event
from celery_vitals.events.eta import due_time
from celery_vitals.events.exceptions import exception_class
from celery_vitals.events.task_labels import UNKNOWN, TaskSeriesIndex
from celery_vitals.events.task_series import TaskName, TaskSeries
from celery_vitals.events.task_state import OBSERVED, TaskState
from celery_vitals.events.waiting_tasks import WaitingTasks
from celery_vitals.events.worker_tracker import WorkerTracker

_PATIENCE = 2.0
"""Seconds that the events of a task wait to have its queue told: by its task-sent, where producers are known to send
one (it may come last), or by a new worker, which is asked at once which queues it consumes."""
_LINGER = 5.0
"""Seconds for which a task that has ended is remembered, where something may still be told of it."""
_LINGERING = 20_000
_BATCH = 1024
_LONGEST = 100 * 365 * 86400.0
"""Seconds; a runtime beyond is none, and would spoil the sum for ever."""
_UNSENT = 100
"""Tasks of one name that end without a task-sent before it is taken that none will come."""

Handler = Callable[[Event, WorkerTracker, float, float], None]
"""Takes an event, the worker it comes from, its time corrected to the exporter's clock, and the exporter's time."""


class TaskTracker:
    """The tasks that are followed.  For one thread."""

    def __init__(self, rows: TaskSeriesIndex, limit: int, forget_after: float) -> None:
        self._rows = rows
        self._limit = limit
        self.forget_after = forget_after
        """Seconds after which a task is given up that is not known to run."""
        self._records: dict[str, TaskState] = {}
        self._deferred: dict[str, list[tuple[Handler, Event, WorkerTracker, float]]] = {}
        self._patient: deque[tuple[float, str]] = deque()
        self._ended: deque[tuple[float, str]] = deque()
        self._waiting = WaitingTasks(self._records)
        self._sent_seen = False
        self.evicted = 0
        """Tasks no longer followed for their number or their age."""
        self.handlers: dict[str, Handler] = {
            "task-sent": self._sent,
            "task-received": self._received,
            "task-started": self._started,
            "task-succeeded": self._succeeded,
            "task-failed": self._failed,
            "task-retried": self._retried,
            "task-revoked": self._revoked,
            "task-rejected": self._rejected,
            "task-cancelled": self._cancelled,
        }

    def __len__(self) -> int:
        return len(self._records)

    def oldest_waiting(self) -> Iterator[tuple[str, float]]:
        """Each queue in which a task waits, by the events, and when the oldest was sent."""
        return self._waiting.oldest()

    def gap(self) -> None:
        """Events were lost: what is known to wait may not wait any more."""
        self._waiting.clear()

    def taken_unheard(self, queues: Iterable[str]) -> None:
        """A worker takes tasks from these queues and tells nothing of them: nobody knows what waits there."""
        for queue in queues:
            self._waiting.pop(queue, None)

    def tend(self, now: float) -> None:
        """What time alone brings about: patience ends, what has ended is forgotten, what is too old is given up."""
        while self._patient and _is_due(self._patient[0][0], now, _PATIENCE):
            self._resolve(self._patient.popleft()[1], None, now)
        while self._ended and _is_due(self._ended[0][0], now, _LINGER):
            self._forget_ended()
        self._waiting.tend()
        self._give_up_some(now - self.forget_after, now)

    def lost(self, uuids: list[str], before: float) -> None:
        """Forget what has ended without an event, unless it has begun again since."""
        for uuid in uuids:
            record = self._records.get(uuid)
            if record is not None and record.started < before:
                del self._records[uuid]

    # Events

    def _sent(self, event: Event, host: WorkerTracker, at: float, now: float) -> None:
        name = self._rows.name(event.name)
        name.sent_seen = self._sent_seen = True
        name.last("sent", at)
        queue = event.queue or UNKNOWN
        since = (
            max(at, due_time(event.eta, event.utcoffset, host.clock.correction))
            if event.eta
            else at
        )
        attempt = event.retries or 0
        record = self._records.get(event.uuid)
        if record is None:
            record = self._follow(event, TaskState(None, name, born=now, attempt=attempt))
        record.name, record.announced = name, True
        began = record.was_sent(attempt, since)
        worker = record.row.worker if record.row is not None else ""
        if event.uuid in self._deferred:
            self._resolve(event.uuid, queue, now)
        elif record.row is None or (attempt <= record.attempt and record.row.labels[1] != queue):
            record.row = self._rows.row(name, queue, event)
        row = self._row(record, host)
        row.sent.value += 1
        if worker:
            record.row = self._rows.again(row, name, worker)
        if began:
            record.row.waited(max(0.0, began - since))
        elif record.sent > 0 and attempt == record.attempt and not event.eta and not record.ended:
            self._waiting.add(row.sent.labels[1], event.uuid)

    def _received(self, event: Event, host: WorkerTracker, at: float, now: float) -> None:
        record = self._records.get(event.uuid)
        if record is None:
            name = self._rows.name(event.name)
            record = self._follow(
                event, TaskState(None, name, born=now, attempt=event.retries or 0)
            )
            if host.queue is None and (self._may_be_told(name) or not host.settled):
                self._deferred[event.uuid] = [(self._received, event, host, at)]
                self._patient.append((now + _PATIENCE, event.uuid))
                return
            record.row = self._rows.row(name, host.queue or UNKNOWN, event)
        elif record.row is None:
            self._deferred[event.uuid].append((self._received, event, host, at))
            return
        elif record.name is self._rows.unknown and event.name:
            record.name = self._rows.name(event.name)
            record.row = self._rows.row(record.name, record.row.labels[1], event)
        record.was_received(event.retries or 0)
        record.ended = False
        self._row(record, host).received.value += 1

    def _started(self, event: Event, host: WorkerTracker, at: float, now: float) -> None:
        record = self._records.get(event.uuid)
        if record is None:
            record = self._follow(event, self._stranger(host, now))
        elif record.row is None:
            self._deferred[event.uuid].append((self._started, event, host, at))
            return
        self._row(record, host).started.value += 1
        record.begins(at, host)
        host.running[event.uuid] = record
        if record.sent > 0:
            record.row.waited(max(0.0, at - record.sent))
            record.sent = OBSERVED

    def _succeeded(self, event: Event, host: WorkerTracker, at: float, now: float) -> None:
        record = self._end(self._succeeded, event, host, at, now)
        if record is None:
            return
        row = self._row(record, host)
        row.succeeded.value += 1
        record.name.last("succeeded", at)
        runtime = event.runtime
        if runtime is not None and 0 <= runtime < _LONGEST:
            row.ran(runtime)

    def _failed(self, event: Event, host: WorkerTracker, at: float, now: float) -> None:
        exception = exception_class(event.exception, event.traceback)
        if exception == "Reject" and not (event.exception or "").startswith("Reject("):
            # Celery 5.7 tells of a task that rejects itself as failed too; earlier versions, rightly, do not.
            host.running.pop(event.uuid, None)
            return
        record = self._end(self._failed, event, host, at, now, told_twice=True)
        if record is None:
            return
        row = self._row(record, host)
        row.failed(exception).value += 1
        record.name.last("failed", at)
        if record.started:
            row.failed_after(max(0.0, at - record.started))

    def _retried(self, event: Event, host: WorkerTracker, at: float, now: float) -> None:
        record = self._records.get(event.uuid)
        if record is None:
            record = self._stranger(host, now)
        elif record.row is None:
            self._deferred[event.uuid].append((self._retried, event, host, at))
            return
        self._row(record, host).retried.value += 1
        record.has_retried()
        if not record.started or record.host is not host:  # else the next attempt runs here already
            host.running.pop(event.uuid, None)

    def _revoked(self, event: Event, host: WorkerTracker, at: float, now: float) -> None:
        record = self._end(self._revoked, event, host, at, now)
        if record is not None:
            reason = "terminated" if event.terminated else "expired" if event.expired else "revoked"
            self._row(record, host).revoked(reason).value += 1

    def _rejected(self, event: Event, host: WorkerTracker, at: float, now: float) -> None:
        record = self._records.get(event.uuid)
        if event.requeue and record is not None and record.row is not None:  # it will come again
            host.running.pop(event.uuid, None)
            record.started = 0.0
            self._row(record, host).rejected.value += 1
            return
        record = self._end(self._rejected, event, host, at, now)
        if record is not None:
            self._row(record, host).rejected.value += 1

    def _cancelled(self, event: Event, host: WorkerTracker, at: float, now: float) -> None:
        """Its worker lost the broker and gave it up; the broker will hand it out again."""
        record = host.running.pop(event.uuid, None)
        if record is not None:
            record.started = 0.0

    # Records

    def _stranger(self, host: WorkerTracker, now: float) -> TaskState:
        """A task whose beginning was not heard of."""
        name = self._rows.unknown
        return TaskState(self._rows.row(name, host.queue or UNKNOWN), name, born=now)

    def _follow(self, event: Event, record: TaskState) -> TaskState:
        if len(self._records) >= self._limit:
            self._give_up_some(float("inf"), record.born)
            if len(self._records) >= self._limit:  # all of them run
                self._give_up(list(islice(self._records, _BATCH)), record.born)
        self._records[event.uuid] = record
        return record

    def _may_be_told(self, name: TaskName) -> bool:
        """Whether it pays to wait for the producer to tell of a task of this name."""
        return name.sent_seen or (self._sent_seen and name.unsent <= _UNSENT)

    def _row(self, record: TaskState, host: WorkerTracker) -> TaskSeries:
        row: TaskSeries = record.row
        if row.gone or (row.worker != host.name and self._rows.by_worker):
            row = record.row = self._rows.again(row, record.name, host.name)
        return row

    def _end(
        self,
        handler: Handler,
        event: Event,
        host: WorkerTracker,
        at: float,
        now: float,
        told_twice: bool = False,
    ) -> TaskState | None:
        """The record of a task that ends; None when its end is counted already, or cannot be yet."""
        uuid = event.uuid
        host.running.pop(uuid, None)
        record = self._records.get(uuid)
        if record is None:
            record = self._stranger(host, now)
            if told_twice:
                self._follow(event, record)
        elif record.row is None:
            self._deferred[uuid].append((handler, event, host, at))
            return None
        elif record.ended:
            return None
        record.ended = True
        name = record.name
        if not record.announced:
            name.unsent += 1
        if told_twice or (not record.announced and (name.sent_seen or name.unsent <= _UNSENT)):
            self._ended.append((now + _LINGER, uuid))
            if len(self._ended) > _LINGERING:
                self._forget_ended()
        else:
            self._records.pop(uuid, None)
        return record

    def _resolve(self, uuid: str, queue: str | None, now: float) -> None:
        """Count what was deferred, now that the queue is known or nobody will tell it any more."""
        events = self._deferred.pop(uuid, None)
        record = self._records.get(uuid)
        if events is None or record is None:
            return
        _, first, host, _ = events[0]
        record.row = self._rows.row(record.name, queue or host.queue or UNKNOWN, first)
        for handler, event, host, at in events:
            handler(event, host, at, now)

    def _forget_ended(self) -> None:
        _, uuid = self._ended.popleft()
        record = self._records.get(uuid)
        if record is not None and record.ended:
            del self._records[uuid]

    def _give_up_some(self, born_before: float, now: float) -> None:
        """Those of the oldest that are too old and do not run; what runs goes to the end of the line."""
        old = []
        for uuid, record in list(islice(self._records.items(), _BATCH)):
            if record.born >= born_before:
                break
            if record.started:
                record.born = now
                self._records[uuid] = self._records.pop(uuid)
            else:
                old.append(uuid)
        self._give_up(old, now)

    def _give_up(self, uuids: list[str], now: float) -> None:
        for uuid in uuids:
            if uuid in self._deferred:
                self._resolve(uuid, UNKNOWN, now)
            record = self._records.pop(uuid, None)
            if record is not None:
                record.started = 0.0
        self.evicted += len(uuids)


def _is_due(at: float, now: float, within: float) -> bool:
    """Whether a time has come that was `within` seconds away at the most; also when the clock has been set back."""
    return not now < at <= now + within
