"""Queues on Redis: a list per priority step, and one hash for everything that workers hold."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from celery_vitals.brokers import BrokerConnection
from celery_vitals.brokers.queue_readers import Blind, QueueRegistry, QueueSnapshot, QueueStats
from celery_vitals.brokers.redis.discovery import Discovery
from celery_vitals.brokers.redis.message_age import OldestStamps
from celery_vitals.brokers.redis.priorities import OtherSteps
from celery_vitals.brokers.redis.scripts import (
    BYTES,
    UNACKED_BY_QUEUE,
    UNACKED_LIMIT,
    ServerScript,
    refusal,
)
from celery_vitals.deadline import Deadline
from celery_vitals.metrics.base import label_text

log = logging.getLogger(__name__)

_APART = "What workers hold is not told apart by queue: {}."
_NOT_KEPT = "What workers hold is not seen: with ack_emulation off nothing in Redis tells of it."
_TOO_MUCH = "it is too much, or has come over an exchange that does not tell its queue"


class RedisQueueReader:
    """See `Gauge`.  Key names are made as the application's own kombu makes them, from the same transport options."""

    def __init__(
        self, connection: BrokerConnection, known: QueueRegistry, control_exchange: str
    ) -> None:
        channel = connection.channel
        self._redis = connection.redis()
        self._known = known
        self._prefix: str = channel.global_keyprefix or ""
        self._sep: str = channel.sep
        self._steps: Sequence[int] = channel.priority_steps
        self._unacked = self._prefix + channel.unacked_key
        self._keeps_unacked: bool = channel.ack_emulation
        self._index = self._prefix + channel.unacked_index_key
        # The exporter's own mailbox needs no binding: all that are bound are other people's.
        self._replies = self._prefix + channel.keyprefix_queue % f"reply.{control_exchange}.pidbox"
        self._unacked_by_queue = ServerScript(self._redis, UNACKED_BY_QUEUE)
        self._oldest = OldestStamps(self._redis)
        self._discovery = Discovery(
            self._redis, self._prefix + channel.keyprefix_queue % "", self._sep, known
        )
        self._other_steps = OtherSteps(self._steps, self._key)
        self._told: set[str] = set()

    def measure(self, consumed: Collection[str], deadline: Deadline) -> QueueSnapshot:
        """All lengths in one pipeline, after a look for queues that nobody has named."""
        blind = [*self._discovery.go_on(deadline)]
        names = sorted(self._known.names() | set(consumed))
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            for step in self._steps:
                pipe.llen(self._key(name, step))
        chosen = self._other_steps.ask(pipe, names)
        pipe.hlen(self._unacked)
        pipe.zrange(self._index, 0, 0, withscores=True)
        pipe.scard(self._replies)
        answers = pipe.execute(raise_on_error=False)
        _raise_if_all_failed(answers)
        *rest, unacked, oldest, replies = answers
        lengths, others = rest[: len(rest) - len(chosen)], rest[len(rest) - len(chosen) :]
        blind += self._other_steps.take(chosen, others)
        blind += _not_permitted(lengths, others, (unacked, oldest), replies)
        total = unacked if isinstance(unacked, int) and self._keeps_unacked else None
        held = self._held(total) if total is not None else None
        if total is not None and held is None:
            blind.append(
                (
                    "queue_unacked_messages",
                    _APART.format(self._unacked_by_queue.refused or _TOO_MUCH),
                    "",
                )
            )
        if not self._keeps_unacked:
            blind.append(("queue_unacked_messages", _NOT_KEPT, ""))
        self._log(blind)
        return QueueSnapshot(
            queues=self._with_stamps(dict(self._depths(names, lengths, held))),
            unacked=total,
            oldest_unacked_at=oldest[0][1] if isinstance(oldest, list) and oldest else None,
            orphaned_replies=replies if isinstance(replies, int) else None,
            blind=tuple(blind),
        )

    def close(self) -> None:
        """Nothing was set up."""

    def _key(self, queue: str, step: int) -> str:
        return f"{self._prefix}{queue}{self._sep}{step}" if step else f"{self._prefix}{queue}"

    def _depths(
        self, names: Sequence[str], lengths: Sequence[Any], held: Counter[str] | None
    ) -> Iterator[tuple[str, QueueStats]]:
        """The queues that could be read: a key that is no list, or is not for this user, costs its own queue only."""
        width = len(self._steps)
        for position, name in enumerate(names):
            steps = lengths[position * width : (position + 1) * width]
            error = next((step for step in steps if isinstance(step, Exception)), None)
            if error is None:
                self._told.discard(name)
                yield (
                    name,
                    QueueStats(
                        ready=sum(steps),
                        unacked=held[name] if held is not None else None,
                        kind="list",
                        by_priority=dict(zip(self._steps, steps, strict=True)),
                    ),
                )
            elif "may not run" not in refusal(
                error
            ):  # which is true of all queues, and told by the blind spot
                self._tell(name, f"queue {name} cannot be read: {error}")

    def _with_stamps(self, depths: dict[str, QueueStats]) -> dict[str, QueueStats]:
        waiting = {
            name: [self._key(name, step) for step, length in depth.by_priority.items() if length]
            for name, depth in depths.items()
        }
        return depths | {
            name: replace(depths[name], oldest_at=at)
            for name, at in self._oldest.of(waiting).items()
        }

    def _held(self, total: int) -> Counter[str] | None:
        """Unacknowledged messages by queue; None when they are too many, cannot be told apart, or scripts are off."""
        if total == 0:
            return Counter()
        if total > UNACKED_LIMIT:
            return None
        flat = self._unacked_by_queue.run([self._unacked, self._index], [UNACKED_LIMIT, BYTES])
        if flat is None:
            return None
        try:
            pairs = [_unquoted(name) for name in flat[::2]]
        except ValueError:  # nothing that kombu has written
            return None
        routes = self._discovery.routes({exchange for exchange, _ in pairs if exchange})
        counts: Counter[str] = Counter()
        for (exchange, key), count in zip(pairs, flat[1::2], strict=True):
            queue = routes.get((exchange, key)) if exchange else key
            if queue is None:
                return None
            counts[queue] += count
        return counts

    def _log(self, blind: Sequence[Blind]) -> None:
        for _, text, _ in blind:
            if "may not" in text:
                self._tell(text, text)

    def _tell(self, what: str, line: str) -> None:
        """Log it, once."""
        if what not in self._told:
            self._told.add(what)
            log.warning("%s", line)


def _unquoted(name: bytes) -> tuple[str, str]:
    """Exchange and routing key, which the script gives as they stand in JSON."""
    exchange, key = (label_text(json.loads(b'"%s"' % part)) for part in name.split(b"\n"))
    return exchange, key


def _raise_if_all_failed(answers: list[Any]) -> None:
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if len(errors) == len(answers):
        raise errors[0]


def _not_permitted(
    lengths: Sequence[Any], others: Sequence[Any], held: Sequence[Any], replies: Any
) -> Iterator[Blind]:
    """What this user may not look at."""
    for subject, text, answers in (
        ("queue_length", "The lengths of some queues are not seen: {}.", lengths),
        ("queue_priorities", "Whether messages wait at other priorities is not seen: {}.", others),
        ("queue_unacked_messages", "What workers hold, and for how long, is not seen: {}.", held),
        (
            "orphaned_reply_queues",
            "Reply queues that were left behind are not seen: {}.",
            [replies],
        ),
    ):
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        refused = next(filter(None, map(refusal, errors)), None)
        if refused is not None:
            yield subject, text.format(refused), ""
