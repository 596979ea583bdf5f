"""Amazon SQS as a kind of broker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from celery_vitals.brokers.base import QueueReaderOptions, QueueReaders
from celery_vitals.brokers.capabilities import Capabilities, observed, unobserved
from celery_vitals.brokers.connection import BrokerConnection, ConnectRequest
from celery_vitals.brokers.generic.kind import GenericKind
from celery_vitals.brokers.sqs.queues import SqsQueueReader
from celery_vitals.brokers.transport_options import OPTION
from celery_vitals.errors import ConfigError
from celery_vitals.third_party import kombu_sqs

_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_OPTION_NAMES = frozenset(
    {
        "client-config",
        "endpoint_url",
        "fetch_message_attributes",
        "is_secure",
        "port",
        "predefined_exchanges",
        "predefined_queues",
        "queue_name_prefix",
        "queue_tags",
        "region",
        "regioninfo",
        "sqs-creation-attributes",
        "sqs_base64_encoding",
        "sts_role_arn",
        "sts_token_buffer_time",
        "sts_token_timeout",
        "supports_fanout",
        "visibility_timeout",
        "wait_time_seconds",
    }
)
_CREATES = unobserved("a broadcast would create topics and queues in the account")


class SqsConnection(BrokerConnection):
    """Closes the clients of boto3, which kombu leaves to the garbage collector."""

    def round_trip(self) -> None:
        """Send a request that changes nothing and that reading lengths needs as well."""
        for name, queue in self.channel.predefined_queues.items():
            self.channel.sqs(name).get_queue_attributes(
                QueueUrl=queue["url"], AttributeNames=["QueueArn"]
            )
            return
        self.channel.sqs().list_queues(QueueNamePrefix=self.channel.queue_name_prefix, MaxResults=1)

    def close(self) -> None:
        """Close the clients as well."""
        self._close_clients()
        super().close()

    def abandon(self) -> None:
        """Close the clients as well."""
        self._close_clients()
        super().abandon()

    def _close_clients(self) -> None:
        for client in kombu_sqs.sqs_clients(self.channel):
            client.close()


class SqsKind(GenericKind):
    """Amazon SQS."""

    capabilities = Capabilities(
        "Amazon SQS",
        ("sqs",),
        up=observed("ListQueues for one name, or GetQueueAttributes of a predefined queue"),
        writable=unobserved("no request proves it without sending a message"),
        length=observed(
            "GetQueueAttributes, without delayed messages; Amazon calls its numbers approximate"
        ),
        unacked=observed("GetQueueAttributes: messages not visible"),
        workers=_CREATES,
        events=_CREATES,
        tested=True,
    )
    driver_type = "sqs"
    aliases = {"SQS": "sqs"}  # noqa: RUF012 - typed in the base class
    connection_class = SqsConnection
    package = "boto3"
    install = "celery-vitals[sqs]"

    def option_names(self) -> frozenset[str]:
        """Return the options in kombu's documentation and source."""
        return _OPTION_NAMES

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Check what boto3 would only refuse at the first request."""
        region = options.get("region")
        if region is not None and not (isinstance(region, str) and _REGION.fullmatch(region)):
            raise ConfigError(f"{OPTION}: region {region!r} is not the name of an AWS region")
        predefined = options.get("predefined_queues")
        if predefined and not (
            isinstance(predefined, Mapping)
            and all(
                isinstance(queue, Mapping) and isinstance(queue.get("url"), str)
                for queue in predefined.values()
            )
        ):
            raise ConfigError(
                f'{OPTION}: predefined_queues must be {{"NAME": {{"url": "https://..."}}, ...}}'
            )

    def connection_options(self, request: ConnectRequest) -> dict[str, Any]:
        """Bound each request, without retries."""
        bounds = {
            "connect_timeout": request.connect_timeout,
            "read_timeout": request.io_timeout,
            "retries": {"total_max_attempts": 1},
        }
        return {"client-config": {**(request.options.get("client-config") or {}), **bounds}}

    def queue_readers(self, options: QueueReaderOptions) -> QueueReaders[BrokerConnection]:
        """Read the attributes of each queue."""
        return SqsQueueReader
