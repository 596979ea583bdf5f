"""Queues on RabbitMQ: lengths and consumers from passive declares, the rest from the management
API."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import amqp.exceptions

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.kombu_message import producer_timestamp
from celery_vitals.brokers.queue_stats import QueueSnapshot, QueueStats, WorkerReports
from celery_vitals.brokers.rabbitmq.connection import AmqpConnection
from celery_vitals.brokers.rabbitmq.management import ManagementApi, ManagementUnavailable
from celery_vitals.brokers.rabbitmq.management_answers import QueueInfo
from celery_vitals.brokers.rabbitmq.rare_requests import RareRequests
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.queue_names import ends_in_uuid, is_control_reply, is_delayed, is_internal
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.third_party import py_amqp

log = logging.getLogger(__name__)

_LONGEST_NAME = 255
"""Bytes of a queue's name that AMQP can carry."""
_MAX_REFUSED = 10_000
"""Queues whose refusal is remembered, so that it is logged once."""
_SETTING = "--rabbitmq-management-url"
_PIPELINED = 50
"""Requests in flight."""
_NO_QUEUE = "no queue"
"""RabbitMQ's text for a missing queue; it also answers NOT_FOUND for one whose node is down."""
_WITHOUT_API = (
    (
        "queue_unacked_messages",
        "Messages held by workers and not acknowledged are not counted: {}.",
    ),
    (
        "queue_discovery",
        "Queues that no worker consumes and no setting names are not discovered, nor which of them"
        " receive dead letters: {}.",
    ),
)
_DELAYED_WITHOUT_API = (
    "queue_delayed_messages",
    "Messages waiting for their ETA in delayed delivery are not counted: {}.",
)
_REFUSALS: Mapping[type[amqp.exceptions.AMQPError], str] = {
    amqp.exceptions.ResourceLocked: "another connection has the exclusive use of it",
    amqp.exceptions.AccessRefused: "permission denied",
    amqp.exceptions.NotFound: "its node is not available",
}
_NAMED = 3
_STREAMS_WITHOUT_API = ("queue_length", "The lengths of streams are not read: {}.")


