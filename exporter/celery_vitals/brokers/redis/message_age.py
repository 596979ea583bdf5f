"""When the oldest waiting messages were sent, on Redis: as their producers have stamped them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from celery_vitals.brokers.queue_readers import stamp
from celery_vitals.brokers.redis.scripts import BYTES, MESSAGE_BYTES, OLDEST_STAMPS, ServerScript

_LEFT_ALONE = 60.0
"""Seconds for which a list is not looked at whose next message is too large to be looked into."""


class OldestStamps:
    """Reads the stamps of the messages that come next; where one has none, its queue's oldest is not known."""

    def __init__(self, client: Any) -> None:
        self._script = ServerScript(client, OLDEST_STAMPS)
        self._large: dict[str, float] = {}

    def of(self, waiting: Mapping[str, list[str]]) -> dict[str, float]:
        """Unix times by queue; `waiting` names the lists of each queue in which anything waits."""
        now = time.monotonic()
        self._large = {key: until for key, until in self._large.items() if until > now}
        queues = {
            name: keys
            for name, keys in waiting.items()
            if keys and not self._large.keys() & set(keys)
        }
        keys = [key for keys in queues.values() for key in keys]
        told = self._script.run(keys, [BYTES, MESSAGE_BYTES]) if keys else None
        answers = dict(zip(keys, told or [], strict=False))
        self._large |= {
            key: now + _LEFT_ALONE for key, answer in answers.items() if answer == b"large"
        }
        found = {
            name: [stamp(_text(answers.get(key))) for key in keys] for name, keys in queues.items()
        }
        return {name: min(times) for name, stamps in found.items() if (times := _complete(stamps))}


def _text(answer: bytes | None) -> str | None:
    return answer.decode() if answer else None


def _complete(stamps: list[float | None]) -> list[float]:
    """All of them, or none when one is missing."""
    known = [at for at in stamps if at is not None]
    return known if len(known) == len(stamps) else []
