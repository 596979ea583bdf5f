"""Messages that workers on Redis hold and have not acknowledged: one hash for all queues."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.redis.discovery import Discovery
from celery_vitals.brokers.redis.key_layout import KeyLayout
from celery_vitals.brokers.redis.permissions import PermissionBlindSpot, Refusal
from celery_vitals.brokers.redis.scripts import (
    BYTES,
    UNACKED_BY_QUEUE,
    UNACKED_LIMIT,
    ScriptProblem,
    ServerScript,
)
from celery_vitals.metrics.base import label_text

_SUBJECT = "queue_unacked_messages"
_NOT_BY_QUEUE = "Unacknowledged messages are not counted by queue: {}."
_UNDECIDED = "there are too many, or some came over an exchange that does not determine their queue"
_NOT_KEPT = BlindSpot(
    _SUBJECT, "Unacknowledged messages are not counted: with ack_emulation off Redis keeps none."
)
_AMBIGUOUS = BlindSpot(
    _SUBJECT,
    "Unacknowledged messages are not counted: workers report different unacked_key,"
    " unacked_index_key or ack_emulation.",
)


@dataclass(frozen=True)
class Unacked:
    """The messages that workers hold, as far as they are counted."""

    total: int | None = None
    by_queue: Counter[str] | None = None
    oldest_at: float | None = None
    """Unix time at which a worker received the oldest of them."""
    blind_spots: tuple[BlindSpot, ...] = ()


class UnackedMessages:
    """Requests the total and the oldest message, and counts by queue with a script."""

    def __init__(self, client: Any, layout: KeyLayout, discovery: Discovery) -> None:
        self.layout = layout
        self._redis = client
        self._discovery = discovery
        self._script = ServerScript(client, UNACKED_BY_QUEUE)

    def request(self, pipe: Any) -> None:
        """Add two requests to a pipeline."""
        keys = self.layout.unacked or self.layout.own
        pipe.hlen(keys.unacked)
        pipe.zrange(keys.unacked_index, 0, 0, withscores=True)

    def take(self, total: Any, oldest: Any) -> Unacked:
        """Count the messages, given the answers to the requests or the errors in their place."""
        keys = self.layout.unacked
        if keys is None:
            return Unacked(blind_spots=(_AMBIGUOUS,))
        oldest_at = oldest[0][1] if isinstance(oldest, list) and oldest else None
        if not keys.acknowledges:
            return Unacked(oldest_at=oldest_at, blind_spots=(_NOT_KEPT,))
        if not isinstance(total, int):
            return Unacked(oldest_at=oldest_at)
        by_queue = self._by_queue(total, [keys.unacked, keys.unacked_index])
        blind_spots = () if by_queue is not None else (_not_by_queue(self._script.problem),)
        return Unacked(total, by_queue, oldest_at, blind_spots)

    def _by_queue(self, total: int, keys: Sequence[str]) -> Counter[str] | None:
        """Count unacknowledged messages by queue; None when that cannot be decided."""
        if total == 0:
            return Counter()
        if total > UNACKED_LIMIT:
            return None
        flat = self._script.run(keys, [UNACKED_LIMIT, BYTES])
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


def _unquoted(name: bytes) -> tuple[str, str]:
    """Return exchange and routing key, which the script returns as they stand in JSON."""
    exchange, key = (label_text(json.loads(b'"%s"' % part)) for part in name.split(b"\n"))
    return exchange, key


def _not_by_queue(problem: Refusal | ScriptProblem | None) -> BlindSpot:
    if isinstance(problem, Refusal):
        return PermissionBlindSpot(_SUBJECT, _NOT_BY_QUEUE.format(problem.clause))
    return BlindSpot(_SUBJECT, _NOT_BY_QUEUE.format(problem.value if problem else _UNDECIDED))
