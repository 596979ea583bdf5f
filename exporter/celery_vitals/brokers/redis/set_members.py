"""Reads sets of bindings on Redis, which other programs fill."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis.exceptions

from celery_vitals.brokers.redis.connection import ReplyTooLargeError


class SetMembers:
    """Reads sets together where their size allows it; one that is too large only once."""

    def __init__(self, client: Any) -> None:
        self._redis = client
        self._too_large: set[str] = set()

    def read(self, keys: Sequence[str]) -> list[Any]:
        """Return the members of each set, or the error in their place."""
        if self._too_large.isdisjoint(keys):
            pipe = self._redis.pipeline(transaction=False)
            for key in keys:
                pipe.smembers(key)
            with suppress(ReplyTooLargeError):
                return list(pipe.execute(raise_on_error=False))
        return [self._read_one(key) for key in keys]

    def _read_one(self, key: str) -> Any:
        if key in self._too_large:
            return ReplyTooLargeError()
        try:
            return self._redis.smembers(key)
        except redis.exceptions.ResponseError as error:
            return error
        except ReplyTooLargeError as error:
            self._too_large.add(key)
            return error
