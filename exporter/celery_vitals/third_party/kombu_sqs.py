"""kombu's Amazon SQS transport: its clients and its cache of URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def sqs_clients(channel: Any) -> Iterator[Any]:
    """Iterate over the clients of boto3 that a channel has opened.

    kombu `SQS.Channel._sqs`, `_predefined_queue_clients`: kombu never closes them.
    """
    if channel._sqs is not None:
        yield channel._sqs
    if channel.connection is not None:  # a closed channel cannot name its clients
        yield from channel._predefined_queue_clients.values()


def list_sqs_queues(channel: Any, prefix: str) -> list[str]:
    """List the queues whose names begin with `prefix`.

    kombu `SQS.Channel._update_queue_cache`, `_queue_cache`: fills the cache of URLs as well.
    """
    channel._update_queue_cache(prefix)
    return list(channel._queue_cache)


def sqs_queue_url(channel: Any, name: str) -> str | None:
    """Return the URL of a queue by its name on SQS; None when it does not exist.

    kombu `SQS.Channel._update_queue_cache`, `_queue_cache`: the public ways create a missing queue,
    and `_resolve_queue_url` exists since kombu 5.5 only.
    """
    if name not in channel._queue_cache:
        channel._update_queue_cache(name)
    url = channel._queue_cache.get(name)
    return str(url) if url is not None else None


def forget_sqs_queue(channel: Any, name: str) -> None:
    """Forget the URL of a queue that has been deleted: kombu `SQS.Channel._queue_cache`."""
    channel._queue_cache.pop(name, None)
