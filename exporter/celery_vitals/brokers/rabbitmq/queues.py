"""Queues on RabbitMQ: a passive declare tells what waits and who consumes; the management API tells the rest."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence

import amqp.exceptions
from amqp import spec

from celery_vitals.brokers import BrokerConnection, Management, QueueInfo
from celery_vitals.brokers.queue_readers import (
    Blind,
    QueueRegistry,
    QueueSnapshot,
    QueueStats,
    is_control_reply,
    is_delayed,
    is_internal,
    stamp,
)
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason

log = logging.getLogger(__name__)

_LONGEST = 255
"""Bytes of a queue's name that AMQP can carry."""
_REFUSALS = 10_000
"""Queues that are remembered as told of in the log, so that it is said once."""
_SETTING = "--rabbitmq-management-url"
_DELAYED_UNSEEN = (
    "queue_delayed_messages",
    "What waits for its ETA in delayed delivery is not seen: {}.",
)
_AT_ONCE = 50
"""Questions that are under way at a time."""
_NO_QUEUE = "no queue"
"""In RabbitMQ's words when there is none; it also does not find one whose node is down."""
_UNSEEN = (
    ("queue_unacked_messages", "What workers hold and have not acknowledged is not seen: {}."),
    ("queue_discovery", "Queues that no worker consumes and no setting names are not seen: {}."),
)


class RabbitMQQueueReader:
    """See `Gauge`."""

    def __init__(
        self,
        connection: BrokerConnection,
        known: QueueRegistry,
        management: Management,
        streams: frozenset[str],
    ) -> None:
        self._connection = connection.kombu
        self._channel = connection.kombu.channel()
        self._known = known
        self._management = management
        self._streams = streams
        self._delaying: list[str] | None = None
        self._refused: dict[str, str] = {}

    def measure(self, consumed: Collection[str], deadline: Deadline) -> QueueSnapshot:
        """The management API for names and unacknowledged messages, then the lengths of this very moment."""
        answer = self._management.queues(self._connection, deadline)
        trouble = answer if isinstance(answer, str) else None
        rows: dict[str, QueueInfo] = {} if isinstance(answer, str) else answer
        infos = {name: info for name, info in rows.items() if not is_internal(name)}
        self._known.found(name for name, info in infos.items() if not info.exclusive)
        if trouble is None:
            self._known.pass_ended()
            self._known.missing(self._known.names() - infos.keys())
            self._delaying = sorted(filter(is_delayed, rows))
        names = [
            name for name in self._known.names() | set(consumed) if len(name.encode()) <= _LONGEST
        ]
        counts = dict(self._declared([*sorted(names), *(self._delaying or ())], deadline))
        queues = {name: self._depth(name, counts.get(name), infos.get(name)) for name in names}
        known = {name: depth for name, depth in queues.items() if depth is not None}
        return QueueSnapshot(
            known,
            delayed=self._delayed(counts),
            orphaned_replies=_orphaned(rows) if trouble is None else None,
            blind=tuple(self._blind(trouble, known)) if trouble else (),
        )

    def close(self) -> None:
        """Nothing was set up."""

    def _depth(
        self, name: str, declared: tuple[int, int] | None, info: QueueInfo | None
    ) -> QueueStats | None:
        if info is None:
            if declared is None:
                return None
            if name in self._streams | self._management.streams:
                return QueueStats(
                    kind="stream"
                )  # AMQP does not count its consumers, and its messages late
            return QueueStats(declared[0], consumers=declared[1])
        # Of a stream AMQP says that it is empty, until it knows better some seconds later.
        ready, consumers = (
            declared if declared and info.kind != "stream" else (info.ready, info.consumers)
        )
        # The message at the head may be one that a worker holds, or one of a high priority.
        oldest_at = (
            stamp(info.head_at) if ready and info.unacked == 0 and not info.by_priority else None
        )
        return QueueStats(ready, info.unacked, consumers, info.kind, oldest_at)

    def _delayed(self, counts: Mapping[str, tuple[int, int]]) -> int | None:
        """Messages in all queues of delayed delivery; None while nobody has told which there are, or one is refused."""
        if self._delaying is None or not counts.keys() >= set(self._delaying):
            return None
        return sum(counts[name][0] for name in self._delaying)

    def _blind(self, trouble: str, queues: Mapping[str, QueueStats]) -> Iterator[Blind]:
        for subject, text in (*_UNSEEN, *([_DELAYED_UNSEEN] if self._delaying is None else [])):
            yield subject, text.format(trouble), _SETTING
        if any(depth.kind == "stream" for depth in queues.values()):
            yield "queue_length", f"How long streams are is not seen: {trouble}.", _SETTING

    def _declared(
        self, names: Sequence[str], deadline: Deadline
    ) -> Iterator[tuple[str, tuple[int, int]]]:
        """Messages ready and consumers; nothing of a queue that does not exist or may not be looked at.

        The broker is asked for many at once, and answers in order.  What it refused the last time is asked for alone:
        with a refusal it forgets what else was asked.
        """
        asked: deque[str] = deque()
        waiting = deque(sorted(names, key=lambda name: name in self._refused))
        while asked or waiting:
            if deadline.passed:
                raise ProbeError(
                    Reason.TIMEOUT,
                    f"{len(asked) + len(waiting)} queues not read when the time was up",
                )
            while waiting and len(asked) < (1 if waiting[0] in self._refused else _AT_ONCE):
                asked.append(waiting.popleft())
                self._ask(asked[-1])
            name = asked.popleft()
            try:
                answered, ready, consumers = self._channel.wait(
                    spec.Queue.DeclareOk, returns_tuple=True
                )
            except (
                amqp.exceptions.NotFound,
                amqp.exceptions.AccessRefused,
                amqp.exceptions.ResourceLocked,
            ) as error:
                # The broker closes the channel with such an answer, and only the channel.
                self._channel = self._connection.channel()
                gone = isinstance(error, amqp.exceptions.NotFound) and _NO_QUEUE in error.reply_text
                if gone:
                    self._known.missing([name])
                if len(self._refused) > _REFUSALS:
                    self._refused.clear()
                waiting.extendleft(reversed(asked))
                asked.clear()
                if self._refused.get(name) != error.reply_text:
                    self._refused[name] = error.reply_text
                    # Queues come and go; of one that is named somebody believes that it is there.
                    level = (
                        logging.DEBUG if gone and not self._known.named(name) else logging.WARNING
                    )
                    log.log(level, "queue %s cannot be read: %s", name, error.reply_text)
                continue
            self._refused.pop(name, None)
            yield answered, (ready, consumers)

    def _ask(self, name: str) -> None:
        """A passive declare, as the library sends it, without waiting for the answer."""
        self._channel.send_method(
            spec.Queue.Declare, "BsbbbbbF", (0, name, True, False, False, False, False, None)
        )


def _orphaned(rows: Mapping[str, QueueInfo]) -> int:
    return sum(1 for name, info in rows.items() if is_control_reply(name) and info.consumers == 0)
