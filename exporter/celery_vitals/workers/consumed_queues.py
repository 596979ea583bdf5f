"""The queues that a worker consumes, from its reply to `active_queues`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery_vitals.metrics.base import label_text
from celery_vitals.queue_names import broadcast_name


def consumed_queues(body: Iterable[Any]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the queues, those of a Broadcast by its exchange, and which these are."""
    names: set[str] = set()
    broadcasts: set[str] = set()
    for queue in body:
        if not isinstance(queue, dict) or not queue.get("name"):
            continue
        name = label_text(queue["name"])
        exchange = _fanout_exchange(queue.get("exchange"))
        broadcast = broadcast_name(name, exchange, {exchange} - {""})
        names.add(broadcast or name)
        if broadcast:
            broadcasts.add(broadcast)
    return frozenset(names), frozenset(broadcasts)


def _fanout_exchange(exchange: Any) -> str:
    if not isinstance(exchange, dict) or exchange.get("type") != "fanout":
        return ""
    return label_text(exchange.get("name") or "")
