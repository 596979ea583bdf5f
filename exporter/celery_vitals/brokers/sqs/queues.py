"""Queues on Amazon SQS: one request per queue, which reads three numbers and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.queue_stats import QueueSnapshot, QueueStats, WorkerReports
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.reasons import reason_of
from celery_vitals.third_party import kombu_sqs

_READY, _UNACKED, _DELAYED = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_LIST_EVERY = 300.0
"""Seconds between two lists of queues.  SQS lists the first thousand."""
_SHOWN = 5


class SqsQueueReader:
    """A `QueueReader` that resolves names, URLs and credentials as the application's kombu does."""

    def __init__(self, connection: BrokerConnection, registry: QueueRegistry) -> None:
        self._channel = connection.channel
        self._registry = registry
        self._next_list = 0.0

    def measure(self, reports: WorkerReports, deadline: Deadline) -> QueueSnapshot:
        """Read every queue that exists; no queue is created, and no message received."""
        self._discover()
        queues: dict[str, QueueStats] = {}
        missing: list[str] = []
        denied: dict[str, Exception] = {}
        for name in sorted(self._registry.names() | reports.queues):
            if deadline.passed:
                raise ProbeError(Reason.TIMEOUT, f"deadline reached after {len(queues)} queues")
            try:
                stats = self._read(name)
            except Exception as error:
                if reason_of(error) is not Reason.PERMISSION:
                    raise
                denied[name] = error
                continue
            if stats is None:
                missing.append(name)
            else:
                queues[name] = stats
        if denied and not queues:
            raise next(iter(denied.values()))
        return QueueSnapshot(queues, blind_spots=tuple(self._blind_spots(missing, denied)))

    def close(self) -> None:
        """Do nothing: nothing was set up."""

    def _discover(self) -> None:
        """Find predefined queues, or those with the application's own prefix.

        Without a prefix the account may hold queues of others: only named ones are read.
        """
        if time.monotonic() < self._next_list:
            return
        channel = self._channel
        names = list(channel.predefined_queues)
        if channel.queue_name_prefix and not names:
            prefix = channel.canonical_queue_name("")
            by_name = {channel.canonical_queue_name(one): one for one in self._registry.names()}
            listed = kombu_sqs.list_sqs_queues(channel, prefix)
            names = [by_name.get(name, name.removeprefix(prefix)) for name in listed]
        self._registry.add(names)
        self._registry.end_scan()
        self._next_list = time.monotonic() + _LIST_EVERY

    def _read(self, queue: str) -> QueueStats | None:
        """Return a queue's numbers; None when it does not exist."""
        channel = self._channel
        name = channel.canonical_queue_name(queue)
        url = kombu_sqs.sqs_queue_url(channel, name)
        if url is None:
            return None
        client = channel.sqs(name)
        try:
            answer = client.get_queue_attributes(
                QueueUrl=url, AttributeNames=[_READY, _UNACKED, _DELAYED]
            )
        except client.exceptions.QueueDoesNotExist:
            if not channel.predefined_queues:
                kombu_sqs.forget_sqs_queue(channel, name)
            return None
        numbers = answer.get("Attributes", {})
        return QueueStats(
            _number(numbers, _READY), _number(numbers, _UNACKED), delayed=_number(numbers, _DELAYED)
        )

    def _blind_spots(
        self, missing: Collection[str], denied: Collection[str]
    ) -> Iterator[BlindSpot]:
        if missing:
            where = (
                "predefined_queues"
                if self._channel.predefined_queues
                else f"the region {self._channel.region}"
            )
            yield BlindSpot(
                "queues",
                f"Queues not found in {where} are not read: {_some(missing)}. A worker creates its"
                " queues when it first starts.",
                "--broker-transport-option",
            )
        if denied:
            yield BlindSpot("queue_length", f"Permission denied for the queues: {_some(denied)}.")


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN])


def _number(attributes: Mapping[str, str], name: str) -> int | None:
    value = attributes.get(name)
    return int(value) if value is not None else None
