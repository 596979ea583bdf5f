"""Queues on Redis: a list per priority step, and one hash for everything that workers hold."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from celery_vitals import third_party
from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.base import QueueSnapshot, QueueStats
from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.redis.discovery import Discovery
from celery_vitals.brokers.redis.lengths import QueueLengths
from celery_vitals.brokers.redis.message_age import OldestTimestamps
from celery_vitals.brokers.redis.permissions import PermissionBlindSpot, Refusal, refusal_of
from celery_vitals.brokers.redis.priorities import UncountedPriorities
from celery_vitals.brokers.redis.scripts import (
    BYTES,
    UNACKED_BY_QUEUE,
    UNACKED_LIMIT,
    ScriptProblem,
    ServerScript,
)
from celery_vitals.deadline import Deadline
from celery_vitals.metrics.base import label_text
from celery_vitals.queue_registry import QueueRegistry

log = logging.getLogger(__name__)

_NOT_BY_QUEUE = "Unacknowledged messages are not counted by queue: {}."
_NOT_KEPT = "Unacknowledged messages are not counted: with ack_emulation off Redis keeps none."
_UNDECIDED = "there are too many, or some came over an exchange that does not determine their queue"


class RedisQueueReader:
    """A `QueueReader` that names keys as the application's kombu does, from the same options."""

    def __init__(
        self, connection: RedisConnection, registry: QueueRegistry, control_exchange: str
    ) -> None:
        self._redis = connection.redis()
        self._registry = registry
        self._keys = keys = third_party.redis_keys(connection.channel)
        # The exporter's own mailbox has no binding: all that are bound belong to others.
        self._replies = f"{keys.bindings_prefix}reply.{control_exchange}.pidbox"
        self._unacked_by_queue = ServerScript(self._redis, UNACKED_BY_QUEUE)
        self._oldest = OldestTimestamps(self._redis)
        self._discovery = Discovery(self._redis, keys, registry)
        self._lengths = QueueLengths(self._redis, keys.priority_steps, self._key)
        self._uncounted = UncountedPriorities(keys.priority_steps, self._key)
        self._logged: set[str] = set()

    def measure(self, consumed: Collection[str], deadline: Deadline) -> QueueSnapshot:
        """Scan for further queues, then read the lengths, mostly in one pipeline."""
        keys = self._keys
        blind_spots = [*self._discovery.advance(deadline)]
        names = sorted(self._registry.names() | set(consumed))
        pipe = self._redis.pipeline(transaction=False)
        requested = self._lengths.request(pipe, names)
        checked = self._uncounted.request(pipe, names)
        pipe.hlen(keys.unacked)
        pipe.zrange(keys.unacked_index, 0, 0, withscores=True)
        pipe.scard(self._replies)
        answers = pipe.execute(raise_on_error=False)
        _raise_if_all_failed(answers)
        *rest, unacked, oldest, replies = answers
        lengths, others = self._lengths.take(names, rest[:requested]), rest[requested:]
        blind_spots += self._uncounted.take(checked, others)
        blind_spots += _denied([*chain.from_iterable(lengths)], others, (unacked, oldest), replies)
        total = unacked if isinstance(unacked, int) and keys.acknowledges else None
        by_queue = self._unacked(total) if total is not None else None
        if total is not None and by_queue is None:
            blind_spots.append(_not_by_queue(self._unacked_by_queue.problem))
        if not keys.acknowledges:
            blind_spots.append(BlindSpot("queue_unacked_messages", _NOT_KEPT))
        self._log_denied(blind_spots)
        return QueueSnapshot(
            queues=self._with_timestamps(dict(self._stats(names, lengths, by_queue))),
            unacked=total,
            oldest_unacked_at=oldest[0][1] if isinstance(oldest, list) and oldest else None,
            orphaned_replies=replies if isinstance(replies, int) else None,
            blind_spots=tuple(blind_spots),
        )

    def close(self) -> None:
        """Do nothing: nothing was set up."""

    def _key(self, queue: str, step: int) -> str:
        prefix, separator = self._keys.prefix, self._keys.separator
        return f"{prefix}{queue}{separator}{step}" if step else f"{prefix}{queue}"

    def _stats(
        self, names: Sequence[str], lengths: Sequence[list[Any]], unacked: Counter[str] | None
    ) -> Iterator[tuple[str, QueueStats]]:
        """Iterate over the readable queues: a denied key, or one that is no list, costs one."""
        steps = self._keys.priority_steps
        for name, by_step in zip(names, lengths, strict=True):
            error = next((length for length in by_step if isinstance(length, Exception)), None)
            if error is None:
                self._logged.discard(name)
                yield (
                    name,
                    QueueStats(
                        ready=sum(by_step),
                        unacked=unacked[name] if unacked is not None else None,
                        kind="list",
                        by_priority=dict(zip(steps, by_step, strict=True)),
                    ),
                )
                continue
            refusal = refusal_of(error)
            if refusal is None or not refusal.for_all_keys:  # the blind spot covers that case
                self._log_once(name, f"queue {name} cannot be read: {error}")

    def _with_timestamps(self, stats: dict[str, QueueStats]) -> dict[str, QueueStats]:
        waiting = {
            name: [self._key(name, step) for step, length in one.by_priority.items() if length]
            for name, one in stats.items()
        }
        oldest = self._oldest.read(waiting)
        return stats | {name: replace(stats[name], oldest_at=at) for name, at in oldest.items()}

    def _unacked(self, total: int) -> Counter[str] | None:
        """Count unacknowledged messages by queue; None when that cannot be decided."""
        if total == 0:
            return Counter()
        if total > UNACKED_LIMIT:
            return None
        flat = self._unacked_by_queue.run(
            [self._keys.unacked, self._keys.unacked_index], [UNACKED_LIMIT, BYTES]
        )
        if flat is None:
            return None
        try:
            pairs = [_unquoted(name) for name in flat[::2]]
        except ValueError:  # not written by kombu
            return None
        routes = self._discovery.routes({exchange for exchange, _ in pairs if exchange})
        counts: Counter[str] = Counter()
        for (exchange, key), count in zip(pairs, flat[1::2], strict=True):
            queue = routes.get((exchange, key)) if exchange else key
            if queue is None:
                return None
            counts[queue] += count
        return counts

    def _log_denied(self, blind_spots: Iterable[BlindSpot]) -> None:
        for blind_spot in blind_spots:
            if isinstance(blind_spot, PermissionBlindSpot):
                self._log_once(blind_spot.reason, blind_spot.reason)

    def _log_once(self, subject: str, line: str) -> None:
        if subject not in self._logged:
            self._logged.add(subject)
            log.warning("%s", line)


def _unquoted(name: bytes) -> tuple[str, str]:
    """Return exchange and routing key, which the script returns as they stand in JSON."""
    exchange, key = (label_text(json.loads(b'"%s"' % part)) for part in name.split(b"\n"))
    return exchange, key


def _raise_if_all_failed(answers: list[Any]) -> None:
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if len(errors) == len(answers):
        raise errors[0]


def _not_by_queue(problem: Refusal | ScriptProblem | None) -> BlindSpot:
    subject = "queue_unacked_messages"
    if isinstance(problem, Refusal):
        return PermissionBlindSpot(subject, _NOT_BY_QUEUE.format(problem.clause))
    return BlindSpot(subject, _NOT_BY_QUEUE.format(problem.value if problem else _UNDECIDED))


def _denied(
    lengths: Sequence[Any], others: Sequence[Any], unacked: Sequence[Any], replies: Any
) -> Iterator[BlindSpot]:
    """Iterate over the blind spots that permissions cause."""
    for subject, sentence, answers in (
        ("queue_length", "The lengths of some queues are not read: {}.", lengths),
        ("queue_priorities", "Messages at other priorities are not detected: {}.", others),
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
