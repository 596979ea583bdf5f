"""From events to the series of tasks: tracks each task by its uuid, so that every event finds its
name and queue.

Not `celery.events.State`: that one forgets tasks above a few thousand, shifts times by the time
zone, and relies on events that come once and in order.  They do neither: a task may be received
before its task-sent event arrives, a hard time limit fails it twice, an ignored task never ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from celery_vitals.events.decode import Event, parse_eta
from celery_vitals.events.deferred_events import DeferredEvents, Handler, is_due
from celery_vitals.events.exceptions import exception_class
from celery_vitals.events.task_series import UNKNOWN, TaskName, TaskSeries, TaskSeriesIndex
from celery_vitals.events.task_state import OBSERVED, TaskState, WaitingTasks
from celery_vitals.events.worker_tracker import WorkerTracker

_KEEP_ENDED = 5.0
"""Seconds for which a task that has ended is kept, where further events of it may arrive."""
_MAX_ENDED = 20_000
_BATCH = 1024
_MAX_RUNTIME = 100 * 365 * 86400.0
"""Seconds; a longer runtime is invalid, and would spoil the sum forever."""
_NO_SENT_EVENTS_AFTER = 100
"""Tasks of one name that end without a task-sent event, after which none is expected any more."""


class TaskTracker:
    """The tracked tasks.  For one thread."""

    def __init__(self, index: TaskSeriesIndex, max_tasks: int, forget_after: float) -> None:
        self._index = index
        self._max_tasks = max_tasks
        self.forget_after = forget_after
        """Seconds after which a task that is not known to run is evicted."""
        self._tasks: dict[str, TaskState] = {}
        self._deferred = DeferredEvents()
        self._ended: deque[tuple[float, str]] = deque()
        self._waiting = WaitingTasks(self._tasks)
        self._sent_event_seen = False
        self.evicted = 0
        """Tasks no longer tracked because of their number or their age."""
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
        return len(self._tasks)

    def oldest_waiting(self) -> Iterator[tuple[str, float]]:
        """Return each queue in which a task waits, by the events, and when the oldest was sent."""
        return self._waiting.oldest()

    def clear_waiting(self, queues: Iterable[str] | None = None) -> None:
        """Forget which tasks wait: in these queues, or in all of them after events were lost.

        Where a worker takes tasks without sending task events, it is unknown what still waits.
        """
        if queues is None:
            self._waiting.clear()
            return
        for queue in queues:
            self._waiting.pop(queue, None)

    def expire(self, now: float) -> None:
        """Count deferred events that timed out, and remove the tasks that have ended or are old."""
        while (uuid := self._deferred.pop_due(now)) is not None:
            self._count_deferred(uuid, None, now)
        while self._ended and is_due(self._ended[0][0], now, _KEEP_ENDED):
            self._forget_ended()
        self._waiting.remove_empty()
        self._evict_old(now - self.forget_after, now)

    def forget_silently_ended(self, uuids: list[str], before: float) -> None:
        """Remove tasks that ended without an event, unless they have started again since."""
        for uuid in uuids:
            task = self._tasks.get(uuid)
            if task is not None and task.started_at < before:
                del self._tasks[uuid]

    # Event handlers

    def _sent(self, event: Event, producer: WorkerTracker, at: float, now: float) -> None:
        name = self._index.name(event.name)
        name.sent_event_seen = self._sent_event_seen = True
        name.set_last("sent", at)
        queue = event.queue or UNKNOWN
        since = (
            max(at, parse_eta(event.eta, event.utcoffset, producer.clock.correction))
            if event.eta
            else at
        )
        attempt = event.retries or 0
        task = self._tasks.get(event.uuid)
        if task is None:
            task = self._track(event, TaskState(None, name, first_seen=now, attempt=attempt))
        task.name, task.sent_event_seen = name, True
        started_at = task.record_sent(attempt, since)
        worker = task.series.worker if task.series is not None else ""
        if event.uuid in self._deferred:
            self._count_deferred(event.uuid, queue, now)
        elif task.series is None or (attempt <= task.attempt and task.series.labels[1] != queue):
            task.series = self._index.series(name, queue, event)
        series = self._series(task, producer)
        series.sent.value += 1
        if worker:
            task.series = self._index.successor(series, name, worker)
        if started_at:
            task.series.observe_wait(max(0.0, started_at - since))
        elif task.sent_at > 0 and attempt == task.attempt and not event.eta and not task.ended:
            self._waiting.add(series.sent.labels[1], event.uuid)

    def _received(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        task = self._tasks.get(event.uuid)
        if task is None:
            name, attempt = self._index.name(event.name), event.retries or 0
            task = self._track(event, TaskState(None, name, first_seen=now, attempt=attempt))
            if worker.queue is None and (self._expects_sent(name) or not worker.queues_settled):
                self._deferred.start(event.uuid, (self._received, event, worker, at), now)
                return
            task.series = self._index.series(name, worker.queue or UNKNOWN, event)
        elif task.series is None:
            self._deferred[event.uuid].append((self._received, event, worker, at))
            return
        elif task.name is self._index.unknown and event.name:
            task.name = self._index.name(event.name)
            task.series = self._index.series(task.name, task.series.labels[1], event)
        task.record_received(event.retries or 0)
        task.ended = False
        self._series(task, worker).received.value += 1

    def _started(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        task = self._tasks.get(event.uuid)
        if task is None:
            task = self._track(event, self._unknown_task(worker, now))
        elif task.series is None:
            self._deferred[event.uuid].append((self._started, event, worker, at))
            return
        self._series(task, worker).started.value += 1
        task.record_start(at, worker)
        worker.running[event.uuid] = task
        if task.sent_at > 0:
            task.series.observe_wait(max(0.0, at - task.sent_at))
            task.sent_at = OBSERVED

    def _succeeded(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        task = self._end(self._succeeded, event, worker, at, now)
        if task is None:
            return
        series = self._series(task, worker)
        series.succeeded.value += 1
        task.name.set_last("succeeded", at)
        runtime = event.runtime
        if runtime is not None and 0 <= runtime < _MAX_RUNTIME:
            series.observe_runtime(runtime)

    def _failed(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        exception = exception_class(event.exception, event.traceback)
        if exception == "Reject" and not (event.exception or "").startswith("Reject("):
            # Celery 5.7 reports a task that rejects itself as failed, too; earlier versions do not.
            worker.running.pop(event.uuid, None)
            return
        task = self._end(self._failed, event, worker, at, now, may_repeat=True)
        if task is None:
            return
        series = self._series(task, worker)
        series.failed(exception).value += 1
        task.name.set_last("failed", at)
        if task.started_at:
            series.observe_failed_runtime(max(0.0, at - task.started_at))

    def _retried(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        task = self._tasks.get(event.uuid)
        if task is None:
            task = self._unknown_task(worker, now)
        elif task.series is None:
            self._deferred[event.uuid].append((self._retried, event, worker, at))
            return
        self._series(task, worker).retried.value += 1
        task.record_retry()
        # Otherwise the next attempt runs here already.
        if not task.started_at or task.worker is not worker:
            worker.running.pop(event.uuid, None)

    def _revoked(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        task = self._end(self._revoked, event, worker, at, now)
        if task is not None:
            reason = "terminated" if event.terminated else "expired" if event.expired else "revoked"
            self._series(task, worker).revoked(reason).value += 1

    def _rejected(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        task = self._tasks.get(event.uuid)
        if event.requeue and task is not None and task.series is not None:  # to be delivered again
            worker.running.pop(event.uuid, None)
            task.started_at = 0.0
            self._series(task, worker).rejected.value += 1
            return
        task = self._end(self._rejected, event, worker, at, now)
        if task is not None:
            self._series(task, worker).rejected.value += 1

    def _cancelled(self, event: Event, worker: WorkerTracker, at: float, now: float) -> None:
        """Stop a task whose worker lost the broker: the broker will deliver it again."""
        task = worker.running.pop(event.uuid, None)
        if task is not None:
            task.started_at = 0.0

    # Task states

    def _unknown_task(self, worker: WorkerTracker, now: float) -> TaskState:
        """Return the state of a task whose first events did not arrive."""
        name = self._index.unknown
        series = self._index.series(name, worker.queue or UNKNOWN)
        return TaskState(series, name, first_seen=now)

    def _track(self, event: Event, task: TaskState) -> TaskState:
        if len(self._tasks) >= self._max_tasks:
            self._evict_old(float("inf"), task.first_seen)
            if len(self._tasks) >= self._max_tasks:  # all of them run
                self._evict(list(islice(self._tasks, _BATCH)), task.first_seen)
        self._tasks[event.uuid] = task
        return task

    def _expects_sent(self, name: TaskName) -> bool:
        """Return whether a task-sent event is expected for a task of this name."""
        return name.sent_event_seen or (
            self._sent_event_seen and name.ended_without_sent <= _NO_SENT_EVENTS_AFTER
        )

    def _series(self, task: TaskState, worker: WorkerTracker) -> TaskSeries:
        series: TaskSeries = task.series
        if series.expired or (series.worker != worker.name and self._index.by_worker):
            series = task.series = self._index.successor(series, task.name, worker.name)
        return series

    def _end(
        self,
        handler: Handler,
        event: Event,
        worker: WorkerTracker,
        at: float,
        now: float,
        may_repeat: bool = False,
    ) -> TaskState | None:
        """End a task; return None when its end is counted already, or deferred."""
        uuid = event.uuid
        worker.running.pop(uuid, None)
        task = self._tasks.get(uuid)
        if task is None:
            task = self._unknown_task(worker, now)
            if may_repeat:
                self._track(event, task)
        elif task.series is None:
            self._deferred[uuid].append((handler, event, worker, at))
            return None
        elif task.ended:
            return None
        task.ended = True
        name = task.name
        if not task.sent_event_seen:
            name.ended_without_sent += 1
        # Keep it where a second end or its task-sent event may still arrive.
        if may_repeat or (
            not task.sent_event_seen
            and (name.sent_event_seen or name.ended_without_sent <= _NO_SENT_EVENTS_AFTER)
        ):
            self._ended.append((now + _KEEP_ENDED, uuid))
            if len(self._ended) > _MAX_ENDED:
                self._forget_ended()
        else:
            self._tasks.pop(uuid, None)
        return task

    def _count_deferred(self, uuid: str, queue: str | None, now: float) -> None:
        """Count the deferred events of a task, now that its queue is known or timed out."""
        events = self._deferred.pop(uuid, None)
        task = self._tasks.get(uuid)
        if events is None or task is None:
            return
        _, first, worker, _ = events[0]
        task.series = self._index.series(task.name, queue or worker.queue or UNKNOWN, first)
        for handler, event, worker, at in events:
            handler(event, worker, at, now)

    def _forget_ended(self) -> None:
        _, uuid = self._ended.popleft()
        task = self._tasks.get(uuid)
        if task is not None and task.ended:
            del self._tasks[uuid]

    def _evict_old(self, seen_before: float, now: float) -> None:
        """Evict the oldest tasks that do not run; those that run move to the end of the order."""
        old = []
        for uuid, task in list(islice(self._tasks.items(), _BATCH)):
            if task.first_seen >= seen_before:
                break
            if task.started_at:
                task.first_seen = now
                self._tasks[uuid] = self._tasks.pop(uuid)
            else:
                old.append(uuid)
        self._evict(old, now)

    def _evict(self, uuids: list[str], now: float) -> None:
        for uuid in uuids:
            if uuid in self._deferred:
                self._count_deferred(uuid, UNKNOWN, now)
            task = self._tasks.pop(uuid, None)
            if task is not None:
                task.started_at = 0.0
        self.evicted += len(uuids)