class RabbitMQQueueReader:
    """A `QueueReader` for RabbitMQ."""

    def __init__(
        self,
        connection: AmqpConnection,
        registry: QueueRegistry,
        management: ManagementApi,
        rare: RareRequests,
        streams: frozenset[str],
    ) -> None:
        self._connection = connection.kombu
        self._channel = connection.kombu.channel()
        self._registry = registry
        self._management = management
        self._rare = rare
        self._streams = streams
        self._delay_queues: list[str] | None = None
        self._refused: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}
        """Queues that exist and may not be read, and why."""

    def measure(self, reports: WorkerReports, deadline: Deadline) -> QueueSnapshot:
        """Ask the management API for names and unacknowledged messages, then read the lengths."""
        infos, unavailable = self._infos(deadline)
        names = [
            name
            for name in self._registry.names() | reports.queues
            if len(name.encode()) <= _LONGEST_NAME
        ]
        counts = dict(self._declared([*sorted(names), *(self._delay_queues or ())], deadline))
        stats = {name: self._stats(name, counts.get(name), infos.get(name)) for name in names}
        queues = {name: one for name, one in stats.items() if one is not None}
        blind_spots = [*self._blind_spots(unavailable, queues)] if unavailable else []
        unread = {name: self._unreadable[name] for name in self._unreadable.keys() & stats.keys()}
        blind_spots += _unread({name: why for name, why in unread.items() if name not in queues})
        routes = {
            name: route
            for name, info in infos.items()
            if name in queues and (route := info.dead_letter_route) is not None
        }
        if not unavailable:  # last: the lengths must not wait for it
            self._rare.update(self._connection, deadline, bool(routes))
        return QueueSnapshot(
            queues,
            delayed=self._delayed(counts),
            dead_letter_queues=self._rare.dead_letters(routes),
            dropped=None if unavailable else self._rare.dropped,
            orphaned_replies=None if unavailable else _orphaned(infos),
            blind_spots=tuple(blind_spots),
        )

    def close(self) -> None:
        """Do nothing: nothing was set up."""

    def _infos(self, deadline: Deadline) -> tuple[dict[str, QueueInfo], str]:
        """Return the API's queues, or none and why they are unavailable."""
        try:
            infos = self._management.queues(self._connection, deadline)
        except ManagementUnavailable as unavailable:
            return {}, str(unavailable)
        public = {name: info for name, info in infos.items() if not is_internal(name)}
        self._registry.add(name for name, info in public.items() if not _of_one_process(name, info))
        self._registry.end_scan()
        self._registry.mark_missing(self._registry.names() - public.keys())
        self._delay_queues = sorted(filter(is_delayed, infos))
        return infos, ""

    def _stats(
        self, name: str, declared: tuple[int, int] | None, info: QueueInfo | None
    ) -> QueueStats | None:
        if info is None or is_internal(name):
            if declared is None:
                return None
            if name in self._streams | self._management.streams:
                # AMQP does not count a stream's consumers, and its messages late.
                return QueueStats(kind="stream")
            return QueueStats(declared[0], consumers=declared[1])
        # AMQP reports 0 messages of a stream for some seconds.
        ready, consumers = (
            declared if declared and info.kind != "stream" else (info.ready, info.consumers)
        )
        # The message at the head may be one that a worker holds, or one of a high priority.
        head_is_oldest = ready and info.unacked == 0 and not info.by_priority
        oldest_at = producer_timestamp(info.head_at) if head_is_oldest else None
        return QueueStats(ready, info.unacked, consumers, info.kind, oldest_at)

    def _delayed(self, counts: Mapping[str, tuple[int, int]]) -> int | None:
        """Sum the queues of delayed delivery; None while they are unknown or one is refused."""
        if self._delay_queues is None or not counts.keys() >= set(self._delay_queues):
            return None
        return sum(counts[name][0] for name in self._delay_queues)

    def _blind_spots(
        self, unavailable: str, queues: Mapping[str, QueueStats]
    ) -> Iterator[BlindSpot]:
        without = [*_WITHOUT_API]
        if self._delay_queues is None:
            without.append(_DELAYED_WITHOUT_API)
        if any(one.kind == "stream" for one in queues.values()):
            without.append(_STREAMS_WITHOUT_API)
        for subject, sentence in without:
            yield BlindSpot(subject, sentence.format(unavailable), _SETTING)

    def _declared(
        self, names: Sequence[str], deadline: Deadline
    ) -> Iterator[tuple[str, tuple[int, int]]]:
        """Iterate over messages ready and consumers of the queues that exist and may be read.

        Many requests are in flight at once, and the broker answers in order.  A queue that it
        refused the last time is requested alone: a refusal drops the other requests.
        """
        asked: deque[str] = deque()
        waiting = deque(sorted(names, key=lambda name: name in self._refused))
        while asked or waiting:
            if deadline.passed:
                unread = len(asked) + len(waiting)
                raise ProbeError(Reason.TIMEOUT, f"deadline reached with {unread} queues unread")
            while waiting and len(asked) < (1 if waiting[0] in self._refused else _PIPELINED):
                asked.append(waiting.popleft())
                py_amqp.send_passive_declare(self._channel, asked[-1])
            name = asked.popleft()
            try:
                answered, ready, consumers = py_amqp.receive_declared(self._channel)
            except (
                amqp.exceptions.NotFound,
                amqp.exceptions.AccessRefused,
                amqp.exceptions.ResourceLocked,
            ) as error:
                # The broker closes the channel with such an answer, and only the channel.
                self._channel = self._connection.channel()
                waiting.extendleft(reversed(asked))
                asked.clear()
                self._refuse(name, error)
                continue
            self._refused.pop(name, None)
            self._unreadable.pop(name, None)
            yield answered, (ready, consumers)

    def _refuse(self, name: str, error: amqp.exceptions.AMQPError) -> None:
        """Remember a queue that is missing or refused; log it once."""
        missing = isinstance(error, amqp.exceptions.NotFound) and _NO_QUEUE in error.reply_text
        if missing:
            self._registry.mark_missing([name])
            self._unreadable.pop(name, None)
        else:
            self._unreadable[name] = next(
                why for kind, why in _REFUSALS.items() if isinstance(error, kind)
            )
        if len(self._refused) > _MAX_REFUSED:
            self._refused.clear()
            self._unreadable.clear()
        if self._refused.get(name) == error.reply_text:
            return
        self._refused[name] = error.reply_text
        # Queues come and go; a configured one is expected to exist.
        expected = not missing or self._registry.is_configured(name)
        level = logging.WARNING if expected else logging.DEBUG
        log.log(level, "queue %s cannot be read: %s", name, error.reply_text)


def _of_one_process(name: str, info: QueueInfo) -> bool:
    """Return whether a queue ends with its process: also one of events, with any prefix."""
    return info.exclusive or (info.auto_delete and ends_in_uuid(name))


def _unread(queues: Mapping[str, str]) -> Iterator[BlindSpot]:
    """Yield the blind spot of queues that exist and have no length, with the reason of each."""
    if queues:
        names = ", ".join(sorted(queues)[:_NAMED]) + (" and others" if len(queues) > _NAMED else "")
        reasons = "; ".join(sorted(set(queues.values())))
        yield BlindSpot(
            "queue_length", f"The lengths of {names} are not read: {reasons}.", _SETTING
        )


def _orphaned(infos: Mapping[str, QueueInfo]) -> int:
    return sum(1 for name, info in infos.items() if is_control_reply(name) and info.consumers == 0)
