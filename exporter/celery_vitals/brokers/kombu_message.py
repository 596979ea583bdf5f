"""Messages as kombu's virtual transports store them: a JSON envelope around the body."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from celery_vitals.brokers.serialization import JSON, MAX_MESSAGE, UTF8, RejectedMessage, to_json

_MAX_CLOCK_SKEW = 86400.0
"""Seconds by which a producer's clock may be ahead."""


class _Envelope(msgspec.Struct, gc=False):
    """The usual envelope.  `bytes` is decoded from base64, which JSON in braces never is."""

    body: bytes
    content_type: Literal["application/json"] = msgspec.field(name="content-type")
    content_encoding: Literal["utf-8"] = msgspec.field(name="content-encoding")


_decode = msgspec.json.Decoder(_Envelope).decode


@dataclass(frozen=True)
class Message:
    """A message of any content type."""

    body: bytes | str
    content_type: str | None
    content_encoding: str | None
    headers: Any


def write(
    body: bytes,
    exchange: str,
    routing_key: str = "",
    headers: Mapping[str, Any] | None = None,
    content_type: str = JSON,
    encoding: str = "utf-8",
) -> bytes:
    """Return a transient message."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": encoding,
            "content-type": content_type,
            "headers": headers or {},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": exchange, "routing_key": routing_key},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()


def read(data: bytes) -> Message:
    """Take a message apart.  Raises what decoding raises: ValueError, KeyError, TypeError, ..."""
    message = json.loads(data)
    body = message["body"]
    if not isinstance(body, str):
        raise TypeError("the body is not a string")
    packed = message["properties"].get("body_encoding") == "base64"
    return Message(
        base64.b64decode(body) if packed else body,
        message.get("content-type"),
        message.get("content-encoding", "utf-8"),
        message.get("headers"),
    )


def read_json_body(data: bytes) -> bytes:
    """Return the body of a message as JSON, undecoded if it is JSON.  Raises RejectedMessage."""
    if len(data) > MAX_MESSAGE:
        raise RejectedMessage("too_large")
    try:
        return _decode(data).body
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_unusual_json_body(data)


def _read_unusual_json_body(data: bytes) -> bytes:
    try:
        message = read(data)
        if message.content_type != JSON or message.content_encoding not in UTF8:
            return to_json(message.body, message.content_type, message.content_encoding)
        return message.body.encode() if isinstance(message.body, str) else message.body
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RejectedMessage("envelope") from None


def producer_timestamp(value: float | str | None) -> float | None:
    """Return a producer's timestamp as Unix time; None for milliseconds, the future, no number."""
    try:
        at = float(value) if value is not None else 0.0
    except ValueError:
        return None
    return at if 0 < at < time.time() + _MAX_CLOCK_SKEW else None
