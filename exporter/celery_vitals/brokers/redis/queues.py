"""Queues on Redis: a list per priority step, and one hash for everything that workers hold."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.queue_stats import QueueSnapshot, QueueStats, WorkerReports
from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.redis.discovery import Discovery
from celery_vitals.brokers.redis.key_layout import KeyLayout
from celery_vitals.brokers.redis.lengths import QueueLengths
from celery_vitals.brokers.redis.message_age import OldestTimestamps
from celery_vitals.brokers.redis.permissions import PermissionBlindSpot, refusal_of
from celery_vitals.brokers.redis.unacked import UnackedMessages
from celery_vitals.deadline import Deadline
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.third_party import kombu_redis

log = logging.getLogger(__name__)


class RedisQueueReader:
    """A `QueueReader` that names keys as the application's kombu does, from the same options."""

    def __init__(
        self, connection: RedisConnection, registry: QueueRegistry, control_exchange: str
    ) -> None:
        self._channel = connection.channel
        self._redis = connection.redis()
        self._registry = registry
        self._layout = layout = KeyLayout(kombu_redis.redis_keys(connection.channel))
        # The exporter's own mailbox has no binding: all that are bound belong to others.
        self._replies = f"{layout.own.bindings_prefix}reply.{control_exchange}.pidbox"
        self._oldest = OldestTimestamps(self._redis)
        self._discovery = Discovery(self._redis, layout, registry)
        self._unacked = UnackedMessages(self._redis, layout, self._discovery)
        self._lengths = QueueLengths(self._redis, layout)
        self._logged: set[str] = set()

    def measure(self, reports: WorkerReports, deadline: Deadline) -> QueueSnapshot:
        """Scan for further queues, then read the lengths, mostly in one pipeline."""
        self._use(reports.transport_options)
        blind_spots = [*self._discovery.advance(deadline)]
        known = self._registry.names() | reports.queues
        unknown = self._discovery.unknown_options(known)
        names = sorted(known - unknown.queues)
        pipe = self._redis.pipeline(transaction=False)
        requested = self._lengths.request(pipe, names)
        self._unacked.request(pipe)
        pipe.scard(self._replies)
        answers = pipe.execute(raise_on_error=False)
        _raise_if_all_failed(answers)
        *_, held, oldest, replies = answers
        lengths = self._lengths.take(names, answers[:requested])
        unacked = self._unacked.take(held, oldest)
        blind_spots += unknown.blind_spots()
        blind_spots += self._denied(lengths, (held, oldest), replies)
        blind_spots += unacked.blind_spots
        self._log_denied(blind_spots)
        return QueueSnapshot(
            queues=self._with_timestamps(dict(self._stats(lengths, unacked.by_queue)), lengths),
            unacked=unacked.total,
            oldest_unacked_at=unacked.oldest_at,
            orphaned_replies=replies if isinstance(replies, int) else None,
            blind_spots=tuple(blind_spots),
        )

    def close(self) -> None:
        """Do nothing: nothing was set up."""

    def _use(self, options: Sequence[Mapping[str, Any]]) -> None:
        """Name keys by the options of the workers as well."""
        workers = dict.fromkeys(kombu_redis.redis_keys(self._channel, one) for one in options)
        layout = KeyLayout(self._layout.own, tuple(workers))
        if layout != self._layout:
            self._layout = self._discovery.layout = self._unacked.layout = layout
            self._lengths = QueueLengths(self._redis, layout)

    def _stats(
        self, lengths: Mapping[str, Mapping[str, Any]], unacked: Counter[str] | None
    ) -> Iterator[tuple[str, QueueStats]]:
        """Iterate over the readable queues: a denied key, or one that is no list, costs one."""
        for name, by_key in lengths.items():
            error = next(self._errors(name, by_key), None)
            if error is None:
                self._logged.discard(name)
                by_priority = self._by_priority(name, by_key)
                yield (
                    name,
                    QueueStats(
                        ready=sum(by_priority.values()),
                        unacked=unacked[name] if unacked is not None else None,
                        kind="list",
                        by_priority=by_priority,
                    ),
                )
                continue
            refusal = refusal_of(error)
            if refusal is None or not refusal.for_all_keys:  # the blind spot covers that case
                self._log_once(name, f"queue {name} cannot be read: {error}")

    def _errors(
        self, name: str, by_key: Mapping[str, Any], needed: bool = True
    ) -> Iterator[Exception]:
        """Iterate over the errors at the application's priority steps, or at all others."""
        failed = {key: one for key, one in by_key.items() if isinstance(one, Exception)}
        steps = self._layout.lists(name) if failed else {}
        for key, error in failed.items():
            if (steps[key] in (0, *self._layout.steps)) is needed:
                yield error

    def _by_priority(self, name: str, by_key: Mapping[str, Any]) -> dict[float, int]:
        counts: dict[float, int] = dict.fromkeys(self._layout.steps, 0)
        waiting = {key: length for key, length in by_key.items() if isinstance(length, int)}
        steps = self._layout.lists(name) if any(waiting.values()) else {}
        for key, step in steps.items():
            if length := waiting.get(key):
                counts[step] = counts.get(step, 0) + length
        return counts

    def _with_timestamps(
        self, stats: dict[str, QueueStats], lengths: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, QueueStats]:
        waiting = {
            name: [
                key for key, length in lengths[name].items() if isinstance(length, int) and length
            ]
            for name in stats
        }
        oldest = self._oldest.read(waiting)
        return stats | {name: replace(stats[name], oldest_at=at) for name, at in oldest.items()}

    def _denied(
        self, lengths: Mapping[str, Mapping[str, Any]], unacked: Sequence[Any], replies: Any
    ) -> Iterator[BlindSpot]:
        """Iterate over the blind spots that permissions cause."""
        needed, others = (
            [
                error
                for name, by_key in lengths.items()
                for error in self._errors(name, by_key, kind)
            ]
            for kind in (True, False)
        )
        for subject, sentence, answers in (
            ("queue_length", "The lengths of some queues are not read: {}.", needed),
            ("queue_priorities", "Messages at other priorities are not counted: {}.", others),
            (
                "queue_unacked_messages",
                "Unacknowledged messages and their age are not read: {}.",
                unacked,
            ),
            ("orphaned_reply_queues", "Orphaned reply queues are not counted: {}.", [replies]),
        ):
            errors = (answer for answer in answers if isinstance(answer, Exception))
            refusal = next(filter(None, map(refusal_of, errors)), None)
            if refusal is not None:
                yield PermissionBlindSpot(subject, sentence.format(refusal.clause))

    def _log_denied(self, blind_spots: Iterable[BlindSpot]) -> None:
        for blind_spot in blind_spots:
            if isinstance(blind_spot, PermissionBlindSpot):
                self._log_once(blind_spot.reason, blind_spot.reason)

    def _log_once(self, subject: str, line: str) -> None:
        if subject not in self._logged:
            self._logged.add(subject)
            log.warning("%s", line)


def _raise_if_all_failed(answers: list[Any]) -> None:
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if len(errors) == len(answers):
        raise errors[0]
