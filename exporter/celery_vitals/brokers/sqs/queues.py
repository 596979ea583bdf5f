"""Queues on Amazon SQS: one request per queue, which reads three numbers and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Any

from kombu.transport.SQS.exceptions import DoesNotExistQueueException, UndefinedQueueException

from celery_vitals.brokers import BrokerConnection
from celery_vitals.brokers.queue_readers import Blind, QueueRegistry, QueueSnapshot, QueueStats
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason, reason_of

_READY, _HELD, _DELAYED = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_LIST_EVERY = 300.0
"""Seconds between two looks for queues that nobody has named.  SQS shows the first thousand."""


class SqsQueueReader:
    """See `Gauge`.  Names, addresses and credentials are resolved as the application's own kombu resolves them."""

    def __init__(self, connection: BrokerConnection, known: QueueRegistry) -> None:
        self._channel = connection.channel
        self._known = known
        self._next_list = 0.0

    def measure(self, consumed: Collection[str], deadline: Deadline) -> QueueSnapshot:
        """The numbers of every queue that exists; a queue is never created, and never received from."""
        self._discover()
        queues: dict[str, QueueStats] = {}
        missing: list[str] = []
        refused: dict[str, Exception] = {}
        for name in sorted(self._known.names() | set(consumed)):
            if deadline.passed:
                raise ProbeError(Reason.TIMEOUT, f"{len(queues)} queues read, then the time was up")
            try:
                depth = self._depth(name)
            except Exception as error:
                if reason_of(error) is not Reason.PERMISSION:
                    raise
                refused[name] = error
                continue
            if depth is None:
                missing.append(name)
            else:
                queues[name] = depth
        if refused and not queues:
            raise next(iter(refused.values()))
        return QueueSnapshot(queues, blind=tuple(self._blind(missing, refused)))

    def close(self) -> None:
        """Nothing was set up."""

    def _discover(self) -> None:
        """Predefined queues, or those that begin with the application's own prefix.

        Without a prefix there may be anybody's queues in the account: then only those that are named are read.
        """
        if time.monotonic() < self._next_list:
            return
        channel = self._channel
        found = list(channel.predefined_queues)
        if channel.queue_name_prefix and not found:
            prefix = channel.canonical_queue_name("")
            channel._update_queue_cache(prefix)
            known = {channel.canonical_queue_name(name): name for name in self._known.names()}
            found = [known.get(name, name.removeprefix(prefix)) for name in channel._queue_cache]
        self._known.found(found)
        self._known.pass_ended()
        self._next_list = time.monotonic() + _LIST_EVERY

    def _depth(self, queue: str) -> QueueStats | None:
        channel = self._channel
        name = channel.canonical_queue_name(queue)
        try:
            url = channel._resolve_queue_url(queue)
        except (DoesNotExistQueueException, UndefinedQueueException):
            return None
        client = channel.sqs(name)
        try:
            answer = client.get_queue_attributes(
                QueueUrl=url, AttributeNames=[_READY, _HELD, _DELAYED]
            )
        except client.exceptions.QueueDoesNotExist:
            if not channel.predefined_queues:
                channel._queue_cache.pop(name, None)
            return None
        numbers = answer.get("Attributes", {})
        return QueueStats(
            _number(numbers, _READY), _number(numbers, _HELD), delayed=_number(numbers, _DELAYED)
        )

    def _blind(self, missing: Collection[str], refused: Collection[str]) -> Iterator[Blind]:
        if missing:
            where = (
                "predefined_queues"
                if self._channel.predefined_queues
                else f"the region {self._channel.region}"
            )
            text = f"Queues that are not in {where} have no numbers: {_some(missing)}. A worker creates a queue when it"
            yield "queues", f"{text} first starts.", "--broker-transport-option"
        if refused:
            yield (
                "queue_length",
                f"Queues that this user may not read have no numbers: {_some(refused)}.",
                "",
            )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:5])


def _number(attributes: dict[str, Any], name: str) -> int | None:
    value = attributes.get(name)
    return int(value) if value is not None else None
