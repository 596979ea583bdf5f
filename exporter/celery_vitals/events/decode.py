"""Decode event messages: only the fields in use, without creating objects for the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Annotated, Any

import msgspec

_Short = Annotated[str, msgspec.Meta(max_length=255)]
"""Text that is kept for each task or worker; no real id or name is longer."""
_HOUR = 3600.0


class Event(msgspec.Struct, gc=False):
    """One event of a worker or a producer, as sent by Celery 5.2 to 5.7, in the sender's time."""

    type: str
    hostname: _Short
    uuid: _Short = ""
    timestamp: float = 0.0
    name: str | None = None
    queue: str | None = None
    exchange: str | None = None
    runtime: float | None = None
    exception: str | None = None
    traceback: str | None = None
    eta: str | None = None
    retries: int | None = 0
    args: Any = None
    kwargs: Any = None
    terminated: bool | None = None
    expired: bool | None = None
    requeue: bool | None = None
    pid: int | None = None
    utcoffset: float | None = 0.0
    """Hours west of UTC, of the sender's local time."""
    active: int | None = None
    processed: int | None = None
    sw_ver: _Short | None = None


_decode_one = msgspec.json.Decoder(Event).decode
_decode_many = msgspec.json.Decoder(list[Event]).decode


BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Exceptions raised by `decode`."""


def decode(body: bytes) -> list[Event]:
    """Return the events of one message, which is one event or a list of them.

    Raises one of BROKEN when any part is malformed.
    """
    return _decode_many(body) if body[:1] == b"[" else [_decode_one(body)]


def decode_each(body: bytes) -> Iterator[Event | str]:
    """Decode a message of which a part is malformed: yield each event, or the reason to reject it.

    Uses Python's own JSON parser, as kombu does: it accepts lone surrogates and NaN, which the
    parser of msgspec does not.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        yield "not_json"
        return
    for part in content if isinstance(content, list) else [content]:
        try:
            yield msgspec.convert(part, Event)
        except (msgspec.ValidationError, ValueError, OverflowError):
            yield "malformed"


def parse_eta(eta: str | None, utcoffset: float | None, correction: float) -> float:
    """Return the ETA of a task in Unix seconds by the exporter's clock; 0 for invalid text.

    An ETA without a time zone (`enable_utc` off) is in the sender's local time, `utcoffset` hours
    west of UTC.  `correction` is added to convert from the sender's clock.
    """
    try:
        due = datetime.fromisoformat((eta or "").replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    if due.tzinfo is None:
        return (
            due.replace(tzinfo=timezone.utc).timestamp() + (utcoffset or 0.0) * _HOUR + correction
        )
    return due.timestamp() + correction
