"""Amazon SQS: its clients are boto's, which need bounds of their own, and are closed by nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from celery_vitals.errors import ConfigError

_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def bounded_sqs(
    options: Mapping[str, Any], connect_timeout: float, io_timeout: float
) -> dict[str, Any]:
    """Transport options under which a request ends in time (seconds) and is made once."""
    bounds = {
        "connect_timeout": connect_timeout,
        "read_timeout": io_timeout,
        "retries": {"total_max_attempts": 1},
    }
    return {"client-config": {**(options.get("client-config") or {}), **bounds}}


def check_sqs(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for options that boto would only refuse at the first request."""
    region = options.get("region")
    if region is not None and not (isinstance(region, str) and _REGION.fullmatch(region)):
        raise ConfigError(
            f"--broker-transport-option: region {region!r} is no name of a region of AWS"
        )
    predefined = options.get("predefined_queues")
    if predefined and not (
        isinstance(predefined, Mapping)
        and all(
            isinstance(queue, Mapping) and isinstance(queue.get("url"), str)
            for queue in predefined.values()
        )
    ):
        raise ConfigError(
            '--broker-transport-option: predefined_queues must be {"NAME": {"url": "https://..."}, ...}'
        )


def round_trip(channel: Any) -> None:
    """Ask SQS for something that changes nothing and that whoever reads lengths may ask."""
    for name, queue in channel.predefined_queues.items():
        channel.sqs(name).get_queue_attributes(QueueUrl=queue["url"], AttributeNames=["QueueArn"])
        return
    channel.sqs().list_queues(QueueNamePrefix=channel.queue_name_prefix, MaxResults=1)


def close_clients(channel: Any) -> None:
    """Close the connections of a channel's clients, which kombu leaves to the garbage collector."""
    for client in _clients(channel):
        client.close()


def _clients(channel: Any) -> Iterator[Any]:
    if channel._sqs is not None:
        yield channel._sqs
    if channel.connection is not None:
        yield from channel._predefined_queue_clients.values()
